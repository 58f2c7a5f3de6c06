//! Notifications between the processes on one PostgreSQL database: which tenants' entitlement may
//! have changed (<https://www.postgresql.org/docs/current/sql-notify.html>). SQLite has none: its
//! only processes are one replica and the operator's commands.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor};

use super::connect::ACQUIRE_TIMEOUT;
use super::failover::Failover;
use super::{Store, StoreError};
use crate::domain::ids::TenantId;

/// The transaction of a change notifies this channel when it commits: see `SAVE_BATCH` in
/// `batch_save`.
const CHANNEL: &str = "billhook_entitlement";

/// Without a notification for this long, the connection is tested: nothing else shows that it is
/// dead, and until it is replaced the changes of other processes are only found by polling.
const TEST_INTERVAL: Duration = Duration::from_secs(10);

/// A tenant in a notification: half of the SHA-256 of its id. Every role of the database can
/// listen, and PostgreSQL logs the payload when it logs statements, so the payload does not contain
/// the tenant's id. All keys have the same length, far below the limit of 8000 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantKey(String);

impl TenantKey {
    pub fn of(tenant: &TenantId) -> Self {
        Self(hex::encode(&Sha256::digest(tenant.as_str())[..16]))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Listens on a connection of its own.
#[derive(Debug)]
pub struct ChangeListener {
    listener: PgListener,
    connected_at: Instant,
    failover: Failover,
}

impl Store {
    pub fn supports_notifications(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }

    /// PostgreSQL only: see [`supports_notifications`](Self::supports_notifications).
    pub async fn listen(&self) -> Result<ChangeListener, StoreError> {
        let options = self.db.untraced().get_postgres_connection_pool().connect_options();
        // A connection of the main pool would be missing there for as long as this one listens.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with((*options).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        // Notifications are lost while the connection is broken, so the caller has to notice.
        listener.eager_reconnect(false);
        let connected_at = Instant::now();
        listener.listen(CHANNEL).await?;
        Ok(ChangeListener { listener, connected_at, failover: self.db.failover().clone() })
    }
}

impl ChangeListener {
    /// `None`: no notification for [`TEST_INTERVAL`], and the connection works.
    ///
    /// Fails if the connection is broken. Notifications since then are lost.
    pub async fn next(&mut self) -> Result<Option<TenantKey>, StoreError> {
        match tokio::time::timeout(TEST_INTERVAL, self.listener.try_recv()).await {
            Ok(Ok(Some(notification))) => Ok(Some(TenantKey(notification.payload().to_owned()))),
            Ok(Ok(None)) => Err(StoreError::unavailable("the listening connection was closed")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => self.test_connection().await.map(|()| None),
        }
    }

    async fn test_connection(&mut self) -> Result<(), StoreError> {
        if self.failover.outdates(self.connected_at.elapsed()) {
            return Err(StoreError::unavailable(
                "the connection may lead to a server that is no longer the primary",
            ));
        }
        // Has no effect, since it listens already. `pg_stat_activity` shows the statement, and so
        // what the connection is for.
        let listen = AssertSqlSafe(format!("LISTEN {CHANNEL}"));
        match tokio::time::timeout(ACQUIRE_TIMEOUT, self.listener.execute(listen)).await {
            Ok(result) => Ok(result.map(|_| ())?),
            Err(_) => Err(StoreError::unavailable("the listening connection does not respond")),
        }
    }
}
