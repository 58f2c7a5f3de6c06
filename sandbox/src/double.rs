//! The data that all handlers share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::api::faults::Faults;
use crate::api::idempotency::IdempotencyKeys;
use crate::connection::Connections;
use crate::record_log::RecordLog;
use crate::state::dispatcher::{DeliveryCommand, Dispatcher};
use crate::state::{Cause, State};

pub(crate) struct Double {
    pub(crate) api_key: String,
    pub(crate) retry_delay: Duration,
    pub(crate) http: reqwest::Client,
    pub(crate) connections: Connections,
    pub(crate) idempotency_keys: IdempotencyKeys,
    pub(crate) faults: Faults,
    /// The API requests received.
    pub(crate) requests: RecordLog,
    /// The webhook delivery attempts.
    pub(crate) deliveries: RecordLog,
    state: Mutex<State>,
}

impl Double {
    pub(crate) fn new(
        base_url: String,
        api_key: String,
        retry_delay: Duration,
        http: reqwest::Client,
        commands: UnboundedSender<DeliveryCommand>,
    ) -> Double {
        Double {
            api_key,
            retry_delay,
            http,
            connections: Connections::default(),
            idempotency_keys: IdempotencyKeys::default(),
            faults: Faults::default(),
            requests: RecordLog::default(),
            deliveries: RecordLog::default(),
            state: Mutex::new(State::new(base_url, Dispatcher::new(commands))),
        }
    }

    /// Locks the state. Events emitted under this lock carry `cause`.
    pub(crate) fn state(&self, cause: Cause) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cause = cause;
        state
    }

    pub(crate) fn now(&self) -> i64 {
        self.state(Cause::default()).now()
    }
}
