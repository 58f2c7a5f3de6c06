//! More than the service can take: who is told to come again, how soon, and what is left of it afterwards.

use std::time::Duration;

use crate::load::Webhooks;
use crate::process;
use crate::service::{OwnDatabase, Service};

/// Who posts at once when all is well, and when it is not: each posts again as soon as it is answered, so that many times
/// what can be taken is offered.
const CALM: usize = 64;
const FLOOD: usize = 2000;

/// How long the service has to be itself again.
const AFTER: Duration = Duration::from_secs(1);

/// The rate before, during and in the second after a flood.
pub async fn flood(name: &str, server: Option<&str>, turn: Duration) {
    let database = OwnDatabase::make(server).await;
    let service = Service::start(&database, None).await;
    let webhooks = Webhooks::to(service.address);
    database.introduce(&webhooks).await;
    let before = webhooks.post(CALM, turn).await.per_second();
    let [_, calm_peak] = process::memory_mb(service.process());
    let flood = webhooks.flood(FLOOD, turn).await;
    let [_, peak] = process::memory_mb(service.process());
    tokio::time::sleep(AFTER).await;
    let after = webhooks.post(CALM, AFTER).await.per_second();
    service.stop();
    assert_eq!(database.stored().await, webhooks.taken(), "what was taken is stored, and nothing else");
    database.drop().await;
    println!(
        "{name}: {FLOOD} connections: {:.1} times what can be taken is offered; {:.2} of the rate before is taken, the rest \
         told to come again in {:.1} ms at the median; peak {peak:.1} MB, before {calm_peak:.1}; {:.2} of the rate a second after",
        flood.offered_per_second() / before,
        flood.taken.per_second() / before,
        flood.refused.permille(500),
        after / before,
    );
}
