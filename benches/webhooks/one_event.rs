//! The other limit: what the service asks of its database for one event, in a transaction for each, and nothing else.
//! PostgreSQL's own pgbench asks it there. SQLite has no such program, and here are as many tasks, each with a
//! connection.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::event::{self, FIRST_SUBSCRIPTION, SUBSCRIPTIONS};
use crate::figures::Figures;

/// What is asked, as pgbench reads it.
const SCRIPT: &str = include_str!("one_event.sql");

/// How long a connection to SQLite waits for the others: as the service's own does.
const BUSY: Duration = Duration::from_secs(5);

/// One event a transaction, over so many connections for so long. The subscriptions are held already.
pub async fn measure(database_url: &str, connections: usize, turn: Duration) -> Figures {
    if database_url.starts_with("sqlite:") {
        sqlite(database_url, connections, turn).await
    } else {
        pgbench(database_url, connections, turn)
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
    let began = Instant::now();
    let run = Command::new(PathBuf::from(bin).join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--log", "--log-prefix=latencies"])
        .arg(format!("--client={connections}"))
        .arg(format!("--time={}", turn.as_secs()))
        .arg(format!("--file={}", script.display()))
        .arg(database_url)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .output()
        .expect("pgbench runs");
    let lasted = began.elapsed();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let log = fs::read_dir(dir.path())
        .expect("the directory")
        .flatten()
        .find_map(|entry| entry.file_name().to_string_lossy().starts_with("latencies").then(|| entry.path()));
    let log = fs::read_to_string(log.expect("pgbench's log")).expect("text");
    // Client, transaction, and how long it took in microseconds.
    let latency = |line: &str| line.split(' ').nth(2).expect("a latency").parse().map(Duration::from_micros);
    Figures::of(log.lines().map(|line| latency(line).expect("a number")).collect(), lasted)
}

async fn sqlite(database_url: &str, connections: usize, turn: Duration) -> Figures {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        let options: SqliteConnectOptions = database_url.parse().expect("a URL");
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        opened.push(SqliteConnection::connect_with(&options).await.expect("the file opens"));
    }
    let began = Instant::now();
    let tasks = opened.into_iter().map(|connection| tokio::spawn(one_by_one(connection, began + turn)));
    let tasks: Vec<_> = tasks.collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("every transaction is committed"));
    }
    Figures::of(latencies, began.elapsed())
}

async fn one_by_one(mut connection: SqliteConnection, until: Instant) -> Vec<Duration> {
    static NUMBER: AtomicU64 = AtomicU64::new(1_000_000_000_000);
    let payload = event::body(0).into_bytes();
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        if began >= until {
            return latencies;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut transaction = loop {
            // Who has waited for the others in vain tries again, as the service's callers would.
            match connection.begin_with("BEGIN IMMEDIATE").await {
                Ok(transaction) => break transaction,
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("5") => {}
                Err(error) => panic!("{error}"),
            }
        };
        for statement in STATEMENTS.iter() {
            sqlx::query(statement.as_str())
                .bind(number.to_string())
                .bind((FIRST_SUBSCRIPTION + number % SUBSCRIPTIONS).to_string())
                .bind(&payload)
                .fetch_all(&mut *transaction)
                .await
                .expect("the statement is carried out");
        }
        transaction.commit().await.expect("it commits");
        latencies.push(began.elapsed());
    }
}

/// The script's statements between BEGIN and COMMIT, in SQLite's words.
static STATEMENTS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
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
