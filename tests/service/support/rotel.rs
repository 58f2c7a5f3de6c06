//! Rotel (<https://github.com/streamfold/rotel>), a third-party collector in its own process that
//! prints all it receives.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::app::{eventually, free_port, peer_dir};
use crate::support::collector::Span;

pub struct Rotel {
    child: Child,
    pub grpc_port: u16,
    pub http_port: u16,
    dir: TempDir,
}

impl Rotel {
    pub async fn start() -> Self {
        let program = peer_dir().join("rotel/rotel-agent");
        let dir = TempDir::new().expect("a directory");
        let [grpc_port, http_port] = [(); 2].map(|()| free_port());
        let file = |name: &str| dir.path().join(name).display().to_string();
        let child = Command::new(program)
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc_port}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http_port}")])
            .args(["--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--pid-file", &file("pid"), "--log-file", &file("log")])
            .stdout(File::create(file("received")).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("rotel starts");
        for port in [grpc_port, http_port] {
            eventually("rotel listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() })
                .await;
        }
        Self { child, grpc_port, http_port, dir }
    }

    /// The spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        read_spans(&self.dir.path().join("received"))
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses rotel's human-readable output: one field a line, one span after the other.
fn read_spans(file: &Path) -> Vec<Span> {
    let text = fs::read_to_string(file).expect("rotel's output is read");
    text.split("\nSpan #").skip(1).map(read_span).collect()
}

fn read_span(text: &str) -> Span {
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name)?.trim_start().strip_prefix(": "));
        value.unwrap_or_default().trim().to_owned()
    };
    let (own, linked) = text.split_once("\nLinks:").unwrap_or((text, ""));
    let pairs = |text: &str| -> Vec<(String, String)> {
        let pair = |line: &str| {
            line.trim_start().strip_prefix("-> ")?.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()))
        };
        text.lines().filter_map(pair).collect()
    };
    let ids = |name: &str| -> Vec<String> {
        pairs(linked).into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    };
    Span {
        trace: field("Trace ID"),
        id: field("ID"),
        parent: field("Parent ID"),
        name: field("Name"),
        attributes: pairs(own).into_iter().collect(),
        links: ids("Trace ID").into_iter().zip(ids("ID")).collect(),
        text: text.to_owned(),
    }
}
