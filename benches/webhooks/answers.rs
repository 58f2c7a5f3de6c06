//! What else is asked of the service: what a tenant is entitled to, and the portal; and how it begins and rests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::event;
use crate::figures::Figures;
use crate::load::{self, Webhooks};
use crate::process;
use crate::service::{OwnDatabase, STRIPE_KEY, Service};

/// Who reads at once.
const READERS: usize = 16;

/// Tenants that are read, so that it is not always the same one.
const TENANTS: u64 = 64;

/// Portal sessions that are made, one after the other: enough for a median.
const PORTAL_CALLS: usize = 500;

/// Starts, of which the median is told.
const STARTS: usize = 5;

/// How long a service rests before its memory is looked at: what the start needed is given back by then.
const REST: Duration = Duration::from_secs(2);

/// Reads of a tenant's subscription, against the shortest answer of the same server.
pub async fn reads(name: &str, server: Option<&str>, turn: Duration) {
    let database = OwnDatabase::make(server).await;
    let service = Service::start(&database, None).await;
    database.introduce(&Webhooks::to(service.address)).await;
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", service.address).into_bytes()
    };
    let of_tenant = |subscription: u64| {
        let token = Service::token(&format!("tenant-{subscription}"));
        get("/api/billing/subscription/", &format!("Authorization: Bearer {token}\r\n"))
    };
    let tenants = event::FIRST_SUBSCRIPTION..event::FIRST_SUBSCRIPTION + TENANTS;
    let alive = load::ask(service.address, READERS, turn, in_turn(vec![get("/healthz", "")])).await;
    let read = load::ask(service.address, READERS, turn, in_turn(tenants.map(of_tenant).collect())).await;
    println!(
        "{name}: GET subscription, {READERS} connections: {:.0}/s, {:.2} of GET /healthz; p99 {:.2} ms",
        read.per_second(),
        read.per_second() / alive.per_second(),
        read.permille(990)
    );
    service.stop();
    database.drop().await;
}

/// One request after the other, again and again.
fn in_turn(requests: Vec<Vec<u8>>) -> impl Fn() -> Vec<u8> + Clone + Send + 'static {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    move || requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()].clone()
}

/// Portal sessions, against what the Stripe double takes for the same when it is asked directly.
pub async fn portal(name: &str, server: Option<&str>) {
    let double = sandbox::Sandbox::start(sandbox::Options::default()).await.expect("the double starts");
    let database = OwnDatabase::make(server).await;
    let service = Service::start_with_stripe(&database, &double.url()).await;
    let token = Service::token("acme");
    let client = reqwest::Client::new();
    let ours = |what: &str| {
        let url = format!("http://{}/api/billing/{what}/", service.address);
        client.post(url).bearer_auth(&token).header("Content-Type", "application/json").body("{}")
    };
    answered(ours("create-checkout-session")).await;
    let theirs = |path: &str| client.get(format!("{}{path}", double.url())).bearer_auth(STRIPE_KEY);
    let customers: Value = answered(theirs("/v1/customers")).await;
    let customer = customers["data"][0]["id"].as_str().expect("a customer").to_owned();
    let portal = || {
        let form = format!("customer={customer}&return_url=http%3A%2F%2Flocalhost%2Fbilling");
        let url = format!("{}/v1/billing_portal/sessions", double.url());
        let kind = "application/x-www-form-urlencoded";
        client.post(url).bearer_auth(STRIPE_KEY).header("Content-Type", kind).body(form)
    };
    let (mut through_us, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..PORTAL_CALLS {
        through_us.push(timed(ours("create-portal-session")).await);
        direct.push(timed(portal()).await);
    }
    let [through_us, direct] = [through_us, direct].map(|latencies| {
        let lasted = latencies.iter().sum();
        Figures::of(latencies, lasted).permille(500)
    });
    println!(
        "{name}: portal: {through_us:.2} ms at the median, of which the double takes {direct:.2} and we {:.2}",
        through_us - direct
    );
    service.stop();
    database.drop().await;
    double.stop().await;
}

/// From the start of the process to its first `ready`, on a database that is there; and what it takes at rest.
pub async fn start(name: &str, server: Option<&str>) {
    let database = OwnDatabase::make(server).await;
    Service::start(&database, None).await.stop();
    let mut starts = Vec::new();
    let mut idle = 0.0;
    for _ in 0..STARTS {
        let began = Instant::now();
        let service = Service::start(&database, None).await;
        service.until_ready().await;
        starts.push(began.elapsed());
        tokio::time::sleep(REST).await;
        [idle, _] = process::memory_mb(service.process());
        service.stop();
    }
    let lasted = starts.iter().sum();
    println!(
        "{name}: ready {:.0} ms after the start; {idle:.1} MB at rest",
        Figures::of(starts, lasted).permille(500)
    );
    database.drop().await;
}

async fn timed(request: reqwest::RequestBuilder) -> Duration {
    let began = Instant::now();
    answered(request).await;
    began.elapsed()
}

async fn answered(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let bytes = answer.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}
