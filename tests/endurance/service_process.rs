//! The service as a child process that can be killed and restarted with the same directory,
//! database and port.

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

use crate::eventually::{TEST_TIMEOUT, eventually};
use crate::random;
use crate::support::api_response::ApiResponse;
use crate::support::test_slot::acquire_slot;

pub const WEBHOOK_SECRET: &str = "whsec_endurance";

/// The service must answer within this time, whatever happens.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

const JWT_SECRET: &str = "a-jwt-secret-of-at-least-32-bytes-long";

/// Two tests at a time: one that kills the service under load needs a core, and outage tests mostly
/// wait.
pub static SLOTS: Semaphore = Semaphore::const_new(2);

/// The lines of stderr that are printed when a test fails.
const STDERR_TAIL_LINES: usize = 40;

pub struct ServiceProcess {
    dir: TempDir,
    database_url: String,
    launcher: Vec<String>,
    port: u16,
    process: Child,
    http: Client,
}

impl ServiceProcess {
    /// Starts the service in a directory of its own and waits until it is ready.
    pub async fn start(dir: TempDir, database_url: &str) -> Self {
        Self::start_by(Vec::new(), dir, database_url).await
    }

    /// Starts it by a launcher that replaces itself with the service (`exec`).
    pub async fn start_by(launcher: Vec<String>, dir: TempDir, database_url: &str) -> Self {
        acquire_slot(&SLOTS).await;
        let port = random::port();
        let database_url = database_url.to_owned();
        let process = launch(&launcher, &dir, &database_url, port);
        let http = Client::builder().timeout(RESPONSE_TIMEOUT).build().expect("a client");
        let mut service = Self { dir, database_url, launcher, port, process, http };
        while !service.wait_for_start().await {
            service.port = random::port();
            service.launch();
        }
        service
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it ends");
    }

    /// Sends SIGTERM and waits for the graceful shutdown.
    pub async fn terminate(&mut self) {
        self.signal("-TERM");
        let ended = eventually("the service ends", || {
            let status = self.process.try_wait().expect("its status can be read");
            async move { status }
        })
        .await;
        assert!(ended.success(), "{ended}: {}", self.stderr_tail());
    }

    /// Makes it reopen its log files.
    pub fn send_sighup(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Starts it again without waiting until it is ready.
    pub fn launch(&mut self) {
        self.process = launch(&self.launcher, &self.dir, &self.database_url, self.port);
    }

    /// Waits until it is ready. Launches it again while another process uses its port.
    pub async fn until_started(&mut self) {
        let started = Instant::now();
        while !self.wait_for_start().await {
            assert!(started.elapsed() < TEST_TIMEOUT, "port {} is still in use", self.port);
            self.launch();
        }
    }

    /// Returns true once it is ready, and false if its port is in use.
    async fn wait_for_start(&mut self) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("its status can be read") {
                let stderr = self.stderr_tail();
                assert!(
                    stderr.contains("BILLHOOK_LISTEN: cannot listen"),
                    "it ended with {status}: {stderr}"
                );
                return false;
            }
            if self.readiness().await == Some(200) {
                return true;
            }
            assert!(started.elapsed() < TEST_TIMEOUT, "it is not ready: {}", self.stderr_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_not_ready(&self) {
        let not_ready = || async { (self.readiness().await == Some(503)).then_some(()) };
        eventually("the service is not ready", not_ready).await;
    }

    /// Waits until it is ready without a restart.
    pub async fn until_ready(&self) {
        eventually("the service is ready", || async { (self.readiness().await == Some(200)).then_some(()) })
            .await;
    }

    /// The status of `/readyz`.
    async fn readiness(&self) -> Option<u16> {
        let response = self.http.get(format!("{}/readyz", self.url())).send().await.ok()?;
        let response = ApiResponse::read(response).await.ok()?;
        response.assert_conforms(&Method::GET);
        Some(response.status.as_u16())
    }

    /// `/readyz` and the API both return 503 in time, the API with a problem document.
    pub async fn assert_unavailable(&self) {
        let (ready, (status, body)) = join(self.readiness(), self.get_subscription("a-tenant")).await;
        assert_eq!(ready, Some(503));
        assert_eq!((status, &body["code"]), (503, &json!("unavailable")), "{body}");
    }

    /// The response's status and body.
    pub async fn get_subscription(&self, tenant: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}/api/billing/subscription/", self.url()));
        let response = ApiResponse::send(request.bearer_auth(token_of(tenant))).await;
        (response.status.as_u16(), response.json())
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

    pub fn stderr_tail(&self) -> String {
        let stderr = fs::read_to_string(stderr_of(&self.dir)).unwrap_or_default();
        let lines: Vec<_> = stderr.lines().collect();
        lines[lines.len().saturating_sub(STDERR_TAIL_LINES)..].join("\n")
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the service's last lines on stderr:\n{}", self.stderr_tail());
        }
        // The process may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn token_of(tenant: &str) -> String {
    let claims = json!({ "sub": "user-1", "tenant": tenant, "exp": SystemClock.now_seconds() + 3600 });
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

/// Without a Stripe API key, so that the service sends no requests to Stripe.
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
