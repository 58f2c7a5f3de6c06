//! The harness: each test has its own service, Stripe double and database, and calls them through
//! `TestApp`.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use billhook::clock::{Clock, ManualClock, SystemClock};
use billhook::telemetry;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::api_response::ApiResponse;
use crate::support::certificate_authority::{CertificateAuthority, CertificateFiles};
use crate::support::database::{Database, TestDatabase};
use crate::support::replica::Replica;
use crate::support::span_store::SpanStore;
use crate::support::stripe::Stripe;
use crate::support::test_slot::{acquire_slot, raise_file_limit};

pub const JWT_SECRET: &str = "canary-jwt-secret-of-at-least-32-bytes";
pub const WEBHOOK_SECRET: &str = "whsec_canary_webhook_secret";
pub const STRIPE_KEY: &str = "sk_test_canary_stripe_key";
pub const APP_URL: &str = "https://app.example.com";
pub const DEPLOYMENT: &str = "staging";
pub const PLANS: &str = "pro=pro_monthly,price_pro_yearly;team=price_team_monthly";

const PORTAL: &str = "/api/billing/create-portal-session/";
const CHECKOUT: &str = "/api/billing/create-checkout-session/";
const SUBSCRIPTION: &str = "/api/billing/subscription/";
pub const WEBHOOK: &str = "/api/billing/webhook/";

/// A hand-made event dated this long after the test's start is newer than every event of the
/// double. The double's clock runs while the test's stands still, so this allows for a slow
/// machine.
pub const NEWER_BY_SECONDS: i64 = 120;

/// Limits how many tests run at once, whatever the number of test threads. More than there are
/// cores, since tests mostly wait, but few enough that none exceeds a timeout of the service.
static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(2 * cores)
});

/// How long a test waits for something that must happen. Long, for slow machines. No test waits it
/// out.
const DEADLINE: Duration = Duration::from_mins(2);

pub struct TestApp {
    replicas: Vec<Replica>,
    arguments: Vec<String>,
    pub url: String,
    pub stripe: Stripe,
    pub database: TestDatabase,
    pub clock: Arc<ManualClock>,
    http: reqwest::Client,
    dir: TempDir,
}

impl TestApp {
    /// Starts a service in the test's process, with everything configured.
    pub async fn start(database: Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Overrides some settings, such as `("--plans", "...")`. An empty value unsets one.
    pub async fn start_with(database: Database, overrides: &[(&str, &str)]) -> Self {
        let mut app = Self::without_service(database, overrides).await;
        app.start_service().await;
        app
    }

    /// Starts the service as its own process, with this environment. It runs all that production
    /// runs, and goes by the machine's clock.
    pub async fn start_process(database: Database, environment: &[(&str, &str)]) -> Self {
        Self::start_process_with(database, &[], environment).await
    }

    pub async fn start_process_with(
        database: Database,
        overrides: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut app = Self::without_service(database, overrides).await;
        app.start_service_process(environment).await;
        app
    }

    /// Starts a service that serves HTTPS itself, with a client that trusts its certificate.
    pub async fn start_over_https(authority: &CertificateAuthority, files: &CertificateFiles) -> Self {
        let (certificate, key) = (files.certificate(), files.key());
        let settings = https_settings(&certificate, &key);
        let mut app = Self::start_with(Database::Sqlite, &settings).await;
        app.http = authority.client();
        app
    }

    pub async fn start_process_over_https(
        authority: &CertificateAuthority,
        files: &CertificateFiles,
    ) -> Self {
        let (certificate, key) = (files.certificate(), files.key());
        let settings = https_settings(&certificate, &key);
        let mut app = Self::start_process_with(Database::Sqlite, &settings, &[]).await;
        app.http = authority.client();
        app
    }

    /// Prepares all but the service, so that a test can change the database before the service
    /// starts.
    pub async fn without_service(database: Database, overrides: &[(&str, &str)]) -> Self {
        acquire_slot(&SLOTS).await;
        raise_file_limit();
        install_subscriber();
        span_store().keep_for_this_test();
        let dir = TempDir::new().expect("a directory");
        let database = TestDatabase::create(database, &dir).await;
        let stripe = Stripe::start().await;
        let log_dir = dir.path().join("logs");
        fs::create_dir(&log_dir).expect("the log directory");

        let mut settings = vec![
            ("--listen", "127.0.0.1:0"),
            ("--metrics-listen", "127.0.0.1:0"),
            ("--database-url", &database.url),
            ("--stripe-secret-key", STRIPE_KEY),
            ("--stripe-webhook-secret", WEBHOOK_SECRET),
            ("--stripe-api-base", &stripe.url),
            ("--app-url", APP_URL),
            ("--plans", PLANS),
            ("--deployment-id", DEPLOYMENT),
            ("--jwt-secret", JWT_SECRET),
            ("--log-dir", log_dir.to_str().expect("a path")),
            // A test ends without a drain.
            ("--stop-delay-seconds", "0"),
        ];
        settings.retain(|(name, _)| !overrides.iter().any(|(other, _)| other == name));
        settings.extend_from_slice(overrides);
        let arguments: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();

        let clock = Arc::new(ManualClock::at_ms(SystemClock.now_ms()));
        let http = reqwest::Client::new();
        Self { replicas: Vec::new(), arguments, url: String::new(), stripe, database, clock, http, dir }
    }

    /// Starts another replica on the same database. Returns its URL.
    pub async fn start_replica(&mut self) -> String {
        let replica = Replica::start_in_process(&self.arguments, self.clock.clone()).await;
        let url = format!("http://{}", replica.address());
        self.replicas.push(replica);
        url
    }

    async fn add_replica(&mut self, replica: Replica) {
        self.url = format!("{}://{}", replica.scheme(), replica.address());
        self.replicas.push(replica);
        self.stripe.add_webhook_endpoint(&self.url_of(WEBHOOK)).await;
    }

    /// The latest replica's metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        self.metrics_at("/metrics").await.text
    }

    /// Sends a request to the metrics listener.
    pub async fn metrics_at(&self, path: &str) -> ApiResponse {
        let address = self.latest_replica().metrics_address();
        ApiResponse::send_to_metrics(self.http.get(format!("http://{address}{path}"))).await
    }

    fn latest_replica(&self) -> &Replica {
        self.replicas.last().expect("a replica runs")
    }

    /// Signals the latest replica, which must be a process.
    pub fn send_sighup(&self) {
        self.latest_replica().signal("-HUP");
    }

    pub fn send_sigterm(&self) {
        self.latest_replica().signal("-TERM");
    }

    pub fn send_sigint(&self) {
        self.latest_replica().signal("-INT");
    }

    /// Waits until the latest replica, which must be a process, exits by itself.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.replicas.pop().expect("a replica runs").exit_code().await
    }

    /// Stops all replicas gracefully. The database and the Stripe double stay.
    pub async fn stop_service(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.stop().await;
        }
    }

    /// Starts the service, or starts it again. Stripe delivers to its new address as well.
    pub async fn start_service(&mut self) {
        let replica = Replica::start_in_process(&self.arguments, self.clock.clone()).await;
        self.add_replica(replica).await;
    }

    pub async fn start_service_process(&mut self, environment: &[(&str, &str)]) {
        let process = Replica::start_process(&self.arguments, self.dir.path(), environment).await;
        self.add_replica(process).await;
    }

    /// Starts it again with one setting changed.
    pub async fn start_service_with(&mut self, name: &str, value: &str) {
        self.arguments.retain(|setting| !setting.starts_with(&format!("{name}=")));
        self.arguments.push(format!("{name}={value}"));
        self.start_service().await;
    }

    /// Runs a command on the service's database.
    pub fn run_command(&self, words: &[&str]) -> Output {
        self.run_command_with(words, &[])
    }

    /// Overrides some environment variables.
    pub fn run_command_with(&self, words: &[&str], overrides: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_billhook"));
        // The command would warn about the variables of the tests.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"BILLHOOK_"))
        {
            command.env_remove(name);
        }
        command
            .args(words)
            .env("DATABASE_URL", &self.database.url)
            .env("BILLHOOK_PLANS", PLANS)
            .env("BILLHOOK_LOG_DIR", self.log_dir())
            .env("STRIPE_SECRET_KEY", STRIPE_KEY)
            .env("STRIPE_API_BASE", &self.stripe.url)
            .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .env("BILLHOOK_JWT_SECRET", JWT_SECRET)
            .env("BILLHOOK_APP_URL", APP_URL)
            .env("BILLHOOK_WEBHOOK_URL", &self.url)
            .env("RUST_LOG", "off")
            .envs(overrides.iter().copied())
            .output()
            .expect("the command starts")
    }

    /// Stops all replicas gracefully, as SIGTERM does, and drops the database.
    pub async fn stop(mut self) {
        self.stop_service().await;
        self.database.drop().await;
    }

    // --- tokens

    pub fn clock_seconds(&self) -> i64 {
        self.clock.now_seconds()
    }

    /// A token of one of the tenant's users.
    pub fn token(&self, tenant: &str) -> String {
        self.token_with(&json!({ "tenant": tenant }))
    }

    pub fn service_token(&self) -> String {
        self.token_with(&json!({ "scope": "billing:service" }))
    }

    /// A token whose claims override the usual ones. A null removes a claim.
    pub fn token_with(&self, claims: &Value) -> String {
        let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &self.claims(claims), &key).expect("a token")
    }

    pub fn claims(&self, overrides: &Value) -> Value {
        let mut all = json!({ "sub": "user-1", "exp": self.clock.now_seconds() + 3600 });
        for (name, value) in overrides.as_object().expect("claims are an object") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("claims are an object").retain(|_, value| !value.is_null());
        all
    }

    // --- requests

    pub async fn open_portal(&self, token: &str, body: &Value) -> ApiResponse {
        self.post(PORTAL, token, body).await
    }

    pub async fn check_out(&self, token: &str, body: &Value) -> ApiResponse {
        self.post(CHECKOUT, token, body).await
    }

    pub async fn subscription(&self, token: &str) -> ApiResponse {
        self.call(self.http.get(self.url_of(SUBSCRIPTION)).bearer_auth(token)).await
    }

    pub async fn subscription_if_none_match(&self, token: &str, etag: &str) -> ApiResponse {
        let request = self.http.get(self.url_of(SUBSCRIPTION)).bearer_auth(token);
        self.call(request.header("If-None-Match", etag)).await
    }

    pub async fn tenant_subscription(&self, tenant: &str, token: &str) -> ApiResponse {
        let path = format!("/api/billing/tenants/{tenant}/subscription/");
        self.call(self.http.get(self.url_of(&path)).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> ApiResponse {
        let request = self.http.post(self.url_of(path)).bearer_auth(token);
        self.call(request.header("Content-Type", "application/json").body(body.to_string())).await
    }

    pub async fn get(&self, path: &str) -> ApiResponse {
        self.call(self.http.get(self.url_of(path))).await
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url_of(path))
    }

    /// Sends a request. Every response is checked by [`ApiResponse::assert_conforms`].
    pub async fn call(&self, request: reqwest::RequestBuilder) -> ApiResponse {
        ApiResponse::send(request).await
    }

    // --- hand-made webhooks

    /// Posts an event as Stripe does, signed now.
    pub async fn deliver(&self, event: &Value) -> ApiResponse {
        self.deliver_at(&self.url, event).await
    }

    /// Posts it to the replica at this URL.
    pub async fn deliver_at(&self, url: &str, event: &Value) -> ApiResponse {
        let body = event.to_string();
        let header = sandbox::sign(WEBHOOK_SECRET, self.clock.now_seconds(), body.as_bytes());
        let request = self.http.post(format!("{url}{WEBHOOK}")).header("Stripe-Signature", header);
        self.call(request.body(body)).await
    }

    /// A well-formed, current `Stripe-Signature` header that no secret signed.
    pub fn forged_signature(&self) -> String {
        format!("t={},v1={}", self.clock.now_seconds(), "0".repeat(64))
    }

    pub async fn post_webhook(&self, body: Vec<u8>, signature: Option<&str>) -> ApiResponse {
        let mut request = self.http.post(self.url_of(WEBHOOK)).header("Content-Type", "application/json");
        if let Some(signature) = signature {
            request = request.header("Stripe-Signature", signature);
        }
        self.call(request.body(body)).await
    }

    /// Posts events concurrently.
    pub async fn deliver_all(&self, events: &[Value]) -> Vec<ApiResponse> {
        let deliveries = events.iter().map(|event| self.deliver(event));
        futures_util::future::join_all(deliveries).await
    }

    /// Gives an event the tenant's customer.
    pub async fn for_customer_of(&self, tenant: &str, mut event: Value) -> Value {
        event["data"]["object"]["customer"] = json!(self.customer_of(tenant).await);
        event
    }

    // --- shortcuts

    /// Takes a tenant through checkout until it is on `pro`. Returns its subscription's id.
    pub async fn subscribe_to_pro(&self, tenant: &str) -> String {
        let token = self.token(tenant);
        let bought = self.check_out(&token, &json!({})).await.ok();
        self.stripe.pay(bought["session_id"].as_str().expect("a session id")).await;
        self.wait_for_plan(tenant, "pro").await;
        let session = bought["session_id"].as_str().expect("a session id");
        let subscription = self.stripe.subscription_of_session(session).await;
        // The last event of the purchase, so that none arrives later in the test.
        self.wait_for_line("subscription_state", |line| {
            line["stripe_event_type"] == "invoice.paid" && line["subscription_id"] == subscription.as_str()
        })
        .await;
        subscription
    }

    pub async fn clear_faults_and_subscribe_to_pro(&self, tenant: &str) -> String {
        self.stripe.clear_faults().await;
        self.subscribe_to_pro(tenant).await
    }

    pub async fn wait_for_plan(&self, tenant: &str, plan: &str) -> Value {
        self.wait_for_subscription(tenant, |subscription| subscription["plan"] == plan).await
    }

    pub async fn wait_for_subscription(&self, tenant: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let token = self.token(tenant);
        eventually("the tenant's subscription is as expected", || async {
            let subscription = self.subscription(&token).await.ok();
            is_expected(&subscription).then_some(subscription)
        })
        .await
    }

    // --- logs and rows

    /// The lines of a topic so far, including those of rotated files (the log rotates as the test's
    /// clock advances). A process may not have written all of its lines yet:
    /// [`Self::wait_for_line`] waits for one.
    pub fn lines(&self, topic: &str) -> Vec<Value> {
        self.replicas.iter().for_each(Replica::flush_lines);
        let file = |suffix| self.log_dir().join(format!("{topic}.log{suffix}"));
        let rotated = (1..=14).rev().map(|number| file(format!(".{number}")));
        rotated.chain([file(String::new())]).flat_map(|file| read_json_lines(&file)).collect()
    }

    pub fn all_lines(&self) -> Vec<Value> {
        ["billing", "webhook_signatures", "subscription_state"]
            .into_iter()
            .flat_map(|topic| self.lines(topic))
            .collect()
    }

    /// What the service, which must be a process, has printed.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("billhook.stderr")).expect("stderr is read")
    }

    /// Waits until the service, which must be a process, has printed a text. Returns all it has
    /// printed.
    pub async fn wait_for_stderr(&self, text: &str) -> String {
        eventually(text, || async { Some(self.stderr()).filter(|printed| printed.contains(text)) }).await
    }

    pub async fn wait_for_line(&self, topic: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        eventually("the line is written", || async {
            self.lines(topic).into_iter().find(|line| is_expected(line))
        })
        .await
    }

    pub fn log_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("logs")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An event's outcome and reason in the inbox.
    pub async fn outcome(&self, event: &str) -> Option<(String, Option<String>)> {
        let row = self.database.row::<entity::event::Entity>(event).await;
        row.map(|row| (row.outcome, row.reason))
    }

    pub async fn outcome_of(&self, event: &Value) -> (String, Option<String>) {
        self.outcome(event["id"].as_str().expect("an id")).await.expect("the event is in the inbox")
    }

    pub async fn payload_of(&self, event: &Value) -> Option<Vec<u8>> {
        let row = self.database.row::<entity::event::Entity>(event["id"].as_str().expect("an id")).await;
        row.expect("the event is in the inbox").payload
    }

    pub async fn customer_of(&self, tenant: &str) -> String {
        let row = self.database.row::<entity::tenant::Entity>(tenant).await;
        row.and_then(|row| row.stripe_customer_id).expect("the tenant has a customer")
    }

    pub async fn journey_of(&self, tenant: &str) -> Option<String> {
        self.database.row::<entity::tenant::Entity>(tenant).await.and_then(|row| row.journey_id)
    }

    pub async fn quantity_of(&self, subscription: &str) -> i64 {
        let row = self.database.row::<entity::subscription::Entity>(subscription).await;
        let items: Value = serde_json::from_str(&row.expect("a subscription").items).expect("items");
        items[0]["quantity"].as_i64().expect("a quantity")
    }

    pub async fn status_of(&self, subscription: &str) -> String {
        let row = self.database.row::<entity::subscription::Entity>(subscription).await;
        row.expect("a subscription").status
    }

    pub async fn payment_problem_of(&self, subscription: &str) -> Option<String> {
        let row = self.database.row::<entity::subscription::Entity>(subscription).await;
        row.expect("a subscription").payment_problem
    }

    pub async fn wait_for_checkout(&self, session: &str, status: &str) {
        eventually("the checkout has its status", || async {
            let row = self.database.row::<entity::checkout::Entity>(session).await;
            row.filter(|row| row.status == status)
        })
        .await;
    }

    // --- background jobs

    /// The subjects of the queued refreshes.
    pub async fn queued_refreshes(&self) -> Vec<String> {
        let rows = self.database.rows::<entity::refresh::Entity>().await;
        rows.into_iter().map(|row| row.subject).collect()
    }

    pub async fn wait_for_refreshes(&self) {
        let done = || async { self.queued_refreshes().await.is_empty().then_some(()) };
        if poll_until_deadline(done).await.is_none() {
            let rows = self.database.rows::<entity::refresh::Entity>().await;
            let failures = self.lines("subscription_state");
            let failures: Vec<_> = failures.iter().filter(|line| line["event"] == "refresh.failed").collect();
            panic!("at {} refreshes are queued: {rows:#?}, failed: {failures:#?}", self.clock.now_ms());
        }
    }

    async fn last_backfill(&self) -> Option<entity::backfill::Model> {
        self.database.rows::<entity::backfill::Entity>().await.pop()
    }

    /// Waits until the backfill has run once.
    pub async fn wait_for_backfill(&self) {
        eventually("the backfill has run", || async {
            self.last_backfill().await.filter(|last| last.finished_at_ms > 0)
        })
        .await;
    }

    /// Advances the clock and waits until the backfill has run since.
    pub async fn run_backfill_after(&self, after_seconds: i64) {
        self.clock.advance_seconds(after_seconds);
        let now_ms = self.clock.now_ms();
        eventually("the backfill has run again", || async {
            self.last_backfill().await.filter(|last| last.finished_at_ms >= now_ms)
        })
        .await;
    }

    pub async fn watermark(&self) -> i64 {
        self.last_backfill().await.expect("the backfill has run").watermark
    }

    /// Waits until an event has been retried this often.
    pub async fn wait_for_attempts(&self, event: &Value, attempts: i64) {
        let id = event["id"].as_str().expect("an id");
        eventually("the event is retried", || async {
            let row = self.database.row::<entity::event::Entity>(id).await;
            row.filter(|row| row.attempts >= attempts)
        })
        .await;
    }

    pub async fn wait_for_outcome(&self, event: &Value, outcome: &str) {
        eventually("the event has its outcome", || async {
            (self.outcome_of(event).await.0 == outcome).then_some(())
        })
        .await;
    }

    pub async fn destroy_database(&self) {
        self.database.destroy().await;
    }

    pub fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

fn https_settings<'a>(certificate: &'a Path, key: &'a Path) -> [(&'a str, &'a str); 2] {
    let text = |path: &'a Path| path.to_str().expect("a path");
    [("--tls-certificate-file", text(certificate)), ("--tls-key-file", text(key))]
}

/// An event about an active subscription on pro, `sub_webhook` of `cus_webhook`. `change` edits the
/// subscription.
pub fn stripe_event(kind: &str, created: i64, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "id": "sub_webhook", "object": "subscription", "customer": "cus_webhook", "status": "active",
        "created": created, "cancel_at": null, "cancel_at_period_end": false, "metadata": {},
        "items": { "object": "list", "data": [{
            "id": "si_1", "quantity": 1, "current_period_end": created + 2_592_000,
            "price": { "id": "price_pro_monthly", "lookup_key": "pro_monthly" },
        }] },
    });
    change(&mut object);
    json!({
        "id": format!("evt_{}", Uuid::new_v4().simple()), "object": "event", "type": kind,
        "created": created, "livemode": false, "api_version": "2026-09-30.endive",
        "request": { "id": null }, "data": { "object": object },
    })
}

/// The directory of third-party programs and packages that the tests use.
pub fn peer_dir() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    assert!(peers.join(".done").exists(), "`make test` installs programs for the tests: run it first");
    peers
}

/// A port that is free now. It is below the range of outgoing connections and of listeners on port
/// 0 (`ip_local_port_range` in ip(7)), so that no other test takes it.
pub fn free_port() -> u16 {
    let mut candidates = std::iter::repeat_with(|| 20_000 + Uuid::new_v4().as_fields().1 % 10_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.find(is_free).expect("candidates never end")
}

/// Polls until there is a result. Panics at the deadline.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, poll: impl Fn() -> F) -> T {
    poll_until_deadline(poll).await.unwrap_or_else(|| panic!("still waiting: {what}"))
}

pub async fn poll_until_deadline<T, F: Future<Output = Option<T>>>(poll: impl Fn() -> F) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(result) = poll().await {
            return Some(result);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

pub fn read_json_lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

/// The spans of the calling test that have ended so far.
pub fn ended_spans() -> Vec<SpanData> {
    span_store().of_this_test()
}

fn span_store() -> &'static SpanStore {
    static STORE: OnceLock<SpanStore> = OnceLock::new();
    STORE.get_or_init(SpanStore::default)
}

/// Spans have ids as in the service and are kept for assertions. What the service would print is
/// discarded.
fn install_subscriber() {
    static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let provider = telemetry::tracer_provider().with_span_processor(span_store()).build();
        let subscriber = telemetry::subscriber(&provider, None, std::io::sink);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
        provider
    });
}
