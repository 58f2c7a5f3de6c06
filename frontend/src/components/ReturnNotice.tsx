import type { CheckoutReturn } from "../billing/useCheckoutReturn";
import { Notice } from "./Notice";
import { SupportCode } from "./SupportCode";

interface ReturnNoticeProps {
  checkoutReturn: CheckoutReturn;
  /** The plan that was bought, once it is active. */
  planName: string | undefined;
}

/** The result of the checkout after the redirect. */
export function ReturnNotice({ checkoutReturn: { state, sessionId }, planName }: ReturnNoticeProps) {
  switch (state) {
    case "none":
      return null;
    case "canceled":
      return (
        <Notice tone="neutral" title="You left the checkout">
          <p>Nothing was charged. You can upgrade any time.</p>
        </Notice>
      );
    case "activating":
      return (
        <Notice tone="neutral" title="Activating your plan…" isBusy>
          <p>Thank you. This takes a few seconds. The page updates automatically.</p>
        </Notice>
      );
    case "slow":
      return (
        <Notice tone="warning" title="This takes longer than usual">
          <p>
            Your payment is safe. Your plan becomes active as soon as the payment is confirmed, even if you leave this
            page.
          </p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "unknown_checkout":
      return (
        <Notice tone="bad" title="We could not find this checkout">
          <p>It may belong to another account. Check which one you are signed in to. If you paid, contact support.</p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "unconfirmed":
      return (
        <Notice tone="warning" title="We found no payment for this checkout">
          <p>If you paid, do not pay again. Contact support.</p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "purchased":
      return planName === undefined ? null : (
        <Notice tone="good" title={`Welcome to ${planName}`}>
          <p>Thank you. Your plan is active.</p>
        </Notice>
      );
  }
}
