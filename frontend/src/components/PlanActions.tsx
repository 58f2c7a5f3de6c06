import type { Subscription } from "../api/generated";
import type { HostedPage, HostedPages } from "../billing/useHostedPage";
import { ActionButton } from "./ActionButton";

interface PlanActionsProps {
  subscription: Subscription;
  /** Whether another way to pay is what would mend the subscription. */
  needsPaymentMethod: boolean;
  hosted: HostedPages;
}

/**
 * The ways to Stripe's pages that make sense for this subscription: to the portal where it can be managed, else to a checkout.
 * Whoever would be refused there is told whom to ask instead.
 */
export function PlanActions({ subscription, needsPaymentMethod, hosted }: PlanActionsProps) {
  const { opening, waitSeconds, open } = hosted;
  const isBlocked = opening !== undefined || waitSeconds > 0;
  const button = (page: HostedPage) => ({
    progress: opening === page ? "Opening…" : undefined,
    isBlocked,
    onPress: () => open(page),
  });

  if (!subscription.may_manage) {
    return (
      <p className="billhook-small">
        To change your plan or how it is paid, ask an owner of your organization: only they can do this.
      </p>
    );
  }
  return (
    <div className="billhook-actions">
      {needsPaymentMethod && (
        <ActionButton kind="primary" {...button("payment_method")}>
          Update payment method
        </ActionButton>
      )}
      {subscription.can_manage ? (
        <ActionButton kind={needsPaymentMethod ? "plain" : "primary"} {...button("portal")}>
          Manage subscription
        </ActionButton>
      ) : (
        <ActionButton kind="primary" {...button("checkout")}>
          Upgrade
        </ActionButton>
      )}
      <p className="billhook-small">
        {subscription.can_manage
          ? "Change your plan or payment method, see invoices, or cancel, on Stripe’s secure page."
          : "You pay on Stripe’s secure page, and come back here."}
      </p>
    </div>
  );
}
