//! The label sets. Every value is a name that the program or its operator chose.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::domain::event::HANDLED_EVENT_TYPES;
use crate::domain::ids::SecretName;
use crate::domain::subscription::Status;

/// Stands for event types and statuses that Billhook does not know, so that they create no series.
const OTHER: &str = "other";

/// Pairs of name and value.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) status: u16,
}

impl EncodeLabelValue for SecretName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

pub(super) fn type_label(type_name: &str) -> &'static str {
    HANDLED_EVENT_TYPES.into_iter().find(|handled| *handled == type_name).unwrap_or(OTHER)
}

pub(super) fn status_label(status: Option<&Status>) -> &'static str {
    status.map_or("none", |status| status.known_name().unwrap_or(OTHER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_type_and_status_are_other() {
        assert_eq!(type_label("customer.subscription.updated"), "customer.subscription.updated");
        assert_eq!(type_label("customer.tax_id.created"), OTHER);
        let known = Status::parse("past_due");
        let added = Status::parse("hibernating");
        assert_eq!(status_label(known.as_ref()), "past_due");
        assert_eq!(status_label(added.as_ref()), OTHER);
        assert_eq!(status_label(None), "none");
    }
}
