import type { CheckoutReturn } from "../billing/useCheckoutReturn";
import { Notice } from "./Notice";
import { SupportCode } from "./SupportCode";

interface ReturnNoticeProps {
  checkoutReturn: CheckoutReturn;
  /** The plan that was bought, once it is there. */
  planName: string | undefined;
}

/** What became of the checkout that the browser is back from. */
export function ReturnNotice({ checkoutReturn: { state, sessionId }, planName }: ReturnNoticeProps) {
  switch (state) {
    case "none":
      return null;
    case "canceled":
      return (
        <Notice tone="neutral" title="You left the checkout">
          <p>Nothing was charged. You can upgrade at any time.</p>
        </Notice>
      );
    case "activating":
      return (
        <Notice tone="neutral" title="Activating your plan…" isBusy>
          <p>Thank you. This takes a few seconds, and the page changes by itself.</p>
        </Notice>
      );
    case "slow":
      return (
        <Notice tone="warning" title="This takes longer than usual">
          <p>
            Your payment is not lost. Your plan is activated by itself as soon as the payment is confirmed, also when
            you leave this page.
          </p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "unknown_checkout":
      return (
        <Notice tone="bad" title="We do not know this checkout">
          <p>
            It may belong to another account: check which one you are signed in to. If you have paid, contact support.
          </p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "unconfirmed":
      return (
        <Notice tone="warning" title="We found no payment for this checkout">
          <p>If you have paid, do not pay again: please contact support.</p>
          <SupportCode code={sessionId} />
        </Notice>
      );
    case "activated":
      return planName === undefined ? null : (
        <Notice tone="good" title={`Welcome to ${planName}`}>
          <p>Thank you. Your plan is active.</p>
        </Notice>
      );
  }
}
