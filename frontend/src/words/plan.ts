import type { Subscription } from "../api/generated";
import { type Standing, standingOf } from "./standing";

/** What a badge or a notice says before it is read. */
export type Tone = "good" | "neutral" | "warning" | "bad";

/** One line of what is known: a date as the service tells it, or a text. */
export type Fact = { term: string; date: string } | { term: string; text: string };

/** A subscription in words that its owner understands. */
export interface PlanWords {
  /** The plan's name. */
  name: string;
  badge: { text: string; tone: Tone };
  sentence: string;
  facts: Fact[];
  /** What has to be done, where something has. */
  notice?: { title: string; text: string };
  /** The button that leads to where a failed payment is fixed, where one failed. */
  paymentAction?: string;
  /** Whether nothing is subscribed to, so that a plan can be bought. */
  canUpgrade: boolean;
}

/** Says it. */
export function planWords(subscription: Subscription): PlanWords {
  const standing = standingOf(subscription);
  const name = nameOf(subscription, standing);
  return {
    name,
    facts: factsOf(subscription, standing),
    canUpgrade: standing === "free" || standing === "ended",
    ...WORDS[standing](subscription, name),
  };
}

/** The same while a plan that has been bought is not there yet. */
export function activatingWords(subscription: Subscription): PlanWords {
  return {
    name: nameOf(subscription, standingOf(subscription)),
    badge: { text: "Activating", tone: "neutral" },
    sentence: "Your new plan appears here by itself.",
    facts: [],
    canUpgrade: false,
  };
}

type StandingWords = Pick<PlanWords, "badge" | "sentence"> & Partial<Pick<PlanWords, "notice" | "paymentAction">>;

const WORDS: Record<Standing, (subscription: Subscription, name: string) => StandingWords> = {
  free: () => ({
    badge: { text: "Current plan", tone: "neutral" },
    sentence: "You are on the free plan. Upgrade whenever you need more.",
  }),
  trialing: (_, name) => ({
    badge: { text: "Trial", tone: "good" },
    sentence: `You are trying out ${name}, with everything that is in it, until the trial ends.`,
  }),
  active: () => ({
    badge: { text: "Active", tone: "good" },
    sentence: "Everything is in order. Your plan renews by itself.",
  }),
  ending: (subscription, name) => ({
    badge: { text: "Canceled", tone: "warning" },
    sentence: `${name} stays yours until it ends${renewsBeforeItEnds(subscription) ? "" : ", and does not renew"}. Changed your mind? Resume it under Manage subscription.`,
  }),
  past_due: ({ access }, name) => ({
    badge: { text: "Payment failed", tone: "bad" },
    sentence: access
      ? `${name} stays yours while we try the payment again.`
      : "Your plan is on hold until the payment goes through.",
    notice: {
      title: "Your last payment did not go through",
      text: access
        ? `Update your payment method to keep ${name}.`
        : "Update your payment method, and your plan is back as soon as the payment goes through.",
    },
    paymentAction: "Update payment method",
  }),
  unpaid: () => ({
    badge: { text: "On hold", tone: "bad" },
    sentence: "Your plan is on hold until the open invoice is paid.",
    notice: {
      title: "Your payments did not go through",
      text: "Pay the open invoice, with another card if you like. Your plan is back as soon as it is paid.",
    },
    paymentAction: "Pay open invoice",
  }),
  incomplete: () => ({
    badge: { text: "Not paid yet", tone: "warning" },
    sentence: "Your plan starts as soon as the first payment goes through.",
    notice: {
      title: "Your first payment is not finished",
      text: "Your bank may want you to confirm it, or your card was declined. Finish the payment under Manage subscription.",
    },
  }),
  paused: () => ({
    badge: { text: "Paused", tone: "warning" },
    sentence: "Your subscription is paused. Nothing is charged, and its plan is not available.",
    notice: {
      title: "Your subscription is paused",
      text: "Add a payment method under Manage subscription to go on.",
    },
  }),
  awaiting_payment: () => ({
    badge: { text: "Waiting for payment", tone: "warning" },
    sentence:
      "Thank you. Your payment is on its way, which can take some days with a bank debit. Your plan starts by itself when it arrives.",
  }),
  ended: () => ({
    badge: { text: "Ended", tone: "neutral" },
    sentence: "Your subscription has ended, and you are on the free plan now. Upgrade to start again.",
  }),
  unknown: ({ status }) => ({
    badge: { text: capitalized(status ?? ""), tone: "warning" },
    sentence: "Look under Manage subscription for what to do next.",
  }),
};

function nameOf(subscription: Subscription, standing: Standing): string {
  if (standing === "free" || standing === "ended") return "Free";
  return grantedPlan(subscription) ?? (subscription.access ? "Subscription" : "No active plan");
}

/** The plan that the subscription grants. Without access it grants none, and a price that is configured nowhere means none. */
export function grantedPlan({ plan, access }: Subscription): string | undefined {
  return access && plan !== "free" ? capitalized(plan) : undefined;
}

function factsOf(subscription: Subscription, standing: Standing): Fact[] {
  const { current_period_end, trial_end, cancel_at, quantity } = subscription;
  const facts: Fact[] = [];
  const addDate = (term: string, date: string | null) => {
    if (date !== null) facts.push({ term, date });
  };
  if (standing === "trialing") addDate("Trial ends on", trial_end ?? current_period_end);
  if (standing === "active" || (standing === "ending" && renewsBeforeItEnds(subscription)))
    addDate("Renews on", current_period_end);
  if (subscription.scheduled_cancel && standing !== "ended") addDate("Ends on", cancel_at ?? current_period_end);
  if (quantity !== null && quantity > 1 && standing !== "ended")
    facts.push({ term: "Quantity", text: String(quantity) });
  return facts;
}

/** Whether its end was set for later than the end of the period that is paid. */
function renewsBeforeItEnds({ cancel_at, current_period_end }: Subscription): boolean {
  return cancel_at !== null && current_period_end !== null && Date.parse(cancel_at) > Date.parse(current_period_end);
}

/** `team_yearly` as a person would write it: `Team yearly`. */
function capitalized(word: string): string {
  const spaced = word.replaceAll(/[_-]+/g, " ").trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
