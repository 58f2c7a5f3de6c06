//! One replica of the service: within the test, where a story may turn its clock, or as a process of its own, where it
//! is all that runs in production.

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

/// How long lines may take to be in the files. Long, for slow machines; no test waits for it to pass.
const FLUSH_TIMEOUT: Duration = Duration::from_mins(1);

pub enum Replica {
    Here { service: Box<Service>, topics: TopicLogs },
    Process { child: Process, scheme: &'static str, address: SocketAddr, metrics_address: SocketAddr },
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    serve: ServeArgs,
}

impl Replica {
    pub async fn here(line: &[String], clock: Arc<ManualClock>) -> Self {
        let words = std::iter::once("billhook").chain(line.iter().map(String::as_str));
        let config = CommandLine::parse_from(words).serve.read().expect("the configuration is good");
        let topics = TopicLogs::start(config.logs()).expect("threads for the log");
        let metrics = Metrics::new(topics.clone(), Arc::default());
        let service = Service::start(config, topics.clone(), metrics, clock).await;
        Self::Here { service: Box::new(service.expect("the service starts")), topics }
    }

    /// What it prints goes to `billhook.stderr` in the directory.
    pub async fn process(line: &[String], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let stderr = dir.join("billhook.stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .arg("serve")
            .args(line)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(dir)
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the binary runs");
        let child = Process(child);
        let told = |what: &str| {
            let text = fs::read_to_string(&stderr).expect("what it prints");
            let (_, rest) = text.split_once(&format!("{what} on "))?;
            // A line that is still being written tells nothing yet.
            let (line, _) = rest.split_once('\n')?;
            let (scheme, rest) = line.split_once("://")?;
            let address = rest.split([' ', '/']).next()?.parse().ok()?;
            Some((if scheme == "https" { "https" } else { "http" }, address))
        };
        let (scheme, address) = eventually("it says where it listens", || async { told("listening") }).await;
        let (_, metrics_address) =
            eventually("it says where its metrics are", || async { told("metrics") }).await;
        Self::Process { child, scheme, address, metrics_address }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Here { service, .. } => service.address(),
            Self::Process { address, .. } => *address,
        }
    }

    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Here { service, .. } => service.scheme(),
            Self::Process { scheme, .. } => scheme,
        }
    }

    pub fn metrics_address(&self) -> SocketAddr {
        match self {
            Self::Here { service, .. } => service.metrics_address().expect("it tells its metrics"),
            Self::Process { metrics_address, .. } => *metrics_address,
        }
    }

    /// Waits until the lines that it has queued are in the files. Of a process that cannot be known.
    pub fn flush_lines(&self) {
        if let Self::Here { topics, .. } = self {
            topics.flush(Instant::now() + FLUSH_TIMEOUT);
        }
    }

    pub fn signal(&self, signal: &str) {
        let Self::Process { child, .. } = self else { panic!("only a process gets signals") };
        child.signal(signal);
    }

    /// Waits until it has ended by itself.
    pub async fn exit_code(self) -> Option<i32> {
        let Self::Process { child, .. } = self else { panic!("only a process has an exit code") };
        child.ended().await.code()
    }

    /// Ends it in an orderly way, as SIGTERM does.
    pub async fn stop(self) {
        match self {
            Self::Here { service, topics } => {
                service.stop().await.expect("the service stops");
                topics.flush(Instant::now() + FLUSH_TIMEOUT);
            }
            Self::Process { child, .. } => child.terminate().await,
        }
    }
}

/// A process that does not outlive a story that fails.
pub struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
    }

    async fn terminate(self) {
        self.signal("-TERM");
        assert!(self.ended().await.success(), "in good order");
    }

    async fn ended(mut self) -> ExitStatus {
        let ended = tokio::task::spawn_blocking(move || self.0.wait()).await.expect("joined");
        ended.expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
