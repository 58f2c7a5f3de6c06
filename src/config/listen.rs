//! Where the service listens, and for how long when it is to stop.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::setting::{Setting, by, given, number};
use crate::domain::trusted_proxies::TrustedProxies;

/// Five minutes: more than the slowest load balancers take to notice.
const MAX_STOP_DELAY_SECONDS: u32 = 300;

/// Where the service listens, and for how long when it is to stop.
#[derive(Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenArgs {
    /// The address and port to listen on
    #[arg(long, env = "BILLHOOK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = by(address))]
    listen: Setting<SocketAddr>,

    /// The address and port on which Prometheus reads the metrics. It has no authentication; do not expose it. Without it
    /// there are none to read
    #[arg(long, env = "BILLHOOK_METRICS_LISTEN", value_name = "ADDRESS:PORT", value_parser = by(address))]
    metrics_listen: Option<Setting<SocketAddr>>,

    /// The addresses and networks of proxies, with commas, whose `X-Forwarded-For` tells who sends a webhook. Without it
    /// the field is ignored, and the sender is the client that connects
    #[arg(long, env = "BILLHOOK_TRUSTED_PROXIES", value_name = "NETWORK,..", value_parser = by(TrustedProxies::parse))]
    trusted_proxies: Option<Setting<TrustedProxies>>,

    // The default is what Kubernetes takes to tell all of a cluster that a pod goes.
    /// For how many seconds after SIGTERM it keeps accepting requests while `/readyz` returns 503: as long as a load balancer
    /// takes to notice. SIGINT does not wait
    #[arg(long, env = "BILLHOOK_STOP_DELAY_SECONDS", default_value = "5", value_name = "SECONDS", value_parser = by(number::<0, MAX_STOP_DELAY_SECONDS>))]
    stop_delay_seconds: Setting<u32>,
}

/// Where the service listens, and for how long when it is to stop.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// Where everyone reaches it.
    pub public: SocketAddr,
    /// Where Prometheus does.
    pub metrics: Option<SocketAddr>,
    /// The proxies in front of it.
    pub trusted_proxies: TrustedProxies,
    /// For how long it drains after SIGTERM.
    pub stop_delay: Duration,
}

impl ListenArgs {
    /// Reads where the service listens.
    pub fn read(&self) -> Result<ListenConfig, ConfigError> {
        Ok(ListenConfig {
            public: self.listen.read()?,
            metrics: given(self.metrics_listen.as_ref())?,
            trusted_proxies: given(self.trusted_proxies.as_ref())?.unwrap_or_default(),
            stop_delay: Duration::from_secs(self.stop_delay_seconds.read()?.into()),
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address and a port, such as `127.0.0.1:8080`")
}
