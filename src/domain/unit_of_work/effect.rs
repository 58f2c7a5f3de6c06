//! What applying an event came to.

use crate::domain::ids::TenantId;
use crate::domain::journey::Journey;
use crate::domain::outcome::Outcome;
use crate::domain::subscription::StaleReason;

/// What became of an event, for whom, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say.
    pub reason: Option<&'static str>,
    /// Whether an operator should look: the line is a warning.
    pub loud: bool,
    /// Whose event it is.
    pub tenant: Option<TenantId>,
    /// The journey it belongs to.
    pub journey: Option<Journey>,
}

impl Effect {
    /// An outcome with nothing more to say. Failures and quarantine are loud by themselves.
    pub fn new(outcome: Outcome) -> Self {
        let loud = matches!(outcome, Outcome::Failed | Outcome::Dead | Outcome::Quarantined);
        Self { outcome, reason: None, loud, tenant: None, journey: None }
    }

    pub(super) fn stale(reason: StaleReason) -> Self {
        Self::new(Outcome::Stale).because(reason.as_str())
    }

    /// Says why.
    #[must_use]
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(super) fn loudly(self) -> Self {
        Self { loud: true, ..self }
    }

    pub(super) fn quietly(self) -> Self {
        Self { loud: false, ..self }
    }

    /// Says whose event it is.
    #[must_use]
    pub fn of(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    pub(super) fn on(self, journey: Option<Journey>) -> Self {
        Self { journey, ..self }
    }
}
