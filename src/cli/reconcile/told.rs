//! What a comparison with Stripe is told as, tenant by tenant.

use serde_json::{Value, json};

use crate::billing::{BillingError, Drift};
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::Difference;
use crate::stripe::CustomerStanding;

/// What is told of a tenant.
pub(in crate::cli) struct Told<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) customer: &'a CustomerId,
    pub(super) came: Came<'a>,
}

/// What came of comparing it.
pub(super) enum Came<'a> {
    /// Stripe says something else, or did until it was taken over.
    Drift { drift: &'a Drift, mended: bool },
    /// Nothing.
    Failed(&'a BillingError),
}

impl Told<'_> {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { tenant, customer, came } = self;
        match came {
            Came::Failed(error) => vec![format!("{tenant} {customer} cannot be compared: {error}")],
            Came::Drift { drift, mended } => {
                let mended = if *mended { " (mended)" } else { "" };
                lines(drift).iter().map(|line| format!("{tenant} {customer} {line}{mended}")).collect()
            }
        }
    }

    /// For tools, one object for each line.
    pub(super) fn as_json(&self) -> Vec<Value> {
        let object = |kind: &str, subscription: Option<&SubscriptionId>, difference: Option<&Difference>| {
            json!({
                "tenant": self.tenant,
                "customer": self.customer,
                "kind": kind,
                "subscription": subscription,
                "field": difference.map(|difference| difference.field),
                "here": difference.map(|difference| &difference.ours),
                "at_stripe": difference.map(|difference| &difference.theirs),
                "mended": matches!(self.came, Came::Drift { mended: true, .. }),
                "error": if let Came::Failed(error) = self.came { Some(error.to_string()) } else { None },
            })
        };
        match &self.came {
            Came::Failed(_) => vec![object("not_compared", None, None)],
            Came::Drift { drift, .. } => match drift {
                Drift::NotHeld(id) => vec![object("not_here", Some(id), None)],
                Drift::UnknownSubscription(id) => vec![object("not_at_stripe", Some(id), None)],
                Drift::NoCustomer(CustomerStanding::Deleted) => vec![object("customer_deleted", None, None)],
                Drift::NoCustomer(_) => vec![object("customer_unknown", None, None)],
                Drift::Differs(id, differences) => {
                    differences.iter().map(|one| object("differs", Some(id), Some(one))).collect()
                }
            },
        }
    }
}

fn lines(drift: &Drift) -> Vec<String> {
    let differs = |difference: &Difference| {
        let Difference { field, ours, theirs } = difference;
        format!("{field}: {ours} here, {theirs} at Stripe")
    };
    match drift {
        Drift::NotHeld(id) => vec![format!("{id} is at Stripe, but not here")],
        Drift::UnknownSubscription(id) => vec![format!("{id} is here, but not at Stripe")],
        Drift::NoCustomer(CustomerStanding::Deleted) => vec!["was deleted at Stripe".to_owned()],
        Drift::NoCustomer(_) => vec!["is not at Stripe: is the key of the right account?".to_owned()],
        Drift::Differs(id, differences) => {
            differences.iter().map(|difference| format!("{id} {}", differs(difference))).collect()
        }
    }
}
