use std::collections::{BTreeMap, BTreeSet};

use super::JournalEntry;
use crate::domain::event::Event;
use crate::domain::ids::{CustomerId, EventId, SessionId, SubscriptionId, TenantId};
use crate::domain::journey::Journey;
use crate::domain::known_prices::KnownPrices;
use crate::domain::outcome::Outcome;
use crate::domain::refresh::{Refresh, RefreshSubject};
use crate::domain::subscription::StaleReason;

/// What the store has to write.
#[derive(Debug, Default)]
pub struct Changes {
    pub tombstones: BTreeSet<CustomerId>,
    /// Customers that the operator unlinked, or that events may link again.
    pub changed_unlink_marks: BTreeSet<CustomerId>,
    /// Customers whose foreign deployment or taken tenant changed.
    pub customer_notes: BTreeSet<CustomerId>,
    pub tenants: BTreeSet<TenantId>,
    /// Those of `tenants` that have no row yet.
    pub new_tenants: BTreeSet<TenantId>,
    pub subscriptions: BTreeSet<SubscriptionId>,
    /// Subscriptions of customers that the operator unlinked. Their rows are deleted.
    pub removed_subscriptions: BTreeSet<SubscriptionId>,
    /// Tenants whose entitlements may have changed.
    pub entitlements: BTreeSet<TenantId>,
    pub checkouts: BTreeSet<SessionId>,
    pub journal: Vec<JournalEntry>,
    pub unparked: Vec<Unparked>,
    pub refreshes: BTreeMap<RefreshSubject, Refresh>,
    /// Lookup keys that prices were seen with for the first time.
    pub known_prices: KnownPrices,
}

/// A parked event that was applied after all.
#[derive(Debug)]
pub struct Unparked {
    pub event: Event,
    pub effect: Effect,
    /// The event that released it. `None` if the operator or a refresh did.
    pub by: Option<EventId>,
}

/// The result of applying one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub outcome: Outcome,
    pub reason: Option<&'static str>,
    /// Whether the log line is a warning, because an operator should look at it.
    pub is_warning: bool,
    pub tenant: Option<TenantId>,
    pub journey: Option<Journey>,
}

impl Effect {
    /// `Failed`, `Dead` and `Quarantined` are warnings.
    pub fn new(outcome: Outcome) -> Self {
        let is_warning = matches!(outcome, Outcome::Failed | Outcome::Dead | Outcome::Quarantined);
        Self { outcome, reason: None, is_warning, tenant: None, journey: None }
    }

    pub(super) fn stale(reason: StaleReason) -> Self {
        Self::new(Outcome::Stale).with_reason(reason.as_str())
    }

    #[must_use]
    pub fn with_reason(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(super) fn into_warning(self) -> Self {
        Self { is_warning: true, ..self }
    }

    pub(super) fn into_info(self) -> Self {
        Self { is_warning: false, ..self }
    }

    pub(super) fn for_tenant(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    pub(super) fn in_journey(self, journey: Option<Journey>) -> Self {
        Self { journey, ..self }
    }
}
