//! Whether the service runs, drains or stops.

use tokio::sync::watch;

/// How far the service is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It serves requests.
    Running,
    /// It serves requests, `/readyz` returns 503, and each HTTP/1 response closes its connection.
    Draining,
    /// It accepts no connections and finishes the requests in progress.
    Stopping,
}

/// Follows the service's lifecycle. Clones share it.
#[derive(Debug, Clone)]
pub struct LifecycleWatch(watch::Receiver<Lifecycle>);

impl LifecycleWatch {
    /// A running service, and the sender that moves it on.
    pub fn start() -> (watch::Sender<Lifecycle>, Self) {
        let (sender, receiver) = watch::channel(Lifecycle::Running);
        (sender, Self(receiver))
    }

    /// Whether the service drains or stops.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() != Lifecycle::Running
    }

    /// Waits until the service stops.
    pub async fn stopping(mut self) {
        // An error means that the sender is gone, and with it the service.
        let _ = self.0.wait_for(|lifecycle| *lifecycle == Lifecycle::Stopping).await;
    }
}
