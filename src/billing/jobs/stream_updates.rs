//! Keeping the open streams up to date: what their tenants are entitled to is read when something tells of a change, and
//! now and then without being told.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;

use super::schedule::{Step, forever};
use crate::billing::Billing;
use crate::billing::streams::{Read, Round};
use crate::domain::ids::TenantId;
use crate::domain::tenant::Holdings;
use crate::store::{Announcements, StoreError, StoreFailure};

/// For how long what is told of is gathered before it is read. Webhooks of one happening come within a few hundredths of
/// a second, and nobody sees that a page waits for as long.
const GATHER: Duration = Duration::from_millis(25);

/// How often all tenants with streams are read without being told, in milliseconds: on SQLite the command line cannot tell,
/// and an announcement of another replica's may be lost. It costs some statements, and none while there is no stream.
const LOOK_MS: i64 = 5000;

/// Tenants that are read in one statement.
const AT_ONCE: usize = 128;

/// How long a statement may take. Beyond it the database is as good as gone, and whoever opens a stream is better told so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what is wanted and tells the streams, for good. It is the only one that does, so that an older answer never comes
/// after a newer one.
pub(super) async fn read(billing: &Billing) {
    let looked_at_ms = Mutex::new(billing.clock.steady_ms());
    forever("following entitlements", Some(billing.streams.wanted()), || async {
        let (mut looked_at_ms, now_ms) = (looked_at_ms.lock().await, billing.clock.steady_ms());
        if now_ms - *looked_at_ms >= LOOK_MS {
            billing.streams.want_all();
            *looked_at_ms = now_ms;
        }
        tokio::time::sleep(GATHER).await;
        read_wanted(billing).await;
        Ok(Step::Idle)
    })
    .await;
}

async fn read_wanted(billing: &Billing) {
    let Round { number, tenants } = billing.streams.take_wanted();
    let mut chunks = tenants.chunks(AT_ONCE);
    for tenants in &mut chunks {
        let read = tokio::time::timeout(PATIENCE, read_entitlements(billing, tenants)).await;
        let (failure, why) = match read {
            Ok(Ok(entitlements)) => {
                for (tenant, entitlement) in entitlements {
                    billing.streams.tell(number, &tenant, entitlement);
                }
                continue;
            }
            Ok(Err(error)) => (error.failure(), error.to_string()),
            Err(_) => (StoreFailure::Unavailable, "the database took too long".to_owned()),
        };
        tracing::warn!(error = why, "streams are not up to date");
        // Whoever waits for the first is told at once; whoever was told before is told later.
        let unread = tenants.iter().chain(chunks.flatten());
        return unread.for_each(|tenant| billing.streams.tell(number, tenant, Err(failure)));
    }
}

/// What cannot be read of one of the tenants is no failure of the others.
async fn read_entitlements(
    billing: &Billing,
    tenants: &[TenantId],
) -> Result<Vec<(TenantId, Read)>, StoreError> {
    let of_tenants = billing.store.holdings_of_tenants(tenants).await?;
    let catalog = &billing.policy.catalog;
    let readable = of_tenants.values().flatten().flat_map(|held| &held.subscriptions);
    let known = billing.store.known_prices(&catalog.prices_found_by_key(readable)).await?;
    let entitlement = |(tenant, held): (TenantId, Result<Holdings, StoreError>)| {
        let held = held.inspect_err(|error| {
            tracing::error!(%error, %tenant, "a subscription could not be read");
        });
        let held = held.map_err(|error| error.failure());
        (tenant, held.map(|held| catalog.entitlement(&held, &known)))
    };
    Ok(of_tenants.into_iter().map(entitlement).collect())
}

/// Passes on to the streams what this process commits, forever.
pub(super) async fn follow_commits(billing: &Billing) {
    let changed_tenants = Mutex::new(billing.reporter.changed_tenants());
    forever("following commits", None, || async {
        match changed_tenants.lock().await.recv().await {
            Ok(tenant) => billing.streams.want(&tenant),
            Err(RecvError::Lagged(_)) => billing.streams.want_all(),
            Err(RecvError::Closed) => unreachable!("the reporter lives as long as the service"),
        }
        Ok(Step::More)
    })
    .await;
}

/// Listens to what other processes announce, for good; where nobody can there is nothing to hear.
pub(super) async fn listen(billing: &Billing) {
    if !billing.store.can_announce() {
        return;
    }
    let announcements = Mutex::new(None);
    forever("listening to other replicas", None, || async {
        let mut listening = announcements.lock().await;
        // Taken out while it is listened to, so that one that fails is gone.
        let mut heard = match listening.take() {
            Some(announcements) => announcements,
            None => begin_to_listen(billing).await?,
        };
        if let Some(tenant) = heard.next().await? {
            billing.streams.want(&tenant);
        }
        *listening = Some(heard);
        Ok(Step::More)
    })
    .await;
}

/// What was announced before is lost.
async fn begin_to_listen(billing: &Billing) -> Result<Announcements, StoreError> {
    let announcements = billing.store.listen().await?;
    billing.streams.want_all();
    Ok(announcements)
}
