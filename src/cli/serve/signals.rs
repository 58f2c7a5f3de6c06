//! The signals that an operator, a supervisor or a log rotator sends to the running service.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::CommandError;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Replaces the default actions of these signals.
    pub(super) fn listen() -> Result<Self, CommandError> {
        let listen = |kind| signal(kind).map_err(|error| CommandError::Failed(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Drain,
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.hang_up.recv() => SignalAction::Reload,
        }
    }

    /// Waits for a signal that asks to stop.
    pub(super) async fn stop(&mut self) {
        while matches!(self.next().await, SignalAction::Reload) {}
    }
}

pub(super) enum SignalAction {
    /// SIGTERM, from a supervisor: drain, then stop.
    Drain,
    /// SIGINT, from an operator at a terminal: stop without the drain.
    Stop,
    /// SIGHUP, from an operator or a log rotator: see [`reload`](super::reload).
    Reload,
}
