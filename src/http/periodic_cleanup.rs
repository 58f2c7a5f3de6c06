//! What somebody has to see to while the routes are served.

use std::sync::Arc;
use std::time::Duration;

use super::throttle::Throttle;
use super::webhook::{Rejections, UnverifiedLimiter};

/// What the routes leave lying about. Clones share it.
#[derive(Debug, Clone)]
pub struct PeriodicCleanup {
    pub(super) throttle: Arc<Throttle>,
    pub(super) limiter: Arc<UnverifiedLimiter>,
    pub(super) rejections: Arc<Rejections>,
}

impl PeriodicCleanup {
    /// How often it is due.
    pub const INTERVAL: Duration = Duration::from_mins(1);

    /// Forgets the tenants and the clients whose quota is whole again, and tells of the refused webhooks that no line has
    /// told of.
    pub fn sweep(&self) {
        self.throttle.sweep();
        self.limiter.sweep();
        self.rejections.tell_untold();
    }
}
