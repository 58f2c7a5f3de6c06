//! The double as a program, for development.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use sandbox::{Options, Sandbox};
use tokio::signal::unix::{SignalKind, signal};

/// A test double of Stripe for development. No money moves.
#[derive(Parser)]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long, env = "SANDBOX_LISTEN", default_value = "127.0.0.1:12111")]
    listen: SocketAddr,
    /// The only API key that is accepted.
    #[arg(long, env = "SANDBOX_API_KEY", default_value = "sk_test_sandbox", hide_env_values = true)]
    api_key: String,
    /// Webhook endpoint that receives all events.
    #[arg(long, env = "SANDBOX_WEBHOOK_URL", requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// Signing secret of that endpoint.
    #[arg(long, env = "SANDBOX_WEBHOOK_SECRET", requires = "webhook_url", hide_env_values = true)]
    webhook_secret: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let listen = arguments.listen;
    let options = Options { listen, api_key: arguments.api_key, ..Options::default() };
    let sandbox = Sandbox::start(options).await.map_err(|error| {
        let advice = "Choose another address with --listen or SANDBOX_LISTEN";
        io::Error::other(format!("cannot listen on {listen}: {error}. {advice}"))
    })?;
    if let (Some(url), Some(secret)) = (arguments.webhook_url, arguments.webhook_secret) {
        register_endpoint(&sandbox.url(), &url, &secret).await.map_err(io::Error::other)?;
    }
    tracing::info!("listening on {}", sandbox.url());
    wait_for_signal().await?;
    sandbox.stop().await;
    Ok(())
}

async fn register_endpoint(sandbox: &str, url: &str, secret: &str) -> Result<(), reqwest::Error> {
    let endpoint = serde_json::json!({"url": url, "secret": secret});
    let http = reqwest::Client::builder().no_proxy().build()?;
    let request = http.post(format!("{sandbox}/_sandbox/webhook_endpoints")).body(endpoint.to_string());
    request.send().await?.error_for_status()?;
    Ok(())
}

async fn wait_for_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
