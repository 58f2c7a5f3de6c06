use std::fmt;

use super::subscription::StaleReason;

/// The result of processing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Applied,
    /// Not applied, and it never will be. The reason says why.
    Stale,
    /// Billhook does not use the event.
    Ignored,
    /// Waits until its customer is linked to a tenant.
    Parked,
    /// Belongs to another mode, account or deployment.
    Quarantined,
    /// Could not be applied. It is retried.
    Failed,
    /// Could not be applied, and is no longer retried automatically.
    Dead,
    /// Repeats an event of the inbox or of the same batch. The inbox itself never has this outcome.
    Duplicate,
}

/// Reason of `ignored`: the event was parked for too long, and its payload was deleted.
pub const NEVER_LINKED: &str = "never_linked";

/// Reason of `quarantined`: the event names an account while our own is unknown. It is retried when
/// ours is known.
pub const ACCOUNT_UNKNOWN: &str = "account_unknown";

/// Reason of `quarantined`: the customer belongs to another deployment on the same Stripe account.
pub const FOREIGN_DEPLOYMENT: &str = "foreign_deployment";

/// Reason of `parked`: the event names a tenant that has another customer. The operator decides
/// which customer the tenant keeps.
pub const OTHER_CUSTOMER: &str = "tenant_has_another_customer";

/// Reason of `ignored`: the event was parked or failed when its tenant was erased, and its payload
/// was deleted.
pub const TENANT_ERASED: &str = "tenant_erased";

impl Outcome {
    /// The value in logs, spans, metrics and the inbox.
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

    /// The log line's `event` field.
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

    /// Whether the event must not be processed again, because that could apply it twice.
    pub fn is_settled(self) -> bool {
        match self {
            Self::Applied | Self::Stale | Self::Ignored | Self::Duplicate => true,
            Self::Parked | Self::Quarantined | Self::Failed | Self::Dead => false,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::STORED.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// The outcomes that an event in the inbox can have.
    pub const STORED: [Self; 7] = [
        Self::Applied,
        Self::Stale,
        Self::Ignored,
        Self::Parked,
        Self::Quarantined,
        Self::Failed,
        Self::Dead,
    ];

    /// Whether the payload is stored. Ignored events are never looked at again. No personal data is
    /// kept of a customer that was deleted, or that belonged to an erased tenant.
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
