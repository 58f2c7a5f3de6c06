//! Keeping the open streams up to date: reads the entitlements of their tenants when a change is
//! reported, and periodically.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;

use super::schedule::{Step, run_forever};
use crate::billing::Billing;
use crate::billing::streams::{ReadResult, Round};
use crate::domain::ids::TenantId;
use crate::domain::tenant::BillingState;
use crate::store::{ChangeListener, StoreError, StoreErrorKind};

/// How long changes are collected before a read. The webhooks of one action arrive within a few
/// hundredths of a second, and no user notices the delay.
const GATHER_TIME: Duration = Duration::from_millis(25);

/// How often all tenants with streams are read without a reported change: the command line cannot
/// notify the service of its changes on SQLite, and a notification of another replica can be lost.
/// Costs a few statements, and none without streams.
const REREAD_INTERVAL_MS: i64 = 5000;

const MAX_TENANTS_PER_READ: usize = 128;

/// After this the database counts as unavailable, and a client that is opening a stream gets an
/// error.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads changed tenants and publishes their entitlements, forever. The only publisher, so that an
/// older result never follows a newer one.
pub(super) async fn publish_changes(billing: &Billing) {
    let read_at_ms = Mutex::new(billing.clock.steady_ms());
    run_forever("updating streams", Some(billing.streams.read_requested()), || async {
        let (mut read_at_ms, now_ms) = (read_at_ms.lock().await, billing.clock.steady_ms());
        if now_ms - *read_at_ms >= REREAD_INTERVAL_MS {
            billing.streams.request_read_of_all();
            *read_at_ms = now_ms;
        }
        tokio::time::sleep(GATHER_TIME).await;
        read_changed(billing).await;
        Ok(Step::Idle)
    })
    .await;
}

async fn read_changed(billing: &Billing) {
    let Round { number, tenants } = billing.streams.start_round();
    let mut chunks = tenants.chunks(MAX_TENANTS_PER_READ);
    for tenants in &mut chunks {
        let read = tokio::time::timeout(READ_TIMEOUT, read_entitlements(billing, tenants)).await;
        let (kind, why) = match read {
            Ok(Ok(entitlements)) => {
                for (tenant, entitlement) in entitlements {
                    billing.streams.publish(number, &tenant, entitlement);
                }
                continue;
            }
            Ok(Err(error)) => (error.kind(), error.to_string()),
            Err(_) => (StoreErrorKind::Unavailable, "the database took too long".to_owned()),
        };
        tracing::warn!(error = why, "streams are not up to date");
        // A client waiting for its first entitlement gets the error; open streams skip it.
        let failed = tenants.iter().chain(chunks.flatten());
        return failed.for_each(|tenant| billing.streams.publish(number, tenant, Err(kind)));
    }
}

/// A tenant with unreadable rows does not fail the others.
async fn read_entitlements(
    billing: &Billing,
    tenants: &[TenantId],
) -> Result<Vec<(TenantId, ReadResult)>, StoreError> {
    let of_tenants = billing.store.billing_states(tenants).await?;
    let catalog = &billing.policy.catalog;
    let readable = of_tenants.values().flatten().flat_map(|state| &state.subscriptions);
    let known = billing.store.known_prices(&catalog.prices_not_configured_by_id(readable)).await?;
    let entitlement = |(tenant, state): (TenantId, Result<BillingState, StoreError>)| {
        let state = state.inspect_err(|error| {
            tracing::error!(%error, %tenant, "a subscription could not be read");
        });
        let state = state.map_err(|error| error.kind());
        (tenant, state.map(|state| catalog.entitlement(&state, &known)))
    };
    Ok(of_tenants.into_iter().map(entitlement).collect())
}

/// Requests a read of each tenant that this process changed, forever.
pub(super) async fn follow_commits(billing: &Billing) {
    let changed_tenants = Mutex::new(billing.reporter.changed_tenants());
    run_forever("following commits", None, || async {
        match changed_tenants.lock().await.recv().await {
            Ok(tenant) => billing.streams.request_read(&tenant),
            Err(RecvError::Lagged(_)) => billing.streams.request_read_of_all(),
            Err(RecvError::Closed) => unreachable!("the reporter lives as long as the service"),
        }
        Ok(Step::More)
    })
    .await;
}

/// Requests a read of each tenant that other processes changed, forever. Returns at once if the
/// database has no notifications.
pub(super) async fn follow_replicas(billing: &Billing) {
    if !billing.store.supports_notifications() {
        return;
    }
    let listener: Mutex<Option<ChangeListener>> = Mutex::new(None);
    run_forever("listening to other replicas", None, || async {
        let mut listener = listener.lock().await;
        // Taken out first, so that a failed connection is dropped.
        let mut connection = if let Some(connection) = listener.take() {
            connection
        } else {
            let opened = billing.store.listen().await?;
            // Notifications sent before this are lost.
            billing.streams.request_read_of_all();
            opened
        };
        if let Some(tenant) = connection.next().await? {
            billing.streams.request_read(&tenant);
        }
        *listener = Some(connection);
        Ok(Step::More)
    })
    .await;
}
