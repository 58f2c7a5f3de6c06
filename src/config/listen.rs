//! The addresses that the service listens on, and how long it drains.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, number, parsed_by, read_optional};
use crate::domain::trusted_proxies::TrustedProxies;

/// Five minutes. Even slow load balancers notice in less time.
const MAX_STOP_DELAY_SECONDS: u32 = 300;

#[derive(Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenArgs {
    /// The address and port to listen on
    #[arg(long, env = "BILLHOOK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = parsed_by(address))]
    listen: Setting<SocketAddr>,

    /// The address and port of the metrics for Prometheus. The metrics listener has no
    /// authentication; do not expose it. Without it, metrics are not served
    #[arg(long, env = "BILLHOOK_METRICS_LISTEN", value_name = "ADDRESS:PORT", value_parser = parsed_by(address))]
    metrics_listen: Option<Setting<SocketAddr>>,

    /// The addresses and networks of your proxies, separated by commas. `X-Forwarded-For` is
    /// trusted only from them. Without it, the header is ignored, and the sender of a webhook is
    /// the client that connects
    #[arg(long, env = "BILLHOOK_TRUSTED_PROXIES", value_name = "NETWORK,..", value_parser = parsed_by(TrustedProxies::parse))]
    trusted_proxies: Option<Setting<TrustedProxies>>,

    // The default is the time that Kubernetes needs to announce in the whole cluster that a pod
    // stops.
    /// For how many seconds after SIGTERM the service keeps accepting requests while `/readyz`
    /// returns 503, so that load balancers can notice. SIGINT skips this delay
    #[arg(long, env = "BILLHOOK_STOP_DELAY_SECONDS", default_value = "5", value_name = "SECONDS", value_parser = parsed_by(number::<0, MAX_STOP_DELAY_SECONDS>))]
    stop_delay_seconds: Setting<u32>,
}

#[derive(Debug, Clone)]
pub struct ListenConfig {
    pub public: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub trusted_proxies: TrustedProxies,
    /// How long the service drains after SIGTERM.
    pub stop_delay: Duration,
}

impl ListenArgs {
    pub fn read(&self) -> Result<ListenConfig, ConfigError> {
        Ok(ListenConfig {
            public: self.listen.read()?,
            metrics: read_optional(self.metrics_listen.as_ref())?,
            trusted_proxies: read_optional(self.trusted_proxies.as_ref())?.unwrap_or_default(),
            stop_delay: Duration::from_secs(self.stop_delay_seconds.read()?.into()),
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address and a port, such as `127.0.0.1:8080`")
}
