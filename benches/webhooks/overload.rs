//! More load than the service can process: how much it accepts, how fast it rejects the rest, and
//! how it recovers.

use std::time::Duration;

use crate::load::WebhookSender;
use crate::process;
use crate::service::{BenchDatabase, Service};

/// Each connection sends its next event as soon as it has a response, so that an overload offers
/// many times the rate that the service can accept.
const NORMAL_CONNECTIONS: usize = 64;
const OVERLOAD_CONNECTIONS: usize = 2000;

const RECOVERY_TIME: Duration = Duration::from_secs(1);

/// The rate before, during and in the second after the overload.
pub async fn measure(name: &str, server: Option<&str>, run_duration: Duration) {
    let database = BenchDatabase::create(server).await;
    let service = Service::start(&database, None).await;
    let webhooks = WebhookSender::new(service.address);
    database.create_subscriptions(&webhooks).await;
    let before = webhooks.post(NORMAL_CONNECTIONS, run_duration).await.per_second();
    let [_, normal_peak] = process::memory_mb(service.process_id());
    let overload = webhooks.overload(OVERLOAD_CONNECTIONS, run_duration).await;
    let [_, peak] = process::memory_mb(service.process_id());
    tokio::time::sleep(RECOVERY_TIME).await;
    let after = webhooks.post(NORMAL_CONNECTIONS, RECOVERY_TIME).await.per_second();
    service.stop();
    assert_eq!(database.stored().await, webhooks.accepted(), "exactly the accepted events are stored");
    database.drop().await;
    println!(
        "{name}: {OVERLOAD_CONNECTIONS} connections: offered {:.1} times the normal rate; accepted {:.2} of it, rejected the rest \
         in {:.1} ms at the median; peak {peak:.1} MB, before {normal_peak:.1}; {:.2} of the normal rate a second later",
        overload.offered_per_second() / before,
        overload.accepted.per_second() / before,
        overload.rejected.permille(500),
        after / before,
    );
}
