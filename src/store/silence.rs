//! Connections to a PostgreSQL that may have gone silent: its host has lost its power, or a firewall has forgotten who talks
//! through it. Nobody hangs up, and whoever waits for an answer waits for as long as the kernel does.

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

/// For how long a connection to PostgreSQL that was given back is taken for good. It was tried then; while one batch follows
/// another that is enough.
const REST: Duration = Duration::from_secs(1);

/// How long PostgreSQL may take to say no more than that it is there. One that takes longer has gone silent, and there is
/// still time to connect anew.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long PostgreSQL may owe an answer on a connection that is given back: twice what it may take by its time limits.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// For how long a connection that was given up counts as one. A commit has no time limit, so a server that cannot reach its
/// disk or its standby looks like a silent one, and would be asked by more and more of them.
const GIVEN_UP: Duration = Duration::from_mins(15);

/// For how long a connection to PostgreSQL is used. A server that is no longer the primary rejects writes, which
/// [`Failover`] notices; a connection that only reads from it never sees such an error.
const AGE: Duration = Duration::from_mins(30);

/// Whether a PostgreSQL connection that was given back may be used again. One that has rested and gone silent is replaced:
/// told to close it, sqlx would say goodbye first, and over TLS wait for the other end then. So is one that a failover has
/// outdated; to sqlx it stays as old as it was, so it is used once and then closed by [`is_reusable`].
pub(super) async fn is_alive(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
    failover: Failover,
    anew: Arc<PgConnectOptions>,
) -> Result<bool, sqlx::Error> {
    if failover.outdates(metadata.age) {
        *connection = PgConnection::connect_with(&anew).await?;
        return Ok(true);
    }
    if metadata.idle_for >= REST {
        let Ok(answered) = timeout(SIGN_OF_LIFE, connection.ping()).await else {
            tracing::warn!("PostgreSQL has gone silent: a connection that rested is replaced");
            *connection = PgConnection::connect_with(&anew).await?;
            return Ok(true);
        };
        answered?;
    }
    Ok(metadata.age < AGE)
}

/// Whether a PostgreSQL connection that is given back may be used by others. It does not return if it may not: told so, sqlx
/// would say goodbye as above, and without a time limit. This runs in a task of sqlx's that does nothing else, and where that
/// ends the connection is closed.
///
/// sqlx tries each that is given back, and waits for the answer for as long as the kernel does. A server that has gone silent
/// is mostly found out by who had asked it something and has lost patience: that answer, and the end of their transaction,
/// is what is waited for here, and not for long. Where nothing is owed nothing is asked. A ping here would be one more round
/// trip for each batch and each read, and no safeguard: sqlx's own comes after it all the same. (`flush` is not in sqlx's
/// documentation; in 0.9 it waits for all that is owed.) One that a failover has outdated may not be used either.
pub(super) async fn is_reusable(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
    failover: Failover,
    places: Arc<Semaphore>,
) -> Result<bool, sqlx::Error> {
    let is_outdated = failover.outdates(metadata.age);
    let mut answered = pin!(connection.flush());
    let answered = match timeout(LAST_ANSWER, &mut answered).await {
        Ok(answered) => Some(answered),
        Err(_) => answered_before_a_place(answered, places).await,
    };
    match answered {
        Some(Ok(())) if !is_outdated => Ok(true),
        Some(_) | None => resume_unwind(Box::new("the connection is of no use")),
    }
}

/// Waits on for an answer, until there is a place among the connections that are given up.
async fn answered_before_a_place(
    answer: impl Future<Output = Result<(), sqlx::Error>>,
    places: Arc<Semaphore>,
) -> Option<Result<(), sqlx::Error>> {
    tracing::warn!("PostgreSQL has gone silent: a connection on which it owes an answer is given up");
    tokio::select! {
        answered = answer => Some(answered),
        place = places.acquire_owned() => {
            tokio::spawn(async move {
                sleep(GIVEN_UP).await;
                drop(place);
            });
            None
        }
    }
}
