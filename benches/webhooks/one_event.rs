//! The other limit: what the service asks of its database for one event, in a transaction for each, and nothing else.
//! PostgreSQL's own pgbench asks it there. SQLite has no such program, and one writer at a time: here as many tasks take
//! turns on one connection, which is quicker than for each to try again and again with its own.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::event::{self, FIRST_SUBSCRIPTION, SUBSCRIPTIONS};
use crate::figures::Figures;

/// What is asked, as pgbench reads it.
const SCRIPT: &str = include_str!("one_event.sql");

/// Of SQLite the first event's number: behind those that introduced the subscriptions.
const FIRST_NUMBER: u64 = 100_000_000_000;

/// The database, asked for one event a transaction. Its subscriptions are held already.
pub enum OneEvent {
    PostgreSql { url: String },
    Sqlite(Arc<Mutex<Writer>>),
}

/// The one connection that writes to SQLite, and the number of its next event.
pub struct Writer {
    connection: SqliteConnection,
    number: u64,
}

impl OneEvent {
    pub async fn on(url: &str) -> Self {
        if url.starts_with("postgres") {
            return Self::PostgreSql { url: url.to_owned() };
        }
        let options: SqliteConnectOptions = url.parse().expect("a URL");
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
        Self::Sqlite(Arc::new(Mutex::new(Writer { connection, number: FIRST_NUMBER })))
    }

    /// For so many at once for so long.
    pub async fn measure(&self, connections: usize, turn: Duration) -> Figures {
        match self {
            Self::PostgreSql { url } => pgbench(url, connections, turn),
            Self::Sqlite(writer) => sqlite(writer, connections, turn).await,
        }
    }
}

fn pgbench(database_url: &str, connections: usize, turn: Duration) -> Figures {
    let bin =
        env::var("BILLHOOK_TEST_POSTGRES_BIN").expect("run this by `make bench`, which brings PostgreSQL");
    let dir = TempDir::new().expect("a directory");
    let script = dir.path().join("one_event.sql");
    let filled = SCRIPT
        .replace("@FIRST@", &FIRST_SUBSCRIPTION.to_string())
        .replace("@LAST@", &(FIRST_SUBSCRIPTION + SUBSCRIPTIONS - 1).to_string())
        .replace("@PAYLOAD@", &hex::encode(event::body(0)));
    fs::write(&script, filled).expect("a file");
    let run = Command::new(PathBuf::from(bin).join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--log", "--log-prefix=latencies"])
        .arg(format!("--client={connections}"))
        .arg(format!("--time={}", turn.as_secs()))
        .arg(format!("--file={}", script.display()))
        .arg(database_url)
        .current_dir(dir.path())
        .output()
        .expect("pgbench runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let log = fs::read_dir(dir.path())
        .expect("the directory")
        .flatten()
        .find_map(|entry| entry.file_name().to_string_lossy().starts_with("latencies").then(|| entry.path()));
    let log = fs::read_to_string(log.expect("pgbench's log")).expect("text");
    // Client, transaction, and how long it took in microseconds.
    let latency = |line: &str| line.split(' ').nth(2).expect("a latency").parse().map(Duration::from_micros);
    let latencies: Vec<Duration> = log.lines().map(|line| latency(line).expect("a number")).collect();
    let lasted = lasted(&String::from_utf8_lossy(&run.stdout), latencies.len());
    Figures::of(latencies, lasted)
}

/// How long it took by the rate that pgbench tells, which leaves out the time to connect.
#[allow(clippy::cast_precision_loss, reason = "no run has so many")]
fn lasted(told: &str, transactions: usize) -> Duration {
    let rate = told.lines().find_map(|line| line.strip_prefix("tps = ")).expect("a rate");
    let rate: f64 = rate.split(' ').next().expect("a number").parse().expect("a number");
    Duration::from_secs_f64(transactions as f64 / rate)
}

async fn sqlite(writer: &Arc<Mutex<Writer>>, connections: usize, turn: Duration) -> Figures {
    let began = Instant::now();
    let tasks = (0..connections).map(|_| tokio::spawn(one_by_one(writer.clone(), began + turn)));
    let tasks: Vec<_> = tasks.collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("every transaction is committed"));
    }
    Figures::of(latencies, began.elapsed())
}

async fn one_by_one(writer: Arc<Mutex<Writer>>, until: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        writer.lock().await.write_one().await.expect("it is written");
        latencies.push(began.elapsed());
    }
    latencies
}

impl Writer {
    async fn write_one(&mut self) -> Result<(), sqlx::Error> {
        let payload = event::body(self.number).into_bytes();
        let subscription = (FIRST_SUBSCRIPTION + self.number % SUBSCRIPTIONS).to_string();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for statement in STATEMENTS.iter() {
            sqlx::query(statement.as_str())
                .bind(self.number.to_string())
                .bind(&subscription)
                .bind(&payload)
                .fetch_all(&mut *transaction)
                .await?;
        }
        self.number += 1;
        transaction.commit().await
    }
}

/// The script's statements between BEGIN and COMMIT, in SQLite's words.
static STATEMENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines =
        SCRIPT.lines().skip_while(|line| *line != "BEGIN;").skip(1).take_while(|line| *line != "COMMIT;");
    let ours = lines.filter(|line| !line.contains("pg_notify"));
    ours.map(|line| {
        line.replace(":number", "?1")
            .replace(":subscription", "?2")
            .replace(r"'\x@PAYLOAD@'", "?3")
            .replace(" FOR UPDATE", "")
    })
    .collect()
});
