//! The second limit: the statements that the service runs for one event, in a transaction of their
//! own, and nothing else. On PostgreSQL pgbench runs them. SQLite allows one writer at a time, so
//! all tasks share one connection, which is faster than retries on a connection for each.

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
use crate::run_stats::RunStats;

/// A pgbench script.
const SCRIPT: &str = include_str!("single_event.sql");

/// The first event number on SQLite, above those that created the subscriptions.
const FIRST_NUMBER: u64 = 100_000_000_000;

/// The subscriptions must exist.
pub enum SingleEventTransactions {
    PostgreSql { url: String },
    Sqlite(Arc<Mutex<Writer>>),
}

/// The only connection to SQLite, and its next event number.
pub struct Writer {
    connection: SqliteConnection,
    number: u64,
}

impl SingleEventTransactions {
    pub async fn connect(url: &str) -> Self {
        if url.starts_with("postgres") {
            return Self::PostgreSql { url: url.to_owned() };
        }
        let options: SqliteConnectOptions = url.parse().expect("a URL");
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
        Self::Sqlite(Arc::new(Mutex::new(Writer { connection, number: FIRST_NUMBER })))
    }

    pub async fn measure(&self, connections: usize, run_duration: Duration) -> RunStats {
        match self {
            Self::PostgreSql { url } => pgbench(url, connections, run_duration),
            Self::Sqlite(writer) => sqlite(writer, connections, run_duration).await,
        }
    }
}

fn pgbench(database_url: &str, connections: usize, run_duration: Duration) -> RunStats {
    let bin = env::var("BILLHOOK_TEST_POSTGRES_BIN")
        .expect("run the benchmark with `make bench`, which starts PostgreSQL");
    let dir = TempDir::new().expect("a directory");
    let script = dir.path().join("single_event.sql");
    let filled = SCRIPT
        .replace("@FIRST@", &FIRST_SUBSCRIPTION.to_string())
        .replace("@LAST@", &(FIRST_SUBSCRIPTION + SUBSCRIPTIONS - 1).to_string())
        .replace("@PAYLOAD@", &hex::encode(event::body(0)));
    fs::write(&script, filled).expect("a file");
    let run = Command::new(PathBuf::from(bin).join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--log", "--log-prefix=latencies"])
        .arg(format!("--client={connections}"))
        .arg(format!("--time={}", run_duration.as_secs()))
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
    // Client, transaction number, and latency in microseconds.
    let latency = |line: &str| line.split(' ').nth(2).expect("a latency").parse().map(Duration::from_micros);
    let latencies: Vec<Duration> = log.lines().map(|line| latency(line).expect("a number")).collect();
    let elapsed = elapsed(&String::from_utf8_lossy(&run.stdout), latencies.len());
    RunStats::new(latencies, elapsed)
}

/// Computed from pgbench's rate, which excludes the time to connect.
#[allow(clippy::cast_precision_loss, reason = "the count is small")]
fn elapsed(output: &str, transactions: usize) -> Duration {
    let rate = output.lines().find_map(|line| line.strip_prefix("tps = ")).expect("a rate");
    let rate: f64 = rate.split(' ').next().expect("a number").parse().expect("a number");
    Duration::from_secs_f64(transactions as f64 / rate)
}

async fn sqlite(writer: &Arc<Mutex<Writer>>, connections: usize, run_duration: Duration) -> RunStats {
    let started = Instant::now();
    let tasks = (0..connections).map(|_| tokio::spawn(write_until(writer.clone(), started + run_duration)));
    let tasks: Vec<_> = tasks.collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("every transaction is committed"));
    }
    RunStats::new(latencies, started.elapsed())
}

async fn write_until(writer: Arc<Mutex<Writer>>, until: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let started = Instant::now();
        writer.lock().await.write_one().await.expect("it is written");
        latencies.push(started.elapsed());
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

/// The script's statements between BEGIN and COMMIT, in SQLite's syntax.
static STATEMENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines =
        SCRIPT.lines().skip_while(|line| *line != "BEGIN;").skip(1).take_while(|line| *line != "COMMIT;");
    lines
        .filter(|line| !line.contains("pg_notify"))
        .map(|line| {
            line.replace(":number", "?1")
                .replace(":subscription", "?2")
                .replace(r"'\x@PAYLOAD@'", "?3")
                .replace(" FOR UPDATE", "")
        })
        .collect()
});
