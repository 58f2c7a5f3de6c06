import type { Subscription } from "../api/generated";
import { type DisplayStatus, displayStatusOf } from "./displayStatus";

/** The colour of a badge or notice. */
export type Tone = "good" | "neutral" | "warning" | "bad";

/** A detail of the plan: a timestamp of the service, or a text. */
export type Detail = { term: string; date: string } | { term: string; text: string };

/** The texts for a subscription. */
export interface PlanCopy {
  name: string;
  badge: { text: string; tone: Tone };
  sentence: string;
  details: Detail[];
  /** An action that the user must take. */
  notice?: { title: string; text: string };
  /** The label of the button to fix a failed payment. */
  paymentAction?: string;
  /** Whether there is no subscription, so that the user can buy a plan. */
  canUpgrade: boolean;
}

export function planCopy(subscription: Subscription): PlanCopy {
  const displayStatus = displayStatusOf(subscription);
  const name = nameOf(subscription, displayStatus);
  return {
    name,
    details: detailsOf(subscription, displayStatus),
    canUpgrade: displayStatus === "free" || displayStatus === "ended",
    ...COPY[displayStatus](subscription, name),
  };
}

/** The texts after a checkout, until the plan is active. */
export function activatingCopy(subscription: Subscription): PlanCopy {
  return {
    name: nameOf(subscription, displayStatusOf(subscription)),
    badge: { text: "Activating", tone: "neutral" },
    sentence: "Your new plan will appear here automatically.",
    details: [],
    canUpgrade: false,
  };
}

type StatusCopy = Pick<PlanCopy, "badge" | "sentence"> & Partial<Pick<PlanCopy, "notice" | "paymentAction">>;

const COPY: Record<DisplayStatus, (subscription: Subscription, name: string) => StatusCopy> = {
  free: () => ({
    badge: { text: "Current plan", tone: "neutral" },
    sentence: "You are on the free plan. Upgrade whenever you need more.",
  }),
  trialing: (_, name) => ({
    badge: { text: "Trial", tone: "good" },
    sentence: `You can use all features of ${name} until the trial ends.`,
  }),
  active: () => ({
    badge: { text: "Active", tone: "good" },
    sentence: "Your plan renews automatically.",
  }),
  ending: (subscription, name) => ({
    badge: { text: "Canceled", tone: "warning" },
    sentence: `You can use ${name} until it ends.${renewsBeforeEnd(subscription) ? "" : " It does not renew."} Choose Manage subscription to resume it.`,
  }),
  past_due: ({ access }, name) => ({
    badge: { text: "Payment failed", tone: "bad" },
    sentence: access
      ? `You can still use ${name} while we retry the payment.`
      : "Your plan is on hold until the payment succeeds.",
    notice: {
      title: "Your last payment failed",
      text: access
        ? `Update your payment method to keep ${name}.`
        : "Update your payment method. Your plan is active again as soon as the payment succeeds.",
    },
    paymentAction: "Update payment method",
  }),
  unpaid: () => ({
    badge: { text: "On hold", tone: "bad" },
    sentence: "Your plan is on hold until the open invoice is paid.",
    notice: {
      title: "Your payments failed",
      text: "Pay the open invoice. You can use another card. Your plan is active again as soon as it is paid.",
    },
    paymentAction: "Pay open invoice",
  }),
  incomplete: () => ({
    badge: { text: "Not paid yet", tone: "warning" },
    sentence: "Your plan starts as soon as the first payment succeeds.",
    notice: {
      title: "Your first payment is incomplete",
      text: "Your bank may require a confirmation, or your card was declined. Choose Manage subscription to complete the payment.",
    },
  }),
  paused: () => ({
    badge: { text: "Paused", tone: "warning" },
    sentence: "Your plan is not available, and nothing is charged.",
    notice: {
      title: "Your subscription is paused",
      text: "To resume it, choose Manage subscription and add a payment method.",
    },
  }),
  awaiting_payment: () => ({
    badge: { text: "Waiting for payment", tone: "warning" },
    sentence:
      "Thank you. Your payment is being processed. A bank debit can take several days. Your plan starts automatically when the payment arrives.",
  }),
  ended: () => ({
    badge: { text: "Ended", tone: "neutral" },
    sentence: "Your subscription has ended. You are now on the free plan. Upgrade to start again.",
  }),
  unknown: ({ status }) => ({
    badge: { text: capitalized(status ?? ""), tone: "warning" },
    sentence: "Choose Manage subscription to see what to do next.",
  }),
};

function nameOf(subscription: Subscription, displayStatus: DisplayStatus): string {
  if (displayStatus === "free" || displayStatus === "ended") return "Free";
  return grantedPlan(subscription) ?? (subscription.access ? "Subscription" : "No active plan");
}

/** The plan that the subscription grants, or `undefined` without access or for a price that is not configured. */
export function grantedPlan({ plan, access }: Subscription): string | undefined {
  return access && plan !== "free" ? capitalized(plan) : undefined;
}

function detailsOf(subscription: Subscription, displayStatus: DisplayStatus): Detail[] {
  const { current_period_end, trial_end, cancel_at, quantity } = subscription;
  const details: Detail[] = [];
  const addDate = (term: string, date: string | null) => {
    if (date !== null) details.push({ term, date });
  };
  if (displayStatus === "trialing") addDate("Trial ends on", trial_end ?? current_period_end);
  if (displayStatus === "active" || (displayStatus === "ending" && renewsBeforeEnd(subscription)))
    addDate("Renews on", current_period_end);
  if (subscription.scheduled_cancel && displayStatus !== "ended") addDate("Ends on", cancel_at ?? current_period_end);
  if (quantity !== null && quantity > 1 && displayStatus !== "ended")
    details.push({ term: "Quantity", text: String(quantity) });
  return details;
}

/** Whether the subscription ends after the current period. */
function renewsBeforeEnd({ cancel_at, current_period_end }: Subscription): boolean {
  return cancel_at !== null && current_period_end !== null && Date.parse(cancel_at) > Date.parse(current_period_end);
}

/** Turns `team_yearly` into `Team yearly`. */
function capitalized(word: string): string {
  const spaced = word.replaceAll(/[_-]+/g, " ").trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
