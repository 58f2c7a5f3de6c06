import type { Trouble, TroubleCode } from "../api/trouble";

/** What is wrong, and what to do about it. */
export interface TroubleWords {
  title: string;
  text: string;
}

const UNEXPECTED: TroubleWords = {
  title: "Something went wrong on our side",
  text: "Try again. If it happens again, please contact support.",
};

// What is not here cannot happen to somebody who uses the page as it is.
const WORDS: Partial<Record<TroubleCode, TroubleWords>> = {
  unreachable: {
    title: "Billing cannot be reached",
    text: "Check your connection to the internet, then try again.",
  },
  unintelligible: {
    title: "The answer makes no sense",
    text: "Your network may want you to sign in first. If it does not, please contact support.",
  },
  not_authenticated: {
    title: "You are signed out",
    text: "Sign in again, then come back to this page.",
  },
  not_allowed: {
    title: "You may not see billing",
    text: "Ask an administrator of your organization to do this, or to let you.",
  },
  already_subscribed: {
    title: "You have a subscription already",
    text: "It may have been bought in another tab or by a colleague. Use Manage subscription to change it.",
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
    title: "That was a little too often",
    text: "Please wait a moment before the next try.",
  },
  stripe_unavailable: {
    title: "Our payment provider does not answer",
    text: "Try again in a minute.",
  },
  stripe_rejected: {
    title: "Our payment provider refused",
    text: "Trying again will not help: please contact support.",
  },
  billing_not_configured: {
    title: "Billing is not set up yet",
    text: "Please contact support.",
  },
  unavailable: {
    title: "Billing is not available right now",
    text: "It should be back in a moment.",
  },
};

/** Troubles after which somebody who was about to pay wonders. */
const WORRYING: TroubleCode[] = ["unreachable", "stripe_unavailable", "stripe_rejected", "unavailable", "internal"];

/** Says it. That nothing was charged is true of a click here, but not of whoever is back from paying. */
export function troubleWords({ code }: Trouble, { isOfClick }: { isOfClick: boolean }): TroubleWords {
  const { title, text } = WORDS[code] ?? UNEXPECTED;
  return { title, text: isOfClick && WORRYING.includes(code) ? `${text} Nothing was charged.` : text };
}
