//! Whether the service runs, drains or stops.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    Running,
    /// The service still accepts requests, `/readyz` returns 503, and each HTTP/1 response closes
    /// its connection.
    Draining,
    /// The service accepts no connections and finishes the requests in progress.
    Stopping,
}

#[derive(Debug, Clone)]
pub struct LifecycleWatch(watch::Receiver<Lifecycle>);

impl LifecycleWatch {
    /// Starts in `Running`. The sender changes the state.
    pub fn start() -> (watch::Sender<Lifecycle>, Self) {
        let (sender, receiver) = watch::channel(Lifecycle::Running);
        (sender, Self(receiver))
    }

    /// True in `Stopping` too.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() != Lifecycle::Running
    }

    /// Waits for `Stopping`.
    pub async fn stopping(mut self) {
        // An error means that the sender was dropped, and the service with it.
        let _ = self.0.wait_for(|lifecycle| *lifecycle == Lifecycle::Stopping).await;
    }
}
