//! What has to be done now and then while the routes are served.

use std::sync::Arc;
use std::time::Duration;

use super::throttle::Throttle;
use super::webhook::Admission;

/// Forgets what is not needed any more. Clones share it.
#[derive(Clone)]
pub struct PeriodicCleanup {
    pub(super) throttle: Arc<Throttle>,
    pub(super) admission: Arc<Admission>,
}

impl PeriodicCleanup {
    /// How often it is due.
    pub const INTERVAL: Duration = Duration::from_mins(1);

    /// Forgets the tenants and the clients whose quota is whole again, and logs the rejected webhooks that no line has
    /// mentioned.
    pub fn sweep(&self) {
        self.throttle.sweep();
        self.admission.sweep();
    }
}
