//! The harness: a service and a Stripe double of the test's own, and the verbs that the stories are told in.

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

use crate::support::answer::Answer;
use crate::support::authority::{Authority, Files};
use crate::support::database::{Database, Fresh};
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

/// So long after a test's start an event made by hand is newer than all that the double has made,
/// whose clock goes on while the test's stands still, on a slow machine too.
pub const LATER: i64 = 120;

/// How many tests run at once, whatever the number of test threads: more than there are cores, since
/// most of them wait most of the time, and few enough that none misses a time limit of the service.
static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(2 * cores)
});

/// How long a story waits for what must happen. Long, for slow machines; nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_mins(2);

pub struct TestApp {
    replicas: Vec<Replica>,
    line: Vec<String>,
    pub url: String,
    pub stripe: Stripe,
    pub database: Fresh,
    pub clock: Arc<ManualClock>,
    http: reqwest::Client,
    dir: TempDir,
}

impl TestApp {
    /// The service as an operator would have it, all configured.
    pub async fn start(database: Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// The same, with some variables set otherwise: `("--plans", "...")`. Setting one to nothing unsets it.
    pub async fn start_with(database: Database, otherwise: &[(&str, &str)]) -> Self {
        let mut app = Self::without_service(database, otherwise).await;
        app.come_back().await;
        app
    }

    /// The same, as a process of its own with this environment: all that runs in production, and by the machine's clock.
    pub async fn start_process(database: Database, environment: &[(&str, &str)]) -> Self {
        Self::start_process_with(database, &[], environment).await
    }

    /// The same, with some variables set otherwise.
    pub async fn start_process_with(
        database: Database,
        otherwise: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut app = Self::without_service(database, otherwise).await;
        app.come_back_as_process(environment).await;
        app
    }

    /// The service as it speaks HTTPS by itself, and a client that trusts it.
    pub async fn start_over_https(authority: &Authority, files: &Files) -> Self {
        let (certificate, key) = (files.certificate(), files.key());
        let settings = https_settings(&certificate, &key);
        let mut app = Self::start_with(Database::Sqlite, &settings).await;
        app.http = authority.client();
        app
    }

    /// The same, as a process of its own.
    pub async fn start_process_over_https(authority: &Authority, files: &Files) -> Self {
        let (certificate, key) = (files.certificate(), files.key());
        let settings = https_settings(&certificate, &key);
        let mut app = Self::start_process_with(Database::Sqlite, &settings, &[]).await;
        app.http = authority.client();
        app
    }

    /// All but the service: the story makes something of its database before it comes.
    pub async fn without_service(database: Database, otherwise: &[(&str, &str)]) -> Self {
        acquire_slot(&SLOTS).await;
        raise_file_limit();
        install_subscriber();
        span_store().keep_for_this_test();
        let dir = TempDir::new().expect("a directory");
        let database = Fresh::make(database, &dir).await;
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
            // Nobody is to be told before a story ends.
            ("--stop-delay-seconds", "0"),
        ];
        settings.retain(|(name, _)| !otherwise.iter().any(|(other, _)| other == name));
        settings.extend_from_slice(otherwise);
        let line: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();

        let clock = Arc::new(ManualClock::at_ms(SystemClock.now_ms()));
        let http = reqwest::Client::new();
        Self { replicas: Vec::new(), line, url: String::new(), stripe, database, clock, http, dir }
    }

    /// Another replica on the same database. Returns its address.
    pub async fn start_replica(&mut self) -> String {
        let replica = Replica::here(&self.line, self.clock.clone()).await;
        let url = format!("http://{}", replica.address());
        self.replicas.push(replica);
        url
    }

    async fn go_up(&mut self, replica: Replica) {
        self.url = format!("{}://{}", replica.scheme(), replica.address());
        self.replicas.push(replica);
        self.stripe.deliver_to(&self.at(WEBHOOK)).await;
    }

    /// What Prometheus would read of the latest replica.
    pub async fn metrics(&self) -> String {
        self.metrics_at("/metrics").await.text
    }

    /// Asks the listener for metrics, whose requests have no traces.
    pub async fn metrics_at(&self, path: &str) -> Answer {
        let address = self.replicas.last().expect("a replica").metrics_address();
        Answer::untraced(self.http.get(format!("http://{address}{path}"))).await
    }

    /// Sends the latest replica, which is a process, a SIGHUP.
    pub fn hang_up(&self) {
        self.replicas.last().expect("a replica").signal("-HUP");
    }

    /// Sends the latest replica, which is a process, the signal to leave, and does not wait.
    pub fn terminate(&self) {
        self.replicas.last().expect("a replica").signal("-TERM");
    }

    /// The same, from a terminal.
    pub fn interrupt(&self) {
        self.replicas.last().expect("a replica").signal("-INT");
    }

    /// Waits until the latest replica, which is a process, has ended, and says with which exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.replicas.pop().expect("a replica").exit_code().await
    }

    /// Ends the service, and leaves all else as it is.
    pub async fn go_down(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.stop().await;
        }
    }

    /// Starts it again, at another address, of which Stripe is told.
    pub async fn come_back(&mut self) {
        let replica = Replica::here(&self.line, self.clock.clone()).await;
        self.go_up(replica).await;
    }

    /// Starts it again as a process of its own.
    pub async fn come_back_as_process(&mut self, environment: &[(&str, &str)]) {
        let process = Replica::process(&self.line, self.dir.path(), environment).await;
        self.go_up(process).await;
    }

    /// Starts it again with one variable set otherwise.
    pub async fn come_back_with(&mut self, name: &str, value: &str) {
        self.line.retain(|setting| !setting.starts_with(&format!("{name}=")));
        self.line.push(format!("{name}={value}"));
        self.come_back().await;
    }

    /// Runs the command line on the service's own database.
    pub fn run_command(&self, words: &[&str]) -> Output {
        self.run_command_with(words, &[])
    }

    /// The same, with some variables set otherwise.
    pub fn run_command_with(&self, words: &[&str], otherwise: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_billhook"));
        // Those of the tests themselves, which the command would warn of.
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
            .envs(otherwise.iter().copied())
            .output()
            .expect("the binary runs")
    }

    /// Ends the service in an orderly way, as SIGTERM does, and takes its database away.
    pub async fn stop(mut self) {
        self.go_down().await;
        self.database.drop().await;
    }

    // --- who asks

    pub fn clock_seconds(&self) -> i64 {
        self.clock.now_seconds()
    }

    /// A token of a user of the tenant's.
    pub fn token(&self, tenant: &str) -> String {
        self.token_with(&json!({ "tenant": tenant }))
    }

    pub fn service_token(&self) -> String {
        self.token_with(&json!({ "scope": "billing:service" }))
    }

    /// A token with these claims over the usual ones; a null removes one.
    pub fn token_with(&self, claims: &Value) -> String {
        let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &self.claims(claims), &key).expect("a token")
    }

    /// These claims over the usual ones; a null removes one.
    pub fn claims(&self, others: &Value) -> Value {
        let mut all = json!({ "sub": "user-1", "exp": self.clock.now_seconds() + 3600 });
        for (name, value) in others.as_object().expect("claims are an object") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("claims are an object").retain(|_, value| !value.is_null());
        all
    }

    // --- what they ask

    pub async fn open_portal(&self, token: &str, body: &Value) -> Answer {
        self.post(PORTAL, token, body).await
    }

    pub async fn check_out(&self, token: &str, body: &Value) -> Answer {
        self.post(CHECKOUT, token, body).await
    }

    pub async fn subscription(&self, token: &str) -> Answer {
        self.call(self.http.get(self.at(SUBSCRIPTION)).bearer_auth(token)).await
    }

    pub async fn subscription_unless(&self, token: &str, etag: &str) -> Answer {
        let request = self.http.get(self.at(SUBSCRIPTION)).bearer_auth(token);
        self.call(request.header("If-None-Match", etag)).await
    }

    pub async fn subscription_of(&self, tenant: &str, token: &str) -> Answer {
        let path = format!("/api/billing/tenants/{tenant}/subscription/");
        self.call(self.http.get(self.at(&path)).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let request = self.http.post(self.at(path)).bearer_auth(token);
        self.call(request.header("Content-Type", "application/json").body(body.to_string())).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(self.http.get(self.at(path))).await
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.at(path))
    }

    /// Sends a request. Every answer is held to the house's rules.
    pub async fn call(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::to(request).await
    }

    // --- webhooks made by hand

    /// Posts an event as Stripe would: signed now.
    pub async fn deliver(&self, event: &Value) -> Answer {
        self.deliver_at(&self.url, event).await
    }

    /// The same, to one of several replicas.
    pub async fn deliver_at(&self, url: &str, event: &Value) -> Answer {
        let body = event.to_string();
        let header = sandbox::sign(WEBHOOK_SECRET, self.clock.now_seconds(), body.as_bytes());
        let request = self.http.post(format!("{url}{WEBHOOK}")).header("Stripe-Signature", header);
        self.call(request.body(body)).await
    }

    /// A header that looks like Stripe's, of now, and that no secret made.
    pub fn forged_signature(&self) -> String {
        format!("t={},v1={}", self.clock.now_seconds(), "0".repeat(64))
    }

    pub async fn post_webhook(&self, body: Vec<u8>, signature: Option<&str>) -> Answer {
        let mut request = self.http.post(self.at(WEBHOOK)).header("Content-Type", "application/json");
        if let Some(signature) = signature {
            request = request.header("Stripe-Signature", signature);
        }
        self.call(request.body(body)).await
    }

    /// Posts many at once, as a burst would come.
    pub async fn deliver_all(&self, events: &[Value]) -> Vec<Answer> {
        let deliveries = events.iter().map(|event| self.deliver(event));
        futures_util::future::join_all(deliveries).await
    }

    /// The same event, for the tenant's own customer.
    pub async fn for_customer_of(&self, tenant: &str, mut event: Value) -> Value {
        event["data"]["object"]["customer"] = json!(self.customer_of(tenant).await);
        event
    }

    // --- stories' shortcuts

    /// Walks a tenant through checkout until its page says `pro`. Returns its subscription's id at Stripe.
    pub async fn make_pro(&self, tenant: &str) -> String {
        let token = self.token(tenant);
        let bought = self.check_out(&token, &json!({})).await.ok();
        self.stripe.pay(bought["session_id"].as_str().expect("a session id")).await;
        self.until_plan(tenant, "pro").await;
        let session = bought["session_id"].as_str().expect("a session id");
        let subscription = self.stripe.subscription_of_session(session).await;
        // The last of the purchase's events, so that none of them comes into the story later.
        self.line("subscription_state", |line| {
            line["stripe_event_type"] == "invoice.paid" && line["subscription_id"] == subscription.as_str()
        })
        .await;
        subscription
    }

    /// The same for a tenant whose webhooks were in disorder: all is well again first.
    pub async fn make_pro_again(&self, tenant: &str) -> String {
        self.stripe.all_is_well().await;
        self.make_pro(tenant).await
    }

    pub async fn until_plan(&self, tenant: &str, plan: &str) -> Value {
        self.until(tenant, |answer| answer["plan"] == plan).await
    }

    /// Waits until the tenant's subscription is as it should be.
    pub async fn until(&self, tenant: &str, is: impl Fn(&Value) -> bool) -> Value {
        let token = self.token(tenant);
        eventually("the tenant's subscription is as it should be", || async {
            let answer = self.subscription(&token).await.ok();
            is(&answer).then_some(answer)
        })
        .await
    }

    // --- what was written

    /// The lines of a topic so far, also of the files that were rotated because the story's clock went on. Of a service
    /// that is a process, those that it has written; [`Self::line`] waits for one.
    pub fn lines(&self, topic: &str) -> Vec<Value> {
        self.replicas.iter().for_each(Replica::flush_lines);
        let file = |suffix| self.log_dir().join(format!("{topic}.log{suffix}"));
        let rotated = (1..=14).rev().map(|number| file(format!(".{number}")));
        rotated.chain([file(String::new())]).flat_map(|file| lines_of(&file)).collect()
    }

    /// The lines of all topics so far.
    pub fn all_lines(&self) -> Vec<Value> {
        ["billing", "webhook_signatures", "subscription_state"]
            .into_iter()
            .flat_map(|topic| self.lines(topic))
            .collect()
    }

    /// What a service that is a process has printed.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("billhook.stderr")).expect("what it prints")
    }

    /// Waits until a service that is a process has printed a text, and returns all that it has printed.
    pub async fn until_printed(&self, text: &str) -> String {
        eventually(text, || async { Some(self.stderr()).filter(|printed| printed.contains(text)) }).await
    }

    /// Waits for a line of a topic that is as it should be.
    pub async fn line(&self, topic: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually("the line is written", || async { self.lines(topic).into_iter().find(|line| is(line)) })
            .await
    }

    pub fn log_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("logs")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What became of an event, by the inbox: outcome and reason.
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

    /// The id of the journey that the tenant is on.
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

    pub async fn until_checkout(&self, session: &str, status: &str) {
        eventually("the checkout is as it should be", || async {
            let row = self.database.row::<entity::checkout::Entity>(session).await;
            row.filter(|row| row.status == status)
        })
        .await;
    }

    // --- the work in the background

    /// What Stripe is still to be asked about.
    pub async fn questions(&self) -> Vec<String> {
        let rows = self.database.rows::<entity::refresh::Entity>().await;
        rows.into_iter().map(|row| row.subject).collect()
    }

    pub async fn until_nothing_is_asked(&self) {
        let asked = || async { self.questions().await.is_empty().then_some(()) };
        if until_deadline(asked).await.is_none() {
            let rows = self.database.rows::<entity::refresh::Entity>().await;
            let failures = self.lines("subscription_state");
            let failures: Vec<_> = failures.iter().filter(|line| line["event"] == "refresh.failed").collect();
            panic!("at {} there are still {rows:#?}, after {failures:#?}", self.clock.now_ms());
        }
    }

    async fn last_backfill(&self) -> Option<entity::backfill::Model> {
        self.database.rows::<entity::backfill::Entity>().await.pop()
    }

    /// Waits until the backfill has run at all.
    pub async fn until_backfilled(&self) {
        eventually("the backfill has run", || async {
            self.last_backfill().await.filter(|last| last.finished_at_ms > 0)
        })
        .await;
    }

    /// Lets time pass, and waits until the backfill has run since.
    pub async fn next_backfill(&self, after_seconds: i64) {
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

    /// Waits until an event has been tried again so often.
    pub async fn until_tried(&self, event: &Value, tries: i64) {
        let id = event["id"].as_str().expect("an id");
        eventually("the event is tried again", || async {
            let row = self.database.row::<entity::event::Entity>(id).await;
            row.filter(|row| row.attempts >= tries)
        })
        .await;
    }

    pub async fn until_outcome(&self, event: &Value, outcome: &str) {
        eventually("the event has its outcome", || async {
            (self.outcome_of(event).await.0 == outcome).then_some(())
        })
        .await;
    }

    /// Makes the database unusable.
    pub async fn lose_database(&self) {
        self.database.lose().await;
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

fn https_settings<'a>(certificate: &'a Path, key: &'a Path) -> [(&'a str, &'a str); 2] {
    let text = |path: &'a Path| path.to_str().expect("a path");
    [("--tls-certificate-file", text(certificate)), ("--tls-key-file", text(key))]
}

/// An event about a subscription of its own (`sub_webhook` of `cus_webhook`, active on pro), changed at will.
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

/// Programs and packages of others that the tests hold the service against.
pub fn peers() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    assert!(peers.join(".done").exists(), "`make test` installs programs for the tests: run it first");
    peers
}

/// A port that is free now. It is below the range of outgoing connections and of listeners that take
/// any port (`ip_local_port_range` in ip(7)), so that it stays free while others come and go.
pub fn free_port() -> u16 {
    let mut candidates = std::iter::repeat_with(|| 20_000 + Uuid::new_v4().as_fields().1 % 10_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.find(is_free).expect("candidates never end")
}

/// Asks again and again, until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    until_deadline(ask).await.unwrap_or_else(|| panic!("still waiting: {what}"))
}

/// The same, where that may be in vain.
pub async fn until_deadline<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

pub fn lines_of(file: &Path) -> Vec<Value> {
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

/// Spans have ids in tests as they have in the service, and are kept for a look; what the service would print goes
/// nowhere.
fn install_subscriber() {
    static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let provider = telemetry::tracer_provider().with_span_processor(span_store()).build();
        let subscriber = telemetry::subscriber(&provider, None, std::io::sink);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
        provider
    });
}
