//! Payments: what invoices and sessions say of a subscription's money, also before the subscription itself is heard of.

use std::collections::BTreeSet;

use super::{Cause, Effect, Entry, UnitOfWork, cause};
use crate::domain::event::{Event, Invoice, InvoiceChange};
use crate::domain::ids::SubscriptionId;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::{PaymentProblem, StaleReason, Subscription};
use crate::domain::tenant::CheckoutStatus;

/// Something that was said of a subscription's money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// By one of its invoices.
    Invoice(InvoiceChange),
    /// By the checkout session that made it, which got this far.
    Session(CheckoutStatus),
}

impl Payment {
    pub(super) fn tell(self, subscription: &mut Subscription, at: i64) {
        match self {
            Self::Invoice(change) => _ = subscription.note_payment(problem(change), at),
            Self::Session(status) if status.withholds_access() => subscription.await_payment(),
            Self::Session(CheckoutStatus::Complete) => subscription.mark_paid(at),
            Self::Session(_) => {}
        }
    }
}

/// What an invoice says of its payment.
fn problem(change: InvoiceChange) -> Option<PaymentProblem> {
    match change {
        InvoiceChange::Paid => None,
        InvoiceChange::PaymentFailed => Some(PaymentProblem::Failed),
        InvoiceChange::PaymentActionRequired => Some(PaymentProblem::ActionRequired),
    }
}

impl UnitOfWork {
    /// Remembers what was said of the money of a subscription that is not held, for when it is.
    pub fn remember_payment(&mut self, subscription: &SubscriptionId, payment: Payment, at: i64) {
        self.payments.entry(subscription.clone()).or_default().push((payment, at));
    }

    /// A session says how far it got.
    pub(super) fn hear_session(&mut self, subscription: &SubscriptionId, status: CheckoutStatus, at: i64) {
        let payment = Payment::Session(status);
        let Some(held) = self.subscriptions.get_mut(subscription) else {
            self.remember_payment(subscription, payment, at);
            return;
        };
        payment.tell(&mut held.subscription, at);
        self.changed(subscription);
    }

    /// Stripe, when asked, says that nothing is owed on the latest invoices of these subscriptions: their first payments are
    /// awaited no longer.
    pub fn answer_settled(&mut self, ids: &BTreeSet<SubscriptionId>, answered_at: i64) {
        for id in ids {
            self.settle(id, answered_at);
        }
    }

    fn settle(&mut self, id: &SubscriptionId, answered_at: i64) {
        self.checkout_is_paid(id);
        let Some(held) = self.subscriptions.get_mut(id) else { return };
        if !held.subscription.awaiting_payment {
            return;
        }
        held.subscription.mark_paid(answered_at);
        let (tenant, customer) = (held.tenant.clone(), held.subscription.customer.clone());
        self.changed(id);
        let cause = Cause { name: cause::REFRESH, event: None, at: answered_at };
        self.note(Entry::PaymentNoted { subscription: id.clone() }, &tenant, &customer, cause);
    }

    pub(super) fn invoice(&mut self, event: &Event, change: InvoiceChange, invoice: &Invoice) -> Effect {
        let Some(id) = &invoice.subscription else {
            return Effect::new(Outcome::Ignored).because("not_for_a_subscription");
        };
        let tenant = match self.tenant_that_has(&invoice.customer) {
            Ok(tenant) => tenant,
            Err(effect) => return effect,
        };
        let settles = change == InvoiceChange::Paid && self.checkout_is_paid(id);
        self.ask_unless_held(id, (&tenant, &invoice.customer), Cause::event(event));
        let Some(held) = self.subscriptions.get_mut(id) else {
            self.remember_payment(id, Payment::Invoice(change), event.created);
            let outcome = if settles { Outcome::Applied } else { Outcome::Ignored };
            return Effect::new(outcome).because("subscription_not_held").of(tenant);
        };
        let customer = held.subscription.customer.clone();
        let is_later = held.subscription.note_payment(problem(change), event.created);
        self.changed(id);
        if !is_later {
            return Effect::stale(StaleReason::Older).of(tenant);
        }
        let entry = Entry::PaymentNoted { subscription: id.clone() };
        self.note(entry, &tenant, &customer, Cause::event(event));
        Effect::new(Outcome::Applied).of(tenant)
    }
}
