//! Reads of the subscription, portal sessions, and start-up time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::event;
use crate::load::{self, WebhookSender};
use crate::process;
use crate::run_stats::RunStats;
use crate::service::{BenchDatabase, STRIPE_KEY, Service};

const READ_CONNECTIONS: usize = 16;

const READ_TENANTS: u64 = 64;

/// Sequential requests: enough for a median.
const PORTAL_CALLS: usize = 500;

const STARTS: usize = 5;

/// The wait before the idle memory is measured. By then the service has freed what it needed for
/// its start.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Reads of a tenant's subscription, compared with `GET /healthz` of the same server.
pub async fn reads(name: &str, server: Option<&str>, run_duration: Duration) {
    let database = BenchDatabase::create(server).await;
    let service = Service::start(&database, None).await;
    database.create_subscriptions(&WebhookSender::new(service.address)).await;
    let get = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{header}\r\n", service.address).into_bytes()
    };
    let read_request = |subscription: u64| {
        let token = Service::token(&format!("tenant-{subscription}"));
        get("/api/billing/subscription/", &format!("Authorization: Bearer {token}\r\n"))
    };
    let tenants = event::FIRST_SUBSCRIPTION..event::FIRST_SUBSCRIPTION + READ_TENANTS;
    let send =
        |requests| load::send_requests(service.address, READ_CONNECTIONS, run_duration, cycle(requests));
    let health = send(vec![get("/healthz", "")]).await;
    let read = send(tenants.map(read_request).collect()).await;
    println!(
        "{name}: GET subscription, {READ_CONNECTIONS} connections: {:.0}/s, {:.2} of GET /healthz; p99 {:.2} ms",
        read.per_second(),
        read.per_second() / health.per_second(),
        read.permille(990)
    );
    service.stop();
    database.drop().await;
}

/// Repeats the requests in order, shared by all connections.
fn cycle(requests: Vec<Vec<u8>>) -> impl Fn() -> Vec<u8> + Clone + Send + 'static {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    move || requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()].clone()
}

/// Portal sessions, compared with a direct request to the Stripe double.
pub async fn portal(name: &str, server: Option<&str>) {
    let double = sandbox::Sandbox::start(sandbox::Options::default()).await.expect("the double starts");
    let database = BenchDatabase::create(server).await;
    let service = Service::start_with_stripe(&database, &double.url()).await;
    let token = Service::token("acme");
    let client = reqwest::Client::new();
    let to_service = |name: &str| {
        let url = format!("http://{}/api/billing/{name}/", service.address);
        client.post(url).bearer_auth(&token).header("Content-Type", "application/json").body("{}")
    };
    send(to_service("create-checkout-session")).await;
    let to_double = |path: &str| client.get(format!("{}{path}", double.url())).bearer_auth(STRIPE_KEY);
    let customers: Value = send(to_double("/v1/customers")).await;
    let customer = customers["data"][0]["id"].as_str().expect("a customer").to_owned();
    let portal_at_double = || {
        let form = format!("customer={customer}&return_url=http%3A%2F%2Flocalhost%2Fbilling");
        let url = format!("{}/v1/billing_portal/sessions", double.url());
        let kind = "application/x-www-form-urlencoded";
        client.post(url).bearer_auth(STRIPE_KEY).header("Content-Type", kind).body(form)
    };
    let (mut through_service, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..PORTAL_CALLS {
        through_service.push(latency(to_service("create-portal-session")).await);
        direct.push(latency(portal_at_double()).await);
    }
    let [through_service, direct] = [through_service, direct].map(median_ms);
    println!(
        "{name}: portal: {through_service:.2} ms at the median; {direct:.2} in the double, {:.2} in the service",
        through_service - direct
    );
    service.stop();
    database.drop().await;
    double.stop().await;
}

/// The time from the start of the process until `/readyz` returns 200, on an existing database, and
/// the idle memory.
pub async fn start(name: &str, server: Option<&str>) {
    let database = BenchDatabase::create(server).await;
    Service::start(&database, None).await.stop();
    let mut starts = Vec::new();
    let mut idle = 0.0;
    for _ in 0..STARTS {
        let started = Instant::now();
        let service = Service::start(&database, None).await;
        service.until_ready().await;
        starts.push(started.elapsed());
        tokio::time::sleep(SETTLE_TIME).await;
        [idle, _] = process::memory_mb(service.process_id());
        service.stop();
    }
    println!("{name}: ready {:.0} ms after the start; {idle:.1} MB when idle", median_ms(starts));
    database.drop().await;
}

fn median_ms(latencies: Vec<Duration>) -> f64 {
    let elapsed = latencies.iter().sum();
    RunStats::new(latencies, elapsed).permille(500)
}

async fn latency(request: reqwest::RequestBuilder) -> Duration {
    let started = Instant::now();
    send(request).await;
    started.elapsed()
}

async fn send(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("a response");
    assert!(response.status().is_success(), "{}", response.status());
    let bytes = response.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}
