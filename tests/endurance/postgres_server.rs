//! A PostgreSQL server for a single test, which can stop and freeze it. Unlike the shared test
//! server it waits for the disk at each commit, so that it loses nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use billhook::domain::database_url::DatabaseUrl;
use billhook::store::Store;
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, DbBackend, Statement, TransactionTrait};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::random;
use crate::service_process::SLOTS;
use crate::support::database::connect_options;
use crate::support::test_slot::acquire_slot;

/// Closing a TLS connection waits for the other end.
pub const SSLMODES: [&str; 2] = ["disable", "require"];

pub struct PostgresServer {
    dir: TempDir,
    port: u16,
    process: Child,
}

/// The ids of the stopped processes. They continue when it is dropped.
#[must_use]
pub struct FrozenServer(Vec<String>);

impl PostgresServer {
    pub async fn start() -> Self {
        acquire_slot(&SLOTS).await;
        let dir = TempDir::new().expect("a directory");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(dir.path()));
        }
        let arguments = ["--username=billhook", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        run(program(&dir, "initdb").arg("--pgdata").arg(data(&dir)).args(arguments));
        write_certificate(&dir);
        let port = random::port();
        let process = launch(&dir, port);
        let mut server = Self { dir, port, process };
        while !server.wait_for_start().await {
            server.port = random::port();
            server.process = launch(&server.dir, server.port);
        }
        server
    }

    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// The URL for a proxy's port.
    pub fn url_at(port: u16) -> String {
        format!("postgres://billhook@127.0.0.1:{port}/postgres")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it with a mode of `pg_ctl`: `fast` rolls back all transactions, `immediate` is a
    /// crash.
    pub fn stop(&mut self, mode: &str) {
        run(program(&self.dir, "pg_ctl")
            .args(["stop", "--wait", "--mode", mode, "--pgdata"])
            .arg(data(&self.dir)));
        self.process.wait().expect("it ends");
    }

    pub async fn restart(&mut self) {
        self.process = launch(&self.dir, self.port);
        assert!(self.wait_for_start().await, "it starts at the same port: {}", self.log());
    }

    /// Returns true once it accepts connections, and false if its port is in use.
    async fn wait_for_start(&mut self) -> bool {
        let url = self.url();
        let up = eventually("the PostgreSQL server answers", || {
            let ended = self.process.try_wait().expect("its status can be read");
            let url = &url;
            async move {
                match ended {
                    Some(_) => Some(false),
                    None => Database::connect(connect_options(url)).await.is_ok().then_some(true),
                }
            }
        })
        .await;
        assert!(up || self.log().contains("could not bind"), "it ended: {}", self.log());
        up
    }

    /// Stops its processes with SIGSTOP: the postmaster first, so that it starts no new one.
    pub async fn freeze(&self) -> FrozenServer {
        let pid_file = fs::read_to_string(data(&self.dir).join("postmaster.pid")).expect("its PID file");
        let postmaster = pid_file.lines().next().expect("its id");
        let mut frozen = FrozenServer(Vec::new());
        frozen.stop(postmaster).await;
        for id in children_of(postmaster) {
            frozen.stop(&id).await;
        }
        // `runuser`, which starts it as root, stops itself when its child stops.
        frozen.0.push(self.process.id().to_string());
        frozen
    }

    /// Makes the database read-only for new sessions and ends all others, as if this server had
    /// been demoted to a standby.
    pub async fn demote(&self) {
        self.execute("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
        let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.execute(others).await;
    }

    /// Makes the database writable for new sessions. Sessions from before stay read-only, as if
    /// they were still connected to the standby.
    pub async fn promote(&self) {
        self.execute("ALTER DATABASE postgres RESET default_transaction_read_only").await;
    }

    pub async fn require_password_for(&self, role: &str) {
        let path = data(&self.dir).join("pg_hba.conf");
        let others = fs::read_to_string(&path).expect("its rules");
        let first = format!("host all {role} 127.0.0.1/32 scram-sha-256\n");
        fs::write(&path, first + &others).expect("its rules are written");
        self.execute("SELECT pg_reload_conf()").await;
        let url = self.url().replace("billhook@", &format!("{role}@"));
        eventually("a password is required", || async {
            Database::connect(connect_options(&url)).await.err()
        })
        .await;
    }

    /// Works even while the database is read-only.
    pub async fn execute(&self, statement: &str) {
        let url = format!("{}?options=-c%20default_transaction_read_only%3Doff", self.url());
        let connection = Database::connect(connect_options(&url)).await.expect("the server answers");
        connection.execute_unprepared(statement).await.expect("the statement succeeds");
        connection.close().await.expect("the connection closes");
    }

    /// Blocks all other access to the tables until the transaction is dropped.
    pub async fn lock_tables(&self, tables: &[&str]) -> DatabaseTransaction {
        let connection = Database::connect(connect_options(&self.url())).await.expect("the server answers");
        let transaction = connection.begin().await.expect("a transaction");
        let lock = format!("LOCK TABLE {}", tables.join(", "));
        transaction.execute_unprepared(&lock).await.expect("the tables are locked");
        transaction
    }

    /// Waits until at least that many lock requests are blocked.
    pub async fn until_blocked(&self, count: usize) {
        let connection = Database::connect(connect_options(&self.url())).await.expect("the server answers");
        let query =
            || Statement::from_string(DbBackend::Postgres, "SELECT 1 FROM pg_locks WHERE NOT granted");
        eventually("lock requests are blocked", || async {
            let waiting = connection.query_all_raw(query()).await.expect("the locks are read");
            (waiting.len() >= count).then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }
}

impl FrozenServer {
    /// Stops a process, and waits until it has stopped.
    async fn stop(&mut self, id: &str) {
        self.0.push(id.to_owned());
        signal("STOP", id);
        eventually("the process is stopped", || async {
            let (state, _) = state_and_parent_of(id)?;
            // A process that ends stays a zombie, because the stopped postmaster does not reap it.
            matches!(state.as_str(), "T" | "Z").then_some(())
        })
        .await;
    }

    pub fn thaw(self) {
        drop(self);
    }
}

impl Drop for FrozenServer {
    fn drop(&mut self) {
        // Fails for processes that have ended.
        let _ = Command::new("kill").arg("-CONT").args(&self.0).output();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // Errors are ignored, because a panic here would hide the test's own.
            let stop = ["stop", "--wait", "--mode=immediate", "--pgdata"];
            let _ = program(&self.dir, "pg_ctl").args(stop).arg(data(&self.dir)).output();
            let _ = self.process.wait();
        }
    }
}

fn children_of(id: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("the processes").flatten();
    let ids = processes.filter_map(|process| process.file_name().into_string().ok());
    ids.filter(|child| state_and_parent_of(child).is_some_and(|(_, parent)| parent == id)).collect()
}

/// From `/proc/<id>/stat`. None if it is no process. The second field is its name in parentheses,
/// which may contain spaces and parentheses.
fn state_and_parent_of(id: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

/// Clients use TLS unless their URL disables it.
fn write_certificate(dir: &TempDir) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
        let path = data(dir).join(name);
        fs::write(&path, text).expect("it is written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the mode is set");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(path));
        }
    }
}

/// Runs as a child process and not as a daemon, so that a signal that ends the tests also ends it.
fn launch(dir: &TempDir, port: u16) -> Child {
    let log = File::create(dir.path().join("server.log")).expect("a file for its log");
    program(dir, "postgres")
        .arg("-D")
        .arg(data(dir))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "ssl=on"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the server runs")
}

/// A PostgreSQL program. It refuses to run as root, and warns about a working directory without
/// access.
fn program(dir: &TempDir, name: &str) -> Command {
    let bin = std::env::var_os("BILLHOOK_TEST_POSTGRES_BIN").expect(
        "BILLHOOK_TEST_POSTGRES_BIN names the directory of initdb and pg_ctl: run the tests with `make test`",
    );
    let path = Path::new(&bin).join(name);
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir(dir.path());
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.trim_ascii() == b"0"
}

fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

fn signal(name: &str, id: &str) {
    run(Command::new("kill").args([&format!("-{name}"), id]));
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The service's store, without the service.
pub async fn connect_store(url: &str) -> Store {
    let url = DatabaseUrl::parse(url).expect("a URL");
    Store::connect(&url).await.expect("the server answers")
}

/// Waits until no connection of the pool is in use.
pub async fn until_connections_idle(store: &Store) {
    eventually("all connections are idle", || async { (store.connections().used == 0).then_some(()) }).await;
}
