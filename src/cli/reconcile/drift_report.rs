//! Describes the differences between a tenant's stored subscriptions and Stripe, as text and as
//! JSON.

use serde_json::{Value, json};

use crate::billing::{BillingError, Drift};
use crate::cli::text::time_of_seconds;
use crate::domain::ids::{CustomerId, SubscriptionId, TenantId};
use crate::domain::subscription::{Difference, FieldValue};
use crate::stripe::CustomerState;
use crate::telemetry::topics::rfc3339;

pub(in crate::cli) struct DriftReport<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) customer: &'a CustomerId,
    pub(super) finding: Finding<'a>,
}

pub(super) enum Finding<'a> {
    /// Stripe has something else, or had until `--apply` stored Stripe's state.
    Drift { drift: &'a Drift, is_fixed: bool },
    /// The tenant could not be compared.
    NotCompared(&'a BillingError),
}

impl DriftReport<'_> {
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { tenant, customer, finding } = self;
        match finding {
            Finding::NotCompared(error) => {
                vec![format!("{tenant} {customer} could not be compared: {error}")]
            }
            Finding::Drift { drift, is_fixed } => {
                let fixed = if *is_fixed { " (fixed)" } else { "" };
                lines(drift).iter().map(|line| format!("{tenant} {customer} {line}{fixed}")).collect()
            }
        }
    }

    /// One object for each line.
    pub(super) fn as_json(&self) -> Vec<Value> {
        let object = |kind: &str, subscription: Option<&SubscriptionId>, difference: Option<&Difference>| {
            json!({
                "tenant": self.tenant,
                "customer": self.customer,
                "kind": kind,
                "subscription": subscription,
                "field": difference.map(|difference| difference.field),
                "here": difference.map(|difference| json_value(&difference.ours)),
                "at_stripe": difference.map(|difference| json_value(&difference.theirs)),
                "fixed": matches!(self.finding, Finding::Drift { is_fixed: true, .. }),
                "error": if let Finding::NotCompared(error) = self.finding { Some(error.to_string()) } else { None },
            })
        };
        match &self.finding {
            Finding::NotCompared(_) => vec![object("not_compared", None, None)],
            Finding::Drift { drift, .. } => match drift {
                Drift::NotHeld(id) => vec![object("not_here", Some(id), None)],
                Drift::UnknownSubscription(id) => vec![object("not_at_stripe", Some(id), None)],
                Drift::NoCustomer(CustomerState::Deleted) => vec![object("customer_deleted", None, None)],
                Drift::NoCustomer(_) => vec![object("customer_unknown", None, None)],
                Drift::Differs(id, differences) => {
                    differences.iter().map(|one| object("differs", Some(id), Some(one))).collect()
                }
            },
        }
    }
}

fn json_value(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) => text.clone(),
        FieldValue::Time(at) => at.map_or("none".into(), |at| rfc3339(at.saturating_mul(1000))),
    }
}

fn text_value(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) => text.clone(),
        FieldValue::Time(at) => at.map_or("none".into(), time_of_seconds),
    }
}

fn lines(drift: &Drift) -> Vec<String> {
    let differs = |difference: &Difference| {
        let Difference { field, ours, theirs } = difference;
        format!("{field}: {} here, {} at Stripe", text_value(ours), text_value(theirs))
    };
    match drift {
        Drift::NotHeld(id) => vec![format!("{id} is at Stripe, but not here")],
        Drift::UnknownSubscription(id) => vec![format!("{id} is here, but not at Stripe")],
        Drift::NoCustomer(CustomerState::Deleted) => vec!["was deleted at Stripe".to_owned()],
        Drift::NoCustomer(_) => {
            vec!["does not exist at Stripe: check that the key belongs to the right account".to_owned()]
        }
        Drift::Differs(id, differences) => {
            differences.iter().map(|difference| format!("{id} {}", differs(difference))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_in_text_and_json() {
        let (tenant, customer) =
            (TenantId::parse("acme").expect("an id"), CustomerId::parse("cus_1").expect("an id"));
        let subscription = SubscriptionId::parse("sub_1").expect("an id");
        let (ours, theirs) = (FieldValue::Time(None), FieldValue::Time(Some(1_796_064_643)));
        let drift = Drift::Differs(subscription, vec![Difference { field: "ended_at", ours, theirs }]);
        let finding = Finding::Drift { drift: &drift, is_fixed: false };
        let report = DriftReport { tenant: &tenant, customer: &customer, finding };
        assert_eq!(report.lines(), ["acme cus_1 sub_1 ended_at: none here, 2026-11-30T18:50:43Z at Stripe"]);
        let json = &report.as_json()[0];
        assert_eq!((&json["here"], &json["at_stripe"]), (&json!("none"), &json!("2026-11-30T18:50:43.000Z")));
    }
}
