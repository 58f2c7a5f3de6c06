//! Trusted clients: those that have recently sent a verified request, for example a webhook with a
//! valid signature.
//!
//! The server cannot verify a request itself. It puts a [`TrustMark`] into each request's
//! extensions, and the handler sets it when it has verified the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::activity::ConnectionActivity;
use crate::domain::client_address::ClientAddress;

/// How long a client is trusted after its last verified request.
const TRUST_DURATION: Duration = Duration::from_hours(1);

/// Stripe sends from about fifteen addresses, or all traffic comes from a few load balancers.
const MAX_TRUSTED_CLIENTS: usize = 1024;

/// The time of each client's last verified request.
#[derive(Debug, Default)]
pub(super) struct TrustedClients(Mutex<HashMap<ClientAddress, Instant>>);

/// Marks the client of a request as trusted, and its connection as verified.
#[derive(Debug, Clone)]
pub struct TrustMark {
    clients: Arc<TrustedClients>,
    client: ClientAddress,
    activity: Arc<ConnectionActivity>,
}

impl TrustedClients {
    pub(super) fn contains(&self, client: ClientAddress) -> bool {
        self.lock().get(&client).is_some_and(|trusted_at| trusted_at.elapsed() < TRUST_DURATION)
    }

    pub(super) fn mark(
        self: &Arc<Self>,
        client: ClientAddress,
        activity: &Arc<ConnectionActivity>,
    ) -> TrustMark {
        TrustMark { clients: self.clone(), client, activity: activity.clone() }
    }

    fn insert(&self, client: ClientAddress) {
        let mut clients = self.lock();
        if clients.len() >= MAX_TRUSTED_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, trusted_at| trusted_at.elapsed() < TRUST_DURATION);
            if clients.len() >= MAX_TRUSTED_CLIENTS {
                return;
            }
        }
        clients.insert(client, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientAddress, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrustMark {
    /// Call this for a verified request. Its client is trusted for an hour, and its connection is
    /// closed last when slots are scarce.
    pub fn set(&self) {
        self.activity.set_verified();
        self.clients.insert(self.client);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::time::advance;

    use super::*;

    fn client(number: usize) -> ClientAddress {
        IpAddr::from(Ipv4Addr::from_bits(u32::try_from(number).expect("few"))).into()
    }

    #[tokio::test(start_paused = true)]
    async fn trust_lasts_an_hour_after_the_last_verified_request() {
        let clients = Arc::<TrustedClients>::default();
        let activity = Arc::new(ConnectionActivity::new());
        let mark = clients.mark(client(1), &activity);
        assert!(!clients.contains(client(1)) && !activity.is_verified());
        mark.set();
        assert!(clients.contains(client(1)) && activity.is_verified());
        advance(TRUST_DURATION / 2).await;
        mark.set();
        advance(TRUST_DURATION / 2).await;
        assert!(clients.contains(client(1)));
        advance(TRUST_DURATION / 2).await;
        assert!(!clients.contains(client(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn full_table_keeps_clients_until_they_expire() {
        let clients = TrustedClients::default();
        (0..=MAX_TRUSTED_CLIENTS).for_each(|number| clients.insert(client(number)));
        assert!(clients.contains(client(0)) && !clients.contains(client(MAX_TRUSTED_CLIENTS)));
        advance(TRUST_DURATION).await;
        clients.insert(client(MAX_TRUSTED_CLIENTS));
        assert!(clients.contains(client(MAX_TRUSTED_CLIENTS)));
        assert_eq!(clients.lock().len(), 1);
    }
}
