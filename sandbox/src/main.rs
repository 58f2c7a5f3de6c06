//! The double as a program of its own, for development.

use std::io;
use std::net::SocketAddr;

use clap::Parser;
use sandbox::{Options, Sandbox};
use tokio::signal::unix::{SignalKind, signal};

/// A Stripe of our own for development: no money moves.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, env = "SANDBOX_LISTEN", default_value = "127.0.0.1:12111")]
    listen: SocketAddr,
    /// The API key that is let in.
    #[arg(long, env = "SANDBOX_API_KEY", default_value = "sk_test_sandbox", hide_env_values = true)]
    api_key: String,
    /// An endpoint that is told about all events.
    #[arg(long, env = "SANDBOX_WEBHOOK_URL", requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// The secret that this endpoint verifies with.
    #[arg(long, env = "SANDBOX_WEBHOOK_SECRET", requires = "webhook_url", hide_env_values = true)]
    webhook_secret: Option<String>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    let options = Options { listen: arguments.listen, api_key: arguments.api_key, ..Options::default() };
    let sandbox = Sandbox::start(options).await?;
    if let (Some(url), Some(secret)) = (arguments.webhook_url, arguments.webhook_secret) {
        register(&sandbox.url(), &url, &secret).await.map_err(io::Error::other)?;
    }
    tracing::info!("the sandbox is at {}", sandbox.url());
    wait_for_the_end().await?;
    sandbox.stop().await;
    Ok(())
}

/// The endpoint is registered as any developer would do it.
async fn register(sandbox: &str, url: &str, secret: &str) -> Result<(), reqwest::Error> {
    let endpoint = serde_json::json!({"url": url, "secret": secret});
    let http = reqwest::Client::builder().no_proxy().build()?;
    let request = http.post(format!("{sandbox}/_sandbox/webhook_endpoints")).body(endpoint.to_string());
    request.send().await?.error_for_status()?;
    Ok(())
}

async fn wait_for_the_end() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
