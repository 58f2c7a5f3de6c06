//! What became of an event.

use std::fmt;

use super::subscription::StaleReason;

/// What became of an event. Every event in the inbox has one; a repeat is told apart from all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It stands in the state.
    Applied,
    /// What we hold is later or final.
    Stale,
    /// Nothing in it concerns us.
    Ignored,
    /// It waits until its customer is linked to a tenant.
    Parked,
    /// It belongs to another mode or account.
    Quarantined,
    /// It could not be applied; it will be tried again.
    Failed,
    /// It could not be applied, and will not be tried again by itself.
    Dead,
    /// It was in the inbox already.
    Duplicate,
}

/// Why an event is `ignored` that was parked: its customer was linked to nobody for too long, and its payload was dropped.
pub const NEVER_LINKED: &str = "never_linked";

/// Why an event is `quarantined` that names an account while our own is not known. It is applied once that is, if it is ours.
pub const ACCOUNT_UNKNOWN: &str = "account_unknown";

/// Why an event is `quarantined` whose customer belongs to another deployment on the same Stripe account.
pub const FOREIGN_DEPLOYMENT: &str = "foreign_deployment";

/// Why an event is `parked` that names a tenant which has another customer. The operator decides which one it keeps.
pub const OTHER_CUSTOMER: &str = "tenant_has_another_customer";

/// Why an event is `ignored` that waited, or had failed, when its tenant was erased. Its payload was deleted.
pub const TENANT_ERASED: &str = "tenant_erased";

impl Outcome {
    /// The word in logs, spans, metrics and the inbox.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Stale => "stale",
            Self::Ignored => "ignored",
            Self::Parked => "parked",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Duplicate => "duplicate",
        }
    }

    /// The name of the log line that tells it.
    pub fn log_event(self) -> &'static str {
        match self {
            Self::Applied => "event.applied",
            Self::Stale => "event.stale",
            Self::Ignored => "event.ignored",
            Self::Parked => "event.parked",
            Self::Quarantined => "event.quarantined",
            Self::Failed => "event.failed",
            Self::Dead => "event.dead",
            Self::Duplicate => "event.duplicate",
        }
    }

    /// Whether the event has had its effect, if it was to have any: deciding on it anew could have it twice.
    pub fn is_settled(self) -> bool {
        match self {
            Self::Applied | Self::Stale | Self::Ignored | Self::Duplicate => true,
            Self::Parked | Self::Quarantined | Self::Failed | Self::Dead => false,
        }
    }

    /// Reads the word in the inbox.
    pub fn parse(text: &str) -> Option<Self> {
        Self::OF_THE_INBOX.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Those that an event in the inbox can have, in their order.
    pub const OF_THE_INBOX: [Self; 7] = [
        Self::Applied,
        Self::Stale,
        Self::Ignored,
        Self::Parked,
        Self::Quarantined,
        Self::Failed,
        Self::Dead,
    ];

    /// Whether the payload is worth its room: what was ignored needs no second look. Nor does what comes about a customer that
    /// was deleted, or whose tenant was erased: nothing personal is kept about it.
    pub fn keeps_payload(self, reason: Option<&str>) -> bool {
        let is_of_deleted_customer = reason == Some(StaleReason::CustomerDeleted.as_str());
        !matches!(self, Self::Ignored | Self::Duplicate) && !is_of_deleted_customer
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
