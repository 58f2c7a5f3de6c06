import type { Subscription } from "../api/generated";
import type { HostedPage, HostedPageState } from "../billing/useHostedPage";
import type { PlanCopy } from "../copy/plan";
import { ActionButton } from "./ActionButton";

interface PlanActionsProps {
  subscription: Subscription;
  copy: PlanCopy;
  hosted: HostedPageState;
}

/**
 * The buttons that open Stripe's pages: the checkout without a subscription, and the portal with a
 * current or ended one. A user who may not manage billing sees a hint instead.
 */
export function PlanActions({ subscription, copy, hosted }: PlanActionsProps) {
  const { opening, waitSeconds, open } = hosted;
  const { paymentAction } = copy;
  // A customer without a subscription has nothing to manage. After the end an invoice can still be
  // open.
  const showsPortal = subscription.can_manage && subscription.status !== null;
  const showsUpgrade = copy.canUpgrade || !showsPortal;
  const isBlocked = opening !== undefined || waitSeconds > 0;
  const button = (page: HostedPage) => ({
    progress: opening === page ? "Opening…" : undefined,
    isBlocked,
    onPress: () => open(page),
  });

  if (!subscription.may_manage) {
    return (
      <p className="billhook-small">
        Only administrators of your organization can change the plan or the payment method. Ask one of them.
      </p>
    );
  }
  return (
    <div className="billhook-actions">
      {paymentAction && (
        <ActionButton kind="primary" {...button("fix_payment")}>
          {paymentAction}
        </ActionButton>
      )}
      {showsUpgrade && (
        <ActionButton kind="primary" {...button("checkout")}>
          Upgrade
        </ActionButton>
      )}
      {showsPortal && (
        <ActionButton kind={paymentAction || showsUpgrade ? "plain" : "primary"} {...button("portal")}>
          Manage subscription
        </ActionButton>
      )}
      <p className="billhook-small">{hint(showsUpgrade, showsPortal)}</p>
    </div>
  );
}

function hint(showsUpgrade: boolean, showsPortal: boolean): string {
  if (!showsUpgrade) return "Change your plan or payment method, see invoices or cancel on Stripe’s secure page.";
  if (!showsPortal) return "You pay on Stripe’s secure page and then return here.";
  return "Subscribe again, or see your invoices and pay open ones, on Stripe’s secure page.";
}
