//! The service and the collector as processes of their own.

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

use crate::load::Webhooks;

pub const WEBHOOK_SECRET: &str = "whsec_bench";

/// The key that the double lets in.
pub const STRIPE_KEY: &str = "sk_test_sandbox";

/// Signs the tokens.
const JWT_SECRET: &str = "a-secret-for-benchmarks-0123456789";

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_mins(1);

/// A database of its own, for one service.
pub struct OwnDatabase {
    pub url: String,
    /// The server and the database's name, of PostgreSQL.
    on_server: Option<(String, String)>,
    _dir: TempDir,
}

impl OwnDatabase {
    /// A SQLite file, or a new database of the server.
    pub async fn make(server: Option<&str>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let Some(server) = server else {
            let url = format!("sqlite://{}/billhook.db", dir.path().display());
            return Self { url, on_server: None, _dir: dir };
        };
        let name = format!("billhook_bench_{}", Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("the server's URL ends in a database");
        let url = format!("{base}/{name}");
        Self { url, on_server: Some((server.to_owned(), name)), _dir: dir }
    }

    /// One in which all subscriptions are held, and which nobody uses.
    pub async fn introduced(server: Option<&str>) -> Self {
        let database = Self::make(server).await;
        let service = Service::start(&database, None).await;
        database.introduce(&Webhooks::to(service.address)).await;
        service.stop();
        database
    }

    /// Has all subscriptions held, and PostgreSQL look at its tables again, as it does by itself within a minute: until then it
    /// reads through tables that it takes for small.
    pub async fn introduce(&self, webhooks: &Webhooks) {
        webhooks.introduce().await;
        self.look_again().await;
    }

    /// Has PostgreSQL look at its tables again.
    pub async fn look_again(&self) {
        if self.on_server.is_some() {
            execute(&self.url, "ANALYZE").await;
        }
    }

    /// How many events are stored that changed something, as each that is sent does.
    pub async fn applied(&self) -> u64 {
        self.count(event::Entity::find().filter(event::Column::Outcome.eq("applied"))).await
    }

    /// How many events are stored, whatever became of them.
    pub async fn stored(&self) -> u64 {
        self.count(event::Entity::find()).await
    }

    /// How often PostgreSQL has read one of the large tables as a whole. A service that has ended has reported all its scans.
    /// SQLite's plans do not depend on how large a table is, and tests look at them.
    pub async fn scans_of_large_tables(&self) -> i64 {
        if self.on_server.is_none() {
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
        if let Some((server, name)) = self.on_server {
            execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

/// One service.
pub struct Service {
    pub address: SocketAddr,
    metrics: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Service {
    /// Starts it; it exports its spans if there is a collector.
    pub async fn start(database: &OwnDatabase, collector: Option<&Collector>) -> Self {
        let endpoint = collector.map(|collector| format!("http://127.0.0.1:{}", collector.port));
        Self::run(database, endpoint.iter().map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()))).await
    }

    /// Starts it with a Stripe to ask.
    pub async fn start_with_stripe(database: &OwnDatabase, url: &str) -> Self {
        let more = [
            ("STRIPE_SECRET_KEY", STRIPE_KEY),
            ("STRIPE_API_BASE", url),
            ("BILLHOOK_APP_URL", "http://localhost"),
            ("BILLHOOK_THROTTLE_PER_MINUTE", "6000"),
        ];
        Self::run(database, more).await
    }

    async fn run<'a>(database: &OwnDatabase, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
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
            .envs(more)
            .current_dir(dir.path())
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the binary runs");
        let address = until("it listens", || told(&stderr, "listening on http://")).await;
        let metrics = until("its metrics are told", || told(&stderr, "metrics on http://")).await;
        Self { address, metrics, child, _dir: dir }
    }

    /// Waits until it says that it is ready.
    pub async fn until_ready(&self) {
        let url = format!("http://{}/readyz", self.address);
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A token of a tenant's user.
    pub fn token(tenant: &str) -> String {
        let token = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .args(["token", "--user", "bench", "--tenant", tenant])
            .env_clear()
            .env("BILLHOOK_JWT_SECRET", JWT_SECRET)
            .output()
            .expect("the binary runs");
        String::from_utf8(token.stdout).expect("text").trim().to_owned()
    }

    /// Its number at the kernel's.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Spans exported, dropped for want of room, and not taken.
    pub async fn spans(&self) -> [u64; 3] {
        let text = reqwest::get(format!("http://{}/metrics", self.metrics)).await.expect("an answer");
        let text = text.text().await.expect("text");
        ["exported", "no_room", "not_taken"].map(|outcome| {
            let series = format!("billhook_spans_total{{outcome=\"{outcome}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.expect("the series is told").parse().expect("a number")
        })
    }

    /// Waits until no more leave.
    pub async fn until_spans_have_left(&self) {
        let mut before = self.spans().await;
        loop {
            // Twice as long as the exporter waits for a batch to fill.
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
    connection.execute_unprepared(statement).await.expect("the statement is carried out");
    connection.close().await.expect("the connection closes");
}

/// Rotel (<https://github.com/streamfold/rotel>), which takes spans and forgets them.
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
        // It has nothing to lose, and may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The address that stands behind these words.
fn told(stderr: &Path, what: &str) -> Option<SocketAddr> {
    let text = fs::read_to_string(stderr).ok()?;
    let (_, rest) = text.split_once(what)?;
    let (line, _) = rest.split_once('\n')?;
    line.split([' ', '/']).next()?.parse().ok()
}

async fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        if let Some(answer) = ask() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("still waiting: {what}");
}
