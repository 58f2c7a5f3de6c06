//! One replica of the service: within the test, where a story may turn its clock, or as a process of its own, where it
//! is all that runs in production.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use billhook::clock::ManualClock;
use billhook::commands::serve::{ServeArgs, Service};
use billhook::telemetry::metrics::Metrics;
use billhook::telemetry::topics::TopicLogs;
use clap::Parser;

use crate::app::eventually;

pub enum Replica {
    Here(Box<Service>),
    Process { child: Process, address: SocketAddr, metrics_address: SocketAddr },
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
        let topics = TopicLogs::open(config.logs());
        let metrics = Metrics::new(topics.clone(), Arc::default());
        let service = Service::start(config, topics, metrics, clock).await.expect("the service starts");
        Self::Here(Box::new(service))
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
            let (_, rest) = text.split_once(&format!("{what} on http://"))?;
            // A line that is still being written tells nothing yet.
            let (line, _) = rest.split_once('\n')?;
            line.split([' ', '/']).next()?.parse().ok()
        };
        let address = eventually("it says where it listens", || async { told("listening") }).await;
        let metrics_address = eventually("it says where its metrics are", || async { told("metrics") }).await;
        Self::Process { child, address, metrics_address }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Here(service) => service.address(),
            Self::Process { address, .. } => *address,
        }
    }

    pub fn metrics_address(&self) -> SocketAddr {
        match self {
            Self::Here(service) => service.metrics_address().expect("it tells its metrics"),
            Self::Process { metrics_address, .. } => *metrics_address,
        }
    }

    pub fn hang_up(&self) {
        let Self::Process { child, .. } = self else { panic!("only a process gets signals") };
        child.signal("-HUP");
    }

    /// Ends it in an orderly way, as SIGTERM does.
    pub async fn stop(self) {
        match self {
            Self::Here(service) => service.stop().await.expect("the service stops"),
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

    async fn terminate(mut self) {
        self.signal("-TERM");
        let ended = tokio::task::spawn_blocking(move || self.0.wait()).await.expect("joined");
        assert!(ended.expect("it ends").success(), "and in good order");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
