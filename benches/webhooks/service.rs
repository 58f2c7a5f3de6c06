//! The service and the trace collector as child processes, with databases for them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use entity::event;
use sea_orm::{
    ColumnTrait, ConnectionTrait, Database, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, Select,
    Statement,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::load::WebhookSender;

pub const WEBHOOK_SECRET: &str = "whsec_bench";

/// A key that the Stripe double accepts.
pub const STRIPE_KEY: &str = "sk_test_sandbox";

const JWT_SECRET: &str = "a-secret-for-benchmarks-0123456789";

/// For each wait.
const TIMEOUT: Duration = Duration::from_mins(1);

pub struct BenchDatabase {
    pub url: String,
    /// The PostgreSQL server's URL and the database's name.
    postgres: Option<(String, String)>,
    _dir: TempDir,
}

impl BenchDatabase {
    /// A SQLite file, or a new database on the PostgreSQL server.
    pub async fn create(server: Option<&str>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let Some(server) = server else {
            let url = format!("sqlite://{}/billhook.db", dir.path().display());
            return Self { url, postgres: None, _dir: dir };
        };
        let name = format!("billhook_bench_{}", Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("the server's URL ends in a database");
        let url = format!("{base}/{name}");
        Self { url, postgres: Some((server.to_owned(), name)), _dir: dir }
    }

    /// A database that has all subscriptions and no service.
    pub async fn with_subscriptions(server: Option<&str>) -> Self {
        let database = Self::create(server).await;
        let service = Service::start(&database, None).await;
        database.create_subscriptions(&WebhookSender::new(service.address)).await;
        service.stop();
        database
    }

    /// Creates all subscriptions, and then updates PostgreSQL's statistics: until autovacuum does
    /// so within a minute, the planner scans tables that it takes for small.
    pub async fn create_subscriptions(&self, webhooks: &WebhookSender) {
        webhooks.create_subscriptions().await;
        self.analyze().await;
    }

    /// Updates PostgreSQL's statistics.
    pub async fn analyze(&self) {
        if self.postgres.is_some() {
            execute(&self.url, "ANALYZE").await;
        }
    }

    /// Stored events with the outcome `applied`, which each sent event should have.
    pub async fn applied(&self) -> u64 {
        self.count(event::Entity::find().filter(event::Column::Outcome.eq("applied"))).await
    }

    /// Stored events with any outcome.
    pub async fn stored(&self) -> u64 {
        self.count(event::Entity::find()).await
    }

    /// Sequential scans of the large tables on PostgreSQL. They are complete once the service has
    /// ended. On SQLite 0: its plans do not depend on the size of a table, and tests check them.
    pub async fn scans_of_large_tables(&self) -> i64 {
        if self.postgres.is_none() {
            return 0;
        }
        let connection = Database::connect(&self.url).await.expect("the database answers");
        let scans =
            "SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables WHERE relname IN ('event', 'transition')";
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, scans)).await;
        let scans = row.expect("an answer").expect("a row").try_get_by_index(0).expect("a number");
        connection.close().await.expect("the connection closes");
        scans
    }

    async fn count(&self, events: Select<event::Entity>) -> u64 {
        let connection = Database::connect(&self.url).await.expect("the database answers");
        let count = events.count(&connection).await.expect("a count");
        connection.close().await.expect("the connection closes");
        count
    }

    pub async fn drop(self) {
        if let Some((server, name)) = self.postgres {
            execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

pub struct Service {
    pub address: SocketAddr,
    metrics: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Service {
    /// Exports spans if there is a collector.
    pub async fn start(database: &BenchDatabase, collector: Option<&Collector>) -> Self {
        let endpoint = collector.map(|collector| format!("http://127.0.0.1:{}", collector.port));
        Self::run(database, endpoint.iter().map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()))).await
    }

    /// `url` is that of a Stripe double.
    pub async fn start_with_stripe(database: &BenchDatabase, url: &str) -> Self {
        let variables = [
            ("STRIPE_SECRET_KEY", STRIPE_KEY),
            ("STRIPE_API_BASE", url),
            ("BILLHOOK_APP_URL", "http://localhost"),
            ("BILLHOOK_THROTTLE_PER_MINUTE", "6000"),
        ];
        Self::run(database, variables).await
    }

    async fn run<'a>(
        database: &BenchDatabase,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let dir = TempDir::new().expect("a directory");
        let stderr = dir.path().join("stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .arg("serve")
            .env_clear()
            .env("BILLHOOK_LISTEN", "127.0.0.1:0")
            .env("BILLHOOK_METRICS_LISTEN", "127.0.0.1:0")
            .env("DATABASE_URL", &database.url)
            .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .env("BILLHOOK_JWT_SECRET", JWT_SECRET)
            .env("BILLHOOK_PLANS", "pro=price_pro_monthly")
            .envs(variables)
            .current_dir(dir.path())
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the binary runs");
        let address = until("the service listens", || logged_address(&stderr, "listening on http://")).await;
        let metrics =
            until("its metrics listener is ready", || logged_address(&stderr, "metrics on http://")).await;
        Self { address, metrics, child, _dir: dir }
    }

    pub async fn until_ready(&self) {
        let url = format!("http://{}/readyz", self.address);
        while !reqwest::get(&url).await.is_ok_and(|response| response.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn token(tenant: &str) -> String {
        let token = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .args(["token", "--user", "bench", "--tenant", tenant])
            .env_clear()
            .env("BILLHOOK_JWT_SECRET", JWT_SECRET)
            .output()
            .expect("the binary runs");
        String::from_utf8(token.stdout).expect("text").trim().to_owned()
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Spans that were exported, dropped because the queue was full, and rejected by the collector.
    pub async fn spans(&self) -> [u64; 3] {
        let text = reqwest::get(format!("http://{}/metrics", self.metrics)).await.expect("a response");
        let text = text.text().await.expect("text");
        ["exported", "no_room", "not_taken"].map(|outcome| {
            let series = format!("billhook_spans_total{{outcome=\"{outcome}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.expect("the series exists").parse().expect("a number")
        })
    }

    /// Waits until the queued spans are exported.
    pub async fn until_spans_exported(&self) {
        let mut before = self.spans().await;
        loop {
            // Twice the export interval.
            tokio::time::sleep(Duration::from_secs(10)).await;
            let now = self.spans().await;
            if now == before {
                return;
            }
            before = now;
        }
    }

    pub fn stop(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }
}

async fn execute(server: &str, statement: &str) {
    let connection = Database::connect(server).await.expect("the server answers");
    connection.execute_unprepared(statement).await.expect("the statement succeeds");
    connection.close().await.expect("the connection closes");
}

/// Rotel (<https://github.com/streamfold/rotel>), which accepts spans and discards them.
pub struct Collector {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Collector {
    pub async fn start() -> Self {
        // `make bench` installs it.
        let rotel = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/rotel/rotel-agent");
        let dir = TempDir::new().expect("a directory");
        let [port, http_port] = [free_port(), free_port()];
        let child = Command::new(rotel)
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http_port}"), "--exporter", "blackhole"])
            .args(["--pid-file", &dir.path().join("pid").display().to_string()])
            .args(["--log-file", &dir.path().join("log").display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rotel runs");
        until("rotel listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
        Self { port, child, _dir: dir }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The address after `prefix` in the log.
fn logged_address(stderr: &Path, prefix: &str) -> Option<SocketAddr> {
    let text = fs::read_to_string(stderr).ok()?;
    let (_, rest) = text.split_once(prefix)?;
    let (line, _) = rest.split_once('\n')?;
    line.split([' ', '/']).next()?.parse().ok()
}

async fn until<T>(what: &str, poll: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < TIMEOUT {
        if let Some(value) = poll() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("still waiting: {what}");
}
