//! Announcements: one process on a PostgreSQL database notifies all others of the tenants whose entitlement has changed
//! (<https://www.postgresql.org/docs/current/sql-notify.html>). SQLite has no notifications: it has one replica, and beside it
//! at most a command that the operator runs.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor};

use super::connect::ACQUIRE;
use super::failover::Failover;
use super::{Store, StoreError};
use crate::domain::ids::TenantId;

/// Where changes are announced, by the transaction that commits them: see `SAVE_BATCH` in `batch_save`.
const CHANNEL: &str = "billhook_entitlement";

/// After how much silence the connection is tried: one that died without a word would be silent for good, and until another
/// takes its place changes wait for a look.
const SILENCE: Duration = Duration::from_secs(10);

/// What an announcement calls a tenant: half of its id's SHA-256. PostgreSQL lets every role of the database listen, and
/// writes what is announced into its log when it logs statements, so the tenants' names stay out of it. Its length is
/// the same for all, far below the 8000 bytes that an announcement can have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantKey(String);

impl TenantKey {
    /// The tenant's key.
    pub fn of(tenant: &TenantId) -> Self {
        Self(hex::encode(&Sha256::digest(tenant.as_str())[..16]))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What other processes announce, on a connection of its own.
#[derive(Debug)]
pub struct Announcements {
    listener: PgListener,
    connected_at: Instant,
    failover: Failover,
}

impl Store {
    /// Whether other processes can tell us of changes.
    pub fn can_announce(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }

    /// Listens to the other processes from now on. Only where they can tell.
    pub async fn listen(&self) -> Result<Announcements, StoreError> {
        let options = self.db.untraced().get_postgres_connection_pool().connect_options();
        // Not one of the pool's: it would be gone for as long as we listen.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with((*options).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        // What was announced while a connection was broken is lost, so that whoever listens has to know of it.
        listener.eager_reconnect(false);
        let connected_at = Instant::now();
        listener.listen(CHANNEL).await?;
        Ok(Announcements { listener, connected_at, failover: self.db.failover().clone() })
    }
}

impl Announcements {
    /// Waits for the next announcement; none if it was quiet for a while and the connection is well.
    ///
    /// Fails when the connection is broken. What was announced since is lost.
    pub async fn next(&mut self) -> Result<Option<TenantKey>, StoreError> {
        match tokio::time::timeout(SILENCE, self.listener.try_recv()).await {
            Ok(Ok(Some(announced))) => Ok(Some(TenantKey(announced.payload().to_owned()))),
            Ok(Ok(None)) => Err(StoreError::broken("nobody is there to listen to any more")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => self.try_connection().await.map(|()| None),
        }
    }

    async fn try_connection(&mut self) -> Result<(), StoreError> {
        if self.failover.outdates(self.connected_at.elapsed()) {
            return Err(StoreError::broken(
                "the connection may lead to a server that is no longer the primary",
            ));
        }
        // It listens already: this changes nothing, and whoever looks at the server's connections sees what this one is for.
        let again = AssertSqlSafe(format!("LISTEN {CHANNEL}"));
        match tokio::time::timeout(ACQUIRE, self.listener.execute(again)).await {
            Ok(answered) => Ok(answered.map(|_| ())?),
            Err(_) => Err(StoreError::broken("the connection that listens is dead")),
        }
    }
}
