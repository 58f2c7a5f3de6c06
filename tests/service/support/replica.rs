//! One replica of the service: in the test's process, where the test controls its clock, or as its
//! own process, which runs all that production runs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use billhook::cli::serve::{ServeArgs, Service};
use billhook::clock::ManualClock;
use billhook::telemetry::metrics::Metrics;
use billhook::telemetry::topics::TopicLogs;
use clap::Parser;

use crate::support::app::eventually;

/// How long log lines may take to be written. Long, for slow machines. No test waits it out.
const FLUSH_TIMEOUT: Duration = Duration::from_mins(1);

pub enum Replica {
    InProcess { service: Box<Service>, topics: TopicLogs },
    Process { child: Process, scheme: &'static str, address: SocketAddr, metrics_address: SocketAddr },
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    serve: ServeArgs,
}

impl Replica {
    pub async fn start_in_process(arguments: &[String], clock: Arc<ManualClock>) -> Self {
        let words = std::iter::once("billhook").chain(arguments.iter().map(String::as_str));
        let config = CommandLine::parse_from(words).serve.read().expect("the configuration is valid");
        let topics = TopicLogs::start(config.logs()).expect("the log threads start");
        let metrics = Metrics::new(topics.clone(), Arc::default());
        let service = Service::start(config, topics.clone(), metrics, clock).await;
        Self::InProcess { service: Box::new(service.expect("the service starts")), topics }
    }

    /// Its stderr goes to `billhook.stderr` in `dir`.
    pub async fn start_process(arguments: &[String], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let stderr = dir.join("billhook.stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .arg("serve")
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(dir)
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the process starts");
        let child = Process(child);
        let printed_address = |what: &str| {
            let text = fs::read_to_string(&stderr).expect("stderr is read");
            let (_, rest) = text.split_once(&format!("{what} on "))?;
            // The line may be incomplete.
            let (line, _) = rest.split_once('\n')?;
            let (scheme, rest) = line.split_once("://")?;
            let address = rest.split([' ', '/']).next()?.parse().ok()?;
            Some((if scheme == "https" { "https" } else { "http" }, address))
        };
        let (scheme, address) =
            eventually("the address is printed", || async { printed_address("listening") }).await;
        let (_, metrics_address) =
            eventually("the metrics address is printed", || async { printed_address("metrics") }).await;
        Self::Process { child, scheme, address, metrics_address }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::InProcess { service, .. } => service.address(),
            Self::Process { address, .. } => *address,
        }
    }

    pub fn scheme(&self) -> &'static str {
        match self {
            Self::InProcess { service, .. } => service.scheme(),
            Self::Process { scheme, .. } => scheme,
        }
    }

    pub fn metrics_address(&self) -> SocketAddr {
        match self {
            Self::InProcess { service, .. } => service.metrics_address().expect("metrics are served"),
            Self::Process { metrics_address, .. } => *metrics_address,
        }
    }

    /// Waits until queued log lines are written. Does nothing for a process, whose queue is not
    /// known.
    pub fn flush_lines(&self) {
        if let Self::InProcess { topics, .. } = self {
            topics.flush(Instant::now() + FLUSH_TIMEOUT);
        }
    }

    pub fn signal(&self, signal: &str) {
        let Self::Process { child, .. } = self else { panic!("only a process gets signals") };
        child.signal(signal);
    }

    pub async fn exit_code(self) -> Option<i32> {
        let Self::Process { child, .. } = self else { panic!("only a process has an exit code") };
        child.wait().await.code()
    }

    /// Stops it gracefully, as SIGTERM does.
    pub async fn stop(self) {
        match self {
            Self::InProcess { service, topics } => {
                service.stop().await.expect("the service stops");
                topics.flush(Instant::now() + FLUSH_TIMEOUT);
            }
            Self::Process { child, .. } => child.terminate().await,
        }
    }
}

/// A process that is killed when the test fails.
pub struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    async fn terminate(self) {
        self.signal("-TERM");
        assert!(self.wait().await.success(), "it exits with 0");
    }

    async fn wait(mut self) -> ExitStatus {
        let exited = tokio::task::spawn_blocking(move || self.0.wait()).await.expect("joined");
        exited.expect("the process exits")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
