//! How far the service is on its way from its start to its end.

use tokio::sync::watch;

/// What becomes of those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// They are welcome.
    Serving,
    /// They are served, and told to go elsewhere the next time.
    Leaving,
    /// Nobody new is taken, and what has begun is finished.
    Stopping,
}

/// Tells how far the service is. Clones share it.
#[derive(Debug, Clone)]
pub struct Stages(watch::Receiver<Stage>);

impl Stages {
    /// A service that is at its beginning, and whoever decides that it goes on.
    pub fn begin() -> (watch::Sender<Stage>, Self) {
        let (sender, receiver) = watch::channel(Stage::Serving);
        (sender, Self(receiver))
    }

    /// Whether the service is on its way out.
    pub(super) fn is_leaving(&self) -> bool {
        *self.0.borrow() != Stage::Serving
    }

    /// Waits until the service stops.
    pub async fn stopping(mut self) {
        // An error means that whoever decides is gone, and that is as good as being told.
        let _ = self.0.wait_for(|stage| *stage == Stage::Stopping).await;
    }
}
