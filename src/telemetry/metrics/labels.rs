//! The labels, all of them words that the program or its operator knows.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::domain::event::HANDLED;
use crate::domain::ids::SecretName;
use crate::domain::subscription::Status;

/// What Stripe adds to its types and statuses is not a series of its own.
const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Http {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Events {
    pub(super) source: &'static str,
    pub(super) r#type: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfReason {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfOutcome {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfSecret {
    pub(super) secret_name: SecretName,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfState {
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Transition {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Stripe {
    pub(super) operation: &'static str,
    pub(super) error: &'static str,
}

impl EncodeLabelValue for SecretName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// An event's type, if it is one that we handle.
pub(super) fn type_label(type_name: &str) -> &'static str {
    HANDLED.into_iter().find(|handled| *handled == type_name).unwrap_or(OTHER)
}

/// A status, if it is one that we know.
pub(super) fn status_label(status: Option<&Status>) -> &'static str {
    status.map_or("none", |status| status.known_name().unwrap_or(OTHER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stripe_adds_is_other() {
        assert_eq!(type_label("customer.subscription.updated"), "customer.subscription.updated");
        assert_eq!(type_label("customer.tax_id.created"), OTHER);
        let known = Status::parse("past_due");
        let added = Status::parse("hibernating");
        assert_eq!(status_label(known.as_ref()), "past_due");
        assert_eq!(status_label(added.as_ref()), OTHER);
        assert_eq!(status_label(None), "none");
    }
}
