import type { Subscription } from "../api/generated";

/** How a subscription stands, as far as its owner has to know. */
export type Standing =
  | "free"
  | "trialing"
  | "active"
  | "ending"
  | "past_due"
  | "unpaid"
  | "incomplete"
  | "paused"
  | "awaiting_payment"
  | "ended"
  /** Stripe has a status that this page does not know. */
  | "unknown";

/** Reads it from Stripe's status, and from what the service makes of it. */
export function standingOf({ status, access, scheduled_cancel }: Subscription): Standing {
  switch (status) {
    case null:
      return "free";
    case "active":
    case "trialing":
      // Without access it was bought with a payment that is still on its way, a bank debit for example.
      if (!access) return "awaiting_payment";
      return scheduled_cancel ? "ending" : status;
    case "past_due":
    case "unpaid":
    case "incomplete":
    case "paused":
      return status;
    case "canceled":
    case "incomplete_expired":
      return "ended";
    default:
      return "unknown";
  }
}
