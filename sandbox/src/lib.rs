//! A test double of Stripe for development and tests: the part of the API that Billhook uses, the
//! hosted pages, and signed webhooks. All data is in memory, and no money moves.
//!
//! `api` answers `/v1`, `control` answers `/_sandbox`, `pages` has the hosted pages, `state` the
//! objects and their changes, and `delivery` sends webhooks. Start with `state/mod.rs` and
//! `api/handler.rs`.

// Stripe's objects have more fields than the default recursion limit allows in `json!`.
#![recursion_limit = "256"]

mod api;
mod clock;
mod connection;
mod control;
mod delivery;
mod double;
mod ids;
mod pages;
mod record_log;
mod signature;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, EndpointExt, Request, Response, Route, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use connection::CuttableAcceptor;
use double::Double;
pub use signature::sign;

#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 chooses a free port.
    pub listen: SocketAddr,
    /// The only API key that is accepted.
    pub api_key: String,
    /// The delay before a failed webhook is sent again. It doubles with each further attempt.
    pub retry_delay: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            api_key: "sk_test_sandbox".to_owned(),
            retry_delay: Duration::from_millis(200),
        }
    }
}

/// A running double. It stops when it is dropped.
pub struct Sandbox {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Returns once connections are accepted. Fails if the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Sandbox> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let http = delivery::client().map_err(io::Error::other)?;
        let (commands, command_receiver) = unbounded_channel();
        let double =
            Arc::new(Double::new(base_url(address), options.api_key, options.retry_delay, http, commands));
        tokio::spawn(delivery::run(Arc::downgrade(&double), command_receiver));
        let acceptor = CuttableAcceptor { listener, address, connections: double.connections.clone() };
        let (stop, stopped) = oneshot::channel();
        let routes = Route::new()
            .at("/v1/*", api::handler::handle)
            .nest("/_sandbox", control::routes())
            .nest("/", pages::routes())
            .data(double)
            .around(log_request);
        let server = tokio::spawn(async move {
            let stopped = async {
                // A dropped sender stops the server, too.
                let _ = stopped.await;
            };
            // No client waits for responses once a test stops the double.
            let grace = Some(Duration::ZERO);
            Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(routes, stopped, grace).await
        });
        Ok(Sandbox { address, stop, server })
    }

    /// The base URL: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        base_url(self.address)
    }

    /// Stops listening. New connections are refused afterwards.
    pub async fn stop(self) {
        // Sending fails only if the server has already stopped.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

async fn log_request<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let target = format!("{} {}", request.method(), request.original_uri().path());
    let response = next.get_response(request).await;
    let request_id = response.header("request-id").unwrap_or_default();
    tracing::info!("{target} -> {} {request_id}", response.status().as_u16());
    Ok(response)
}

/// A double that listens on all interfaces is reached at localhost.
fn base_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, address.port())
    } else {
        format!("http://{address}")
    }
}
