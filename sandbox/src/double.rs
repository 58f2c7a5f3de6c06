//! What all handlers share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::api::faults::Faults;
use crate::api::idempotency::Ledger;
use crate::connection::Connections;
use crate::journal::Journal;
use crate::world::dispatch::{Dispatch, Errand};
use crate::world::{Cause, World};

/// The double, as its handlers and couriers see it.
pub(crate) struct Double {
    pub(crate) api_key: String,
    pub(crate) retry_delay: Duration,
    pub(crate) http: reqwest::Client,
    pub(crate) connections: Connections,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    /// API requests as they came.
    pub(crate) requests: Journal,
    /// Webhook attempts as they went.
    pub(crate) deliveries: Journal,
    world: Mutex<World>,
}

impl Double {
    pub(crate) fn new(
        base_url: String,
        api_key: String,
        retry_delay: Duration,
        http: reqwest::Client,
        errands: UnboundedSender<Errand>,
    ) -> Double {
        Double {
            api_key,
            retry_delay,
            http,
            connections: Connections::default(),
            ledger: Ledger::default(),
            faults: Faults::default(),
            requests: Journal::default(),
            deliveries: Journal::default(),
            world: Mutex::new(World::new(base_url, Dispatch::new(errands))),
        }
    }

    /// The world, for as long as one thing happens in it, and why it does.
    pub(crate) fn world(&self, cause: Cause) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.cause = cause;
        world
    }

    /// The double's own time.
    pub(crate) fn now(&self) -> i64 {
        self.world(Cause::default()).now()
    }
}
