//! Payments of subscriptions, as invoices and checkout sessions report them. Their events can
//! arrive before the subscription's own first event.

use std::collections::BTreeSet;

use super::{Batch, Cause, Effect, EntryKind, cause};
use crate::domain::event::{Event, Invoice, InvoiceEventKind};
use crate::domain::ids::SubscriptionId;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::{PaymentProblem, StaleReason, Subscription};
use crate::domain::tenant::CheckoutStatus;

/// What an invoice or a checkout session reports about the payment of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    Invoice(InvoiceEventKind),
    /// The status that the session has reached.
    Session(CheckoutStatus),
}

impl Payment {
    pub(super) fn apply_to(self, subscription: &mut Subscription, at: i64) {
        match self {
            Self::Invoice(kind) => _ = subscription.note_payment(payment_problem(kind), at),
            Self::Session(status) if status.withholds_access() => subscription.await_payment(),
            Self::Session(CheckoutStatus::Complete) => subscription.mark_paid(at),
            Self::Session(_) => {}
        }
    }
}

fn payment_problem(kind: InvoiceEventKind) -> Option<PaymentProblem> {
    match kind {
        InvoiceEventKind::Paid => None,
        InvoiceEventKind::PaymentFailed => Some(PaymentProblem::Failed),
        InvoiceEventKind::PaymentActionRequired => Some(PaymentProblem::ActionRequired),
    }
}

impl Batch {
    /// Remembers the payment until the subscription is stored.
    pub fn remember_payment(&mut self, subscription: &SubscriptionId, payment: Payment, at: i64) {
        self.payments.entry(subscription.clone()).or_default().push((payment, at));
    }

    pub(super) fn apply_session_payment(
        &mut self,
        subscription: &SubscriptionId,
        status: CheckoutStatus,
        at: i64,
    ) {
        let payment = Payment::Session(status);
        let Some(owned) = self.subscriptions.get_mut(subscription) else {
            self.remember_payment(subscription, payment, at);
            return;
        };
        payment.apply_to(&mut owned.subscription, at);
        self.mark_changed(subscription);
    }

    /// Stripe answered that nothing is owed on the latest invoices of these subscriptions. They no
    /// longer wait for their first payment.
    pub fn apply_paid_or_void_invoices(&mut self, ids: &BTreeSet<SubscriptionId>, answered_at: i64) {
        for id in ids {
            self.complete_checkout_of(id);
            let Some(owned) = self.subscriptions.get_mut(id) else { continue };
            if !owned.subscription.awaiting_payment {
                continue;
            }
            owned.subscription.mark_paid(answered_at);
            let (tenant, customer) = (owned.tenant.clone(), owned.subscription.customer.clone());
            self.mark_changed(id);
            let kind = EntryKind::PaymentNoted { subscription: id.clone() };
            let cause = Cause { name: cause::REFRESH, event: None, at: answered_at };
            self.add_to_journal(kind, &tenant, &customer, cause);
        }
    }

    pub(super) fn apply_invoice(
        &mut self,
        event: &Event,
        kind: InvoiceEventKind,
        invoice: &Invoice,
    ) -> Effect {
        let Some(id) = &invoice.subscription else {
            return Effect::new(Outcome::Ignored).with_reason("not_for_a_subscription");
        };
        let tenant = match self.linked_tenant_or_effect(&invoice.customer) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        let completes_checkout = kind == InvoiceEventKind::Paid && self.complete_checkout_of(id);
        self.refresh_if_unknown(id, (&tenant, &invoice.customer), Cause::event(event));
        let Some(owned) = self.subscriptions.get_mut(id) else {
            self.remember_payment(id, Payment::Invoice(kind), event.created);
            let outcome = if completes_checkout { Outcome::Applied } else { Outcome::Ignored };
            return Effect::new(outcome).with_reason("subscription_not_held").for_tenant(tenant);
        };
        let customer = owned.subscription.customer.clone();
        let is_latest = owned.subscription.note_payment(payment_problem(kind), event.created);
        self.mark_changed(id);
        if !is_latest {
            return Effect::stale(StaleReason::Older).for_tenant(tenant);
        }
        let noted = EntryKind::PaymentNoted { subscription: id.clone() };
        self.add_to_journal(noted, &tenant, &customer, Cause::event(event));
        Effect::new(Outcome::Applied).for_tenant(tenant)
    }
}
