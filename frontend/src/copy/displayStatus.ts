import type { Subscription } from "../api/generated";

/** The status of a subscription as the page shows it. */
export type DisplayStatus =
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
  /** A Stripe status that this page does not know. */
  | "unknown";

export function displayStatusOf({ status, access, scheduled_cancel }: Subscription): DisplayStatus {
  switch (status) {
    case null:
      return "free";
    case "active":
    case "trialing":
      // Without access, the payment is still pending, for example a bank debit.
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
