import type { Subscription } from "../api/generated";
import type { HostedPage, HostedPages } from "../billing/useHostedPage";
import type { PlanWords } from "../words/plan";
import { ActionButton } from "./ActionButton";

interface PlanActionsProps {
  subscription: Subscription;
  words: PlanWords;
  hosted: HostedPages;
}

/**
 * The ways to Stripe's pages that make sense for this subscription: to a checkout where nothing is subscribed to, and to the
 * portal where something is or was. A user who may not manage billing sees whom to ask instead.
 */
export function PlanActions({ subscription, words, hosted }: PlanActionsProps) {
  const { opening, waitSeconds, open } = hosted;
  const { paymentAction } = words;
  // A customer that never subscribed has nothing to manage. One whose subscription ended can still owe an invoice.
  const canManage = subscription.can_manage && subscription.status !== null;
  const canUpgrade = words.canUpgrade || !canManage;
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
      {paymentAction && (
        <ActionButton kind="primary" {...button("payment_method")}>
          {paymentAction}
        </ActionButton>
      )}
      {canUpgrade && (
        <ActionButton kind="primary" {...button("checkout")}>
          Upgrade
        </ActionButton>
      )}
      {canManage && (
        <ActionButton kind={paymentAction || canUpgrade ? "plain" : "primary"} {...button("portal")}>
          Manage subscription
        </ActionButton>
      )}
      <p className="billhook-small">{hint(canUpgrade, canManage)}</p>
    </div>
  );
}

function hint(canUpgrade: boolean, canManage: boolean): string {
  if (!canUpgrade) return "Change your plan or payment method, see invoices, or cancel, on Stripe’s secure page.";
  if (!canManage) return "You pay on Stripe’s secure page, and come back here.";
  return "Start again, or see your invoices and pay what is still open, on Stripe’s secure page.";
}
