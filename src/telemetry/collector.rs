//! Whether somebody listens where spans are sent.

use std::io;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;

use super::{export, variable};

/// The collector that the environment names.
#[derive(Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
}

/// The collector that spans are exported to, if they are. What is no URL is told when telemetry begins.
pub fn collector() -> Option<Collector> {
    if !export::is_wanted(variable) {
        return None;
    }
    let endpoint = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    Collector::at(&endpoint.into_iter().find_map(variable)?)
}

impl Collector {
    fn at(endpoint: &str) -> Option<Self> {
        let url = Url::parse(endpoint).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: url.port_or_known_default()? })
    }

    /// Opens a connection and closes it.
    pub async fn connect(&self, patience: Duration) -> io::Result<()> {
        let connected = tokio::time::timeout(patience, TcpStream::connect((self.host.as_str(), self.port)));
        connected.await?.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_a_host_and_a_port() {
        let at = |host: &str, port| Some(Collector { host: host.into(), port });
        assert_eq!(Collector::at("http://127.0.0.1:4317"), at("127.0.0.1", 4317));
        assert_eq!(Collector::at("https://collector.example/v1/traces"), at("collector.example", 443));
        assert_eq!(Collector::at("http://[::1]:4318"), at("::1", 4318));
        assert_eq!(Collector::at("collector"), None);
    }
}
