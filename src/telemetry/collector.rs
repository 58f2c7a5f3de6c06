//! A connection test for the trace collector, used by `doctor`.

use std::io;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;

use super::{ExportError, export, variable};

/// The address of the collector that the environment configures.
#[derive(Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
}

/// None if no span is exported.
pub fn collector() -> Result<Option<Collector>, ExportError> {
    Ok(export::endpoint(variable)?.as_ref().and_then(Collector::at))
}

impl Collector {
    fn at(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: url.port_or_known_default()? })
    }

    /// Opens a connection and closes it.
    pub async fn connect(&self, timeout: Duration) -> io::Result<()> {
        let connected = tokio::time::timeout(timeout, TcpStream::connect((self.host.as_str(), self.port)));
        connected.await?.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_gives_host_and_port() {
        let at = |host: &str, port| Some(Collector { host: host.into(), port });
        for (endpoint, collector) in [
            ("http://127.0.0.1:4317", at("127.0.0.1", 4317)),
            ("https://collector.example/v1/traces", at("collector.example", 443)),
            ("http://[::1]:4318", at("::1", 4318)),
        ] {
            let set = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.to_owned());
            let url = export::endpoint(set).expect("a URL").expect("it is set");
            assert_eq!(Collector::at(&url), collector);
        }
    }

    #[test]
    fn endpoint_without_http_scheme_is_rejected() {
        for endpoint in
            ["collector", "collector:4317", "localhost:4317", "127.0.0.1:4317", "grpc://a:1", "http://"]
        {
            for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
                let set = |name: &str| (name == variable).then(|| endpoint.to_owned());
                let error = export::endpoint(set).expect_err(endpoint).to_string();
                assert_eq!(
                    error,
                    format!("{variable} is not a URL that starts with `http://` or `https://`")
                );
            }
        }
        assert!(export::endpoint(|_| None).expect("no error").is_none());
    }
}
