import type { ApiError, ErrorCode } from "../api/apiError";

export interface ErrorCopy {
  title: string;
  text: string;
}

const UNEXPECTED: ErrorCopy = {
  title: "Something went wrong on our side",
  text: "Try again. If it happens again, contact support.",
};

// All other codes get `UNEXPECTED`.
const COPY: Partial<Record<ErrorCode, ErrorCopy>> = {
  unreachable: {
    title: "Billing cannot be reached",
    text: "Check your internet connection, then try again.",
  },
  invalid_response: {
    title: "Billing sent an unexpected response",
    text: "Your network may require you to sign in first. If not, contact support.",
  },
  not_authenticated: {
    title: "You are signed out",
    text: "Sign in again, then return to this page.",
  },
  not_allowed: {
    title: "You do not have access to billing",
    text: "Ask an administrator of your organization for access.",
  },
  already_subscribed: {
    title: "You already have a subscription",
    text: "It may have been bought in another tab or by a colleague. Use Manage subscription to change it. If there is no such button, contact support.",
  },
  no_customer: {
    title: "There is nothing to manage yet",
    text: "Choose Upgrade to start a subscription.",
  },
  no_subscription: {
    title: "There is no subscription to change",
    text: "It may have ended. Choose Upgrade to start a new one.",
  },
  throttled: {
    title: "Too many requests",
    text: "Wait a moment before you try again.",
  },
  stripe_unavailable: {
    title: "Our payment provider is not responding",
    text: "Try again in a minute.",
  },
  stripe_rejected: {
    title: "Our payment provider rejected the request",
    text: "Trying again will not help. Contact support.",
  },
  billing_not_configured: {
    title: "Billing is not set up yet",
    text: "Contact support.",
  },
  unavailable: {
    title: "Billing is temporarily unavailable",
    text: "It should be back in a moment.",
  },
};

/** Errors after which a user who was about to pay may fear a charge. */
const CHARGE_CONCERNS: ErrorCode[] = [
  "unreachable",
  "stripe_unavailable",
  "stripe_rejected",
  "unavailable",
  "internal",
];

/** Says that the attempt charged nothing only after a click: a user who returns from the checkout may have paid. */
export function errorCopy({ code }: ApiError, { isAfterClick }: { isAfterClick: boolean }): ErrorCopy {
  const { title, text } = COPY[code] ?? UNEXPECTED;
  return { title, text: isAfterClick && CHARGE_CONCERNS.includes(code) ? `${text} This attempt charged nothing.` : text };
}
