//! Checks of pooled PostgreSQL connections, before a connection is used and after it is released.
//!
//! A server can stop responding without closing its connections, for example when its host loses
//! power or a firewall drops the connection's state. A caller then waits until the kernel gives up.

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::failover::Failover;

/// A connection that was idle for longer is pinged before use. While one batch follows another, the
/// check at its release is enough.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Leaves time to connect again within [`ACQUIRE_TIMEOUT`](super::connect).
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a released connection waits for a pending response: twice the statement timeout.
const PENDING_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an abandoned connection counts against the limit. A commit has no timeout, so a server
/// that cannot reach its disk or its standby looks dead as well, and would otherwise get more and
/// more connections.
const ABANDONED_CONNECTION_TTL: Duration = Duration::from_mins(15);

/// A server that is no longer the primary rejects writes, which [`Failover`] notices. A connection
/// that only reads from it never gets such an error.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(30);

/// Whether a pooled connection may be used. Replaces one that does not respond: if sqlx closed it,
/// it would first send a termination message and, with TLS, wait for the server. Replaces one from
/// before a failover as well. sqlx does not see the replacement and keeps the old age, so
/// [`after_release`] closes the new connection after one use.
pub(super) async fn before_acquire(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
    failover: Failover,
    options: Arc<PgConnectOptions>,
) -> Result<bool, sqlx::Error> {
    if failover.outdates(metadata.age) {
        *connection = PgConnection::connect_with(&options).await?;
        return Ok(true);
    }
    if metadata.idle_for >= PING_AFTER_IDLE {
        let Ok(response) = timeout(PING_TIMEOUT, connection.ping()).await else {
            tracing::warn!("PostgreSQL does not respond; replacing an idle connection");
            *connection = PgConnection::connect_with(&options).await?;
            return Ok(true);
        };
        response?;
    }
    Ok(metadata.age < MAX_CONNECTION_AGE)
}

/// Whether a released connection may be used again. Otherwise it panics: with `Ok(false)`, sqlx
/// would close the connection as described above, and without a timeout. The hook runs in a task of
/// sqlx's own, and a panic there drops the connection.
///
/// It waits for the pending responses of a statement whose caller timed out, and of the rollback of
/// its transaction. sqlx's own ping after this hook would wait for them without a timeout. A ping
/// here would cost each batch and each read a round trip. (`flush` is not documented; in sqlx 0.9
/// it waits for all pending responses.) A connection from before a failover may not be used again
/// either.
pub(super) async fn after_release(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
    failover: Failover,
    abandoned: Arc<Semaphore>,
) -> Result<bool, sqlx::Error> {
    let is_outdated = failover.outdates(metadata.age);
    let mut flushed = pin!(connection.flush());
    let flushed = match timeout(PENDING_RESPONSE_TIMEOUT, &mut flushed).await {
        Ok(flushed) => Some(flushed),
        Err(_) => flush_or_abandon(flushed, abandoned).await,
    };
    match flushed {
        Some(Ok(())) if !is_outdated => Ok(true),
        Some(_) | None => resume_unwind(Box::new("the connection is not usable")),
    }
}

/// Waits for the response until the number of abandoned connections is below its limit. `None`: the
/// connection is abandoned.
async fn flush_or_abandon(
    flushed: impl Future<Output = Result<(), sqlx::Error>>,
    abandoned: Arc<Semaphore>,
) -> Option<Result<(), sqlx::Error>> {
    tracing::warn!("PostgreSQL does not respond; abandoning a connection with a pending response");
    tokio::select! {
        flushed = flushed => Some(flushed),
        permit = abandoned.acquire_owned() => {
            tokio::spawn(async move {
                sleep(ABANDONED_CONNECTION_TTL).await;
                drop(permit);
            });
            None
        }
    }
}
