//! A PostgreSQL server of a story's own, to be stopped and frozen. Unlike the one that the tests share it waits for
//! its disk, as it must where nothing may be lost.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use billhook::domain::database_url::DatabaseUrl;
use billhook::store::Store;
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, DbBackend, Statement, TransactionTrait};
use tempfile::TempDir;

use crate::chance;
use crate::running::SLOTS;
use crate::support::database::unattended;
use crate::support::test_slot::acquire_slot;
use crate::waiting::eventually;

/// Without TLS, and with it, where who says goodbye waits for the other end.
pub const SSLMODES: [&str; 2] = ["disable", "require"];

pub struct Server {
    dir: TempDir,
    port: u16,
    process: Child,
}

/// A server that stands still, with whoever is connected to it.
#[must_use]
pub struct Frozen(Vec<String>);

impl Server {
    pub async fn start() -> Self {
        acquire_slot(&SLOTS).await;
        let dir = TempDir::new().expect("a directory");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(dir.path()));
        }
        let arguments = ["--username=billhook", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        run(program(&dir, "initdb").arg("--pgdata").arg(data(&dir)).args(arguments));
        certify(&dir);
        let port = chance::port();
        let process = launch(&dir, port);
        let mut server = Self { dir, port, process };
        while !server.is_up().await {
            server.port = chance::port();
            server.process = launch(&server.dir, server.port);
        }
        server
    }

    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// The same, of what leads to it.
    pub fn url_at(port: u16) -> String {
        format!("postgres://billhook@127.0.0.1:{port}/postgres")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it as `pg_ctl` does: `fast` ends all transactions in good order, `immediate` is a crash.
    pub fn stop(&mut self, mode: &str) {
        run(program(&self.dir, "pg_ctl")
            .args(["stop", "--wait", "--mode", mode, "--pgdata"])
            .arg(data(&self.dir)));
        self.process.wait().expect("it ends");
    }

    pub async fn start_again(&mut self) {
        self.process = launch(&self.dir, self.port);
        assert!(self.is_up().await, "it comes up where it was: {}", self.said());
    }

    /// Whether it answers in the end, or has found its port taken.
    async fn is_up(&mut self) -> bool {
        let url = self.url();
        let up = eventually("the PostgreSQL server answers", || {
            let ended = self.process.try_wait().expect("it can be asked for");
            let url = &url;
            async move {
                match ended {
                    Some(_) => Some(false),
                    None => Database::connect(unattended(url)).await.is_ok().then_some(true),
                }
            }
        })
        .await;
        assert!(up || self.said().contains("could not bind"), "it ended: {}", self.said());
        up
    }

    /// Stops its processes where they are: the first of them first, so that no new one comes.
    pub async fn freeze(&self) -> Frozen {
        let first = fs::read_to_string(data(&self.dir).join("postmaster.pid")).expect("its file");
        let first = first.lines().next().expect("its id");
        let mut frozen = Frozen(Vec::new());
        frozen.stop(first).await;
        for id in children_of(first) {
            frozen.stop(&id).await;
        }
        // What starts it for us, as root, stops when it does.
        frozen.0.push(self.process.id().to_string());
        frozen
    }

    /// Makes its database read-only for every session that begins from now on, and ends the others, as if this server had
    /// been demoted to a standby.
    pub async fn demote(&self) {
        self.administrate("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
        let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.administrate(others).await;
    }

    /// Takes that back for every session that begins from now on. Sessions that began in between stay read-only, as if they
    /// were still connected to the standby.
    pub async fn promote(&self) {
        self.administrate("ALTER DATABASE postgres RESET default_transaction_read_only").await;
    }

    /// Demands a password of a role from now on.
    pub async fn ask_for_password_of(&self, role: &str) {
        let path = data(&self.dir).join("pg_hba.conf");
        let others = fs::read_to_string(&path).expect("its rules");
        let first = format!("host all {role} 127.0.0.1/32 scram-sha-256\n");
        fs::write(&path, first + &others).expect("its rules are written");
        self.administrate("SELECT pg_reload_conf()").await;
        let url = self.url().replace("billhook@", &format!("{role}@"));
        eventually("a password is demanded", || async { Database::connect(unattended(&url)).await.err() })
            .await;
    }

    /// Carries out a statement, also while the database is read-only.
    pub async fn administrate(&self, statement: &str) {
        let url = format!("{}?options=-c%20default_transaction_read_only%3Doff", self.url());
        let connection = Database::connect(unattended(&url)).await.expect("the server answers");
        connection.execute_unprepared(statement).await.expect("the statement is carried out");
        connection.close().await.expect("the connection closes");
    }

    /// Lets nobody else look at some tables, until what is returned is dropped.
    pub async fn hold(&self, tables: &[&str]) -> DatabaseTransaction {
        let connection = Database::connect(unattended(&self.url())).await.expect("the server answers");
        let held = connection.begin().await.expect("a transaction");
        let lock = format!("LOCK TABLE {}", tables.join(", "));
        held.execute_unprepared(&lock).await.expect("the tables are locked");
        held
    }

    /// Waits until so many are held up by others.
    pub async fn until_held_up(&self, many: usize) {
        let connection = Database::connect(unattended(&self.url())).await.expect("the server answers");
        let ask = || Statement::from_string(DbBackend::Postgres, "SELECT 1 FROM pg_locks WHERE NOT granted");
        eventually("somebody is held up", || async {
            let waiting = connection.query_all_raw(ask()).await.expect("the server tells who waits");
            (waiting.len() >= many).then_some(())
        })
        .await;
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }
}

impl Frozen {
    /// Stops a process, and waits until it has.
    async fn stop(&mut self, id: &str) {
        self.0.push(id.to_owned());
        signal("STOP", id);
        eventually("the process stands still", || async {
            let (state, _) = state_and_parent_of(id)?;
            // One that has ended stays with the first, which has no time for it.
            matches!(state.as_str(), "T" | "Z").then_some(())
        })
        .await;
    }

    pub fn thaw(self) {
        drop(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // What has ended by now needs no waking.
        let _ = Command::new("kill").arg("-CONT").args(&self.0).output();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // A panic of its own would hide the one that may have brought us here.
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

/// What the system says of a process, if it is one. Its name, in brackets, may be anything.
fn state_and_parent_of(id: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

/// For TLS, which clients want unless their URL says otherwise; with a certificate of nobody's.
fn certify(dir: &TempDir) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
        let path = data(dir).join(name);
        fs::write(&path, text).expect("it is written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is nobody else's");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(path));
        }
    }
}

/// As a child of ours and not as a daemon, so that a signal that ends the tests ends it too.
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

/// One of PostgreSQL's programs. It refuses to run as root, and warns about a working directory that it may not enter.
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
    let output = Command::new("id").arg("-u").output().expect("the system tells who we are");
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

/// The service's way to the server, without the service.
pub async fn store_at(url: &str) -> Store {
    let url = DatabaseUrl::parse(url).expect("a URL");
    Store::connect(&url).await.expect("the server answers")
}

/// Waits until nobody uses a connection of its.
pub async fn until_at_rest(store: &Store) {
    eventually("all connections rest", || async { (store.connections().used == 0).then_some(()) }).await;
}
