//! Keeping the open streams up to date: what their tenants are entitled to is read when something tells of a change, and
//! now and then without being told.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Billing;
use super::background::{Step, forever};
use crate::domain::ids::TenantId;
use crate::domain::subscription::Subscription;
use crate::store::{Announcements, StoreError};

/// For how long what is told of is gathered before it is read. Webhooks of one happening come within a few hundredths of
/// a second, and nobody sees that a page waits for as long.
const GATHER: Duration = Duration::from_millis(25);

/// How often all tenants with streams are read without being told: on SQLite the command line cannot tell, and an
/// announcement of another replica's may be lost. It costs some statements, and none while there is no stream.
const LOOK: Duration = Duration::from_secs(5);

/// Tenants that are read in one statement.
const AT_ONCE: usize = 128;

/// How long a statement may take. Beyond it the database is as good as gone, and whoever opens a stream is better told so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what is wanted and tells the streams, for good. It is the only one that does, so that an older answer never comes
/// after a newer one.
pub(super) async fn read(billing: &Billing) {
    let looked_at = Mutex::new(Instant::now());
    forever("following entitlements", Some(billing.streams.wanted()), || async {
        let mut looked_at = looked_at.lock().await;
        if looked_at.elapsed() >= LOOK {
            billing.streams.want_all();
            *looked_at = Instant::now();
        }
        tokio::time::sleep(GATHER).await;
        read_wanted(billing).await;
        Ok(Step::Idle)
    })
    .await;
}

async fn read_wanted(billing: &Billing) {
    let wanted = billing.streams.take_wanted();
    let mut chunks = wanted.chunks(AT_ONCE);
    for tenants in &mut chunks {
        let read = tokio::time::timeout(PATIENCE, billing.store.subscriptions_of_tenants(tenants)).await;
        let failure = match read {
            Ok(Ok(of_tenants)) => {
                for (tenant, held) in of_tenants {
                    tell(billing, &tenant, held);
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database took too long".to_owned(),
        };
        tracing::warn!(error = failure, "streams are not up to date");
        // Whoever waits for the first is told at once; whoever was told before is told later.
        let unread = tenants.iter().chain(chunks.flatten());
        return unread.for_each(|tenant| billing.streams.tell(tenant, None));
    }
}

fn tell(billing: &Billing, tenant: &TenantId, held: Result<Vec<Subscription>, StoreError>) {
    let entitlement = held.map(|held| billing.policy.catalog.entitlement(&held));
    let entitlement = entitlement.inspect_err(|error| {
        tracing::error!(%error, %tenant, "a subscription could not be read");
    });
    billing.streams.tell(tenant, entitlement.ok());
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
