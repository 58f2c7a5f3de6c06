use std::sync::{Arc, OnceLock};

use crate::domain::event::Event;
use crate::domain::ids::{AccountId, DeploymentId};
use crate::domain::mode::Mode;
use crate::domain::outcome::ACCOUNT_UNKNOWN;
use crate::domain::plan::Catalog;

/// The configuration that decides how events are applied.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The mode of the API key and of the database, once either is known.
    pub mode: Option<Mode>,
    pub account: OwnAccount,
    /// The deployment that this database belongs to.
    pub deployment: DeploymentId,
    /// Whether `client_reference_id` may link a customer on a session that Billhook did not create.
    pub trust_client_reference: bool,
    pub catalog: Catalog,
}

/// The Stripe account of the API key. It comes from the configuration or the database. Otherwise
/// Stripe reports it, possibly after the first events have arrived.
#[derive(Debug, Clone, Default)]
pub struct OwnAccount(Arc<OnceLock<AccountId>>);

impl OwnAccount {
    pub fn get(&self) -> Option<&AccountId> {
        self.0.get()
    }

    /// Sets the account. Later calls have no effect.
    pub fn learn(&self, account: AccountId) {
        _ = self.0.set(account);
    }
}

impl Policy {
    /// The reason if the event belongs to another account or mode, or if it names an account while
    /// ours is unknown.
    pub(super) fn quarantine_reason(&self, event: &Event) -> Option<&'static str> {
        let mut named = event.account.iter().chain(&event.context);
        match self.account.get() {
            Some(own) if named.any(|named| named != own.as_str()) => return Some("foreign_account"),
            None if named.next().is_some() => return Some(ACCOUNT_UNKNOWN),
            _ => {}
        }
        let is_foreign = |mode: Mode| event.livemode.is_some_and(|livemode| !mode.matches_livemode(livemode));
        self.mode.is_some_and(is_foreign).then_some("foreign_mode")
    }
}
