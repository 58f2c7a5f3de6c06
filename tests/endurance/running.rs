//! The service as a process of its own, that can be killed and started again where it was.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billhook::clock::{Clock, SystemClock};
use futures_util::future::join;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::chance;
use crate::support::answer::Answer;
use crate::support::test_slot::acquire_slot;
use crate::waiting::{DEADLINE, eventually};

pub const WEBHOOK_SECRET: &str = "whsec_endurance";

/// How long a client waits for an answer. No client of ours should have to wait longer, whatever happens.
pub const ANSWER: Duration = Duration::from_secs(20);

const JWT_SECRET: &str = "a-jwt-secret-of-at-least-32-bytes-long";

/// A service that is killed under load needs a core for itself, and the outage tests mostly wait: two
/// tests at a time.
pub static SLOTS: Semaphore = Semaphore::const_new(2);

/// How much of what it said last is told when a story fails.
const LAST_LINES: usize = 40;

pub struct Running {
    dir: TempDir,
    database_url: String,
    launcher: Vec<String>,
    port: u16,
    process: Child,
    http: Client,
}

impl Running {
    /// Starts the service in a directory of its own and waits until it is ready.
    pub async fn start(dir: TempDir, database_url: &str) -> Self {
        Self::start_by(Vec::new(), dir, database_url).await
    }

    /// The same, by a program that becomes the service.
    pub async fn start_by(launcher: Vec<String>, dir: TempDir, database_url: &str) -> Self {
        acquire_slot(&SLOTS).await;
        let port = chance::port();
        let database_url = database_url.to_owned();
        let process = launch(&launcher, &dir, &database_url, port);
        let http = Client::builder().timeout(ANSWER).build().expect("a client");
        let mut running = Self { dir, database_url, launcher, port, process, http };
        while !running.is_up().await {
            running.port = chance::port();
            running.launch();
        }
        running
    }

    /// SIGKILL: it cannot see it come.
    pub fn kill(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it ends");
    }

    /// SIGTERM: it ends in good order, in its own time.
    pub async fn terminate(&mut self) {
        self.signal("-TERM");
        let ended = eventually("it ends", || {
            let status = self.process.try_wait().expect("it can be asked for");
            async move { status }
        })
        .await;
        assert!(ended.success(), "{ended}: {}", self.said());
    }

    /// SIGHUP: somebody has moved its files.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
    }

    /// Starts it again, and does not wait.
    pub fn launch(&mut self) {
        self.process = launch(&self.launcher, &self.dir, &self.database_url, self.port);
    }

    /// Waits until it is ready, wherever it stands with its start. Its port may have been taken in the meantime, by
    /// somebody who may leave again.
    pub async fn until_up(&mut self) {
        let begun = Instant::now();
        while !self.is_up().await {
            assert!(begun.elapsed() < DEADLINE, "port {} is still taken", self.port);
            self.launch();
        }
    }

    /// Whether it is ready in the end, or has found its port taken.
    async fn is_up(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it can be asked for") {
                let said = self.said();
                assert!(said.contains("BILLHOOK_LISTEN: cannot listen"), "it ended with {status}: {said}");
                return false;
            }
            if self.readiness().await == Some(200) {
                return true;
            }
            assert!(begun.elapsed() < DEADLINE, "it is not ready: {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it says that it is not ready.
    pub async fn until_not_ready(&self) {
        let not_ready = || async { (self.readiness().await == Some(503)).then_some(()) };
        eventually("the service is not ready", not_ready).await;
    }

    /// Waits until it is ready without being started again.
    pub async fn until_ready(&self) {
        eventually("the service is ready", || async { (self.readiness().await == Some(200)).then_some(()) })
            .await;
    }

    /// What `/readyz` answers, if anything.
    async fn readiness(&self) -> Option<u16> {
        let response = self.http.get(format!("{}/readyz", self.url())).send().await.ok()?;
        let answer = Answer::of(response).await.ok()?;
        answer.assert_well_made(&Method::GET);
        Some(answer.status.as_u16())
    }

    /// It says that it cannot work, in time and in the house's form, to whoever asks.
    pub async fn assert_unavailable(&self) {
        let (ready, (status, answer)) = join(self.readiness(), self.show("a-tenant")).await;
        assert_eq!(ready, Some(503));
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}");
    }

    /// What a tenant is entitled to: the answer's status and body.
    pub async fn show(&self, tenant: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}/api/billing/subscription/", self.url()));
        let answer = Answer::to(request.bearer_auth(token_of(tenant))).await;
        (answer.status.as_u16(), answer.json())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it said last.
    pub fn said(&self) -> String {
        let said = fs::read_to_string(stderr_of(&self.dir)).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the service said last:\n{}", self.said());
        }
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A token of a user of the tenant's.
pub fn token_of(tenant: &str) -> String {
    let claims = json!({ "sub": "user-1", "tenant": tenant, "exp": SystemClock.now_seconds() + 3600 });
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

/// With no key of Stripe's: nothing is asked of it.
fn launch(launcher: &[String], dir: &TempDir, database_url: &str, port: u16) -> Child {
    let stderr = File::options().create(true).append(true).open(stderr_of(dir)).expect("a file for stderr");
    let mut words = launcher.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_billhook"), "serve"]);
    Command::new(words.next().expect("a program"))
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RUST_LOG", "warn")
        .env("DATABASE_URL", database_url)
        .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .env("BILLHOOK_JWT_SECRET", JWT_SECRET)
        .env("BILLHOOK_PLANS", "pro=price_pro_monthly")
        .env("BILLHOOK_LISTEN", format!("127.0.0.1:{port}"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the binary runs")
}

fn stderr_of(dir: &TempDir) -> PathBuf {
    dir.path().join("stderr.log")
}
