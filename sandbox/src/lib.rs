//! A Stripe of our own for development and tests: the part of its API that Billhook uses, the hosted pages, and signed
//! webhooks. Everything is held in memory, and no money moves.

// Stripe's objects have more fields than the macro that writes JSON expects.
#![recursion_limit = "256"]

mod api;
mod clock;
mod connection;
mod control;
mod courier;
mod double;
mod ids;
mod journal;
mod pages;
mod signature;
mod world;

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

/// How a double is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// The only API key that is let in.
    pub api_key: String,
    /// The wait before a failed webhook is sent again; it doubles with each further try.
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

/// A running double. It ends when it is stopped or dropped.
pub struct Sandbox {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Starts a double; it accepts connections from the moment this returns. Fails if it cannot listen.
    pub async fn start(options: Options) -> io::Result<Sandbox> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let http = courier::client().map_err(io::Error::other)?;
        let (errands, courier) = unbounded_channel();
        let double =
            Arc::new(Double::new(base_url(address), options.api_key, options.retry_delay, http, errands));
        tokio::spawn(courier::run(Arc::downgrade(&double), courier));
        let acceptor = CuttableAcceptor { listener, address, connections: double.connections.clone() };
        let (stop, stopped) = oneshot::channel();
        let routes = Route::new()
            .at("/v1/*", api::gate::api)
            .nest("/_sandbox", control::routes())
            .nest("/", pages::routes())
            .data(double)
            .around(logged);
        let server = tokio::spawn(async move {
            let stopped = async {
                // A sender that is gone without a word stops the server too.
                let _ = stopped.await;
            };
            // Nobody waits for answers of a double that is being put away.
            let grace = Some(Duration::ZERO);
            Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(routes, stopped, grace).await
        });
        Ok(Sandbox { address, stop, server })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        base_url(self.address)
    }

    /// Stops listening. Connections after this are refused.
    pub async fn stop(self) {
        // If the server is gone already there is nothing to stop, and nothing to report.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

/// One line for each request, whoever it is from.
async fn logged<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let call = format!("{} {}", request.method(), request.original_uri().path());
    let response = next.get_response(request).await;
    let request_id = response.header("request-id").unwrap_or_default();
    tracing::info!("{call} -> {} {request_id}", response.status().as_u16());
    Ok(response)
}

/// A double that listens everywhere is found at home.
fn base_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, address.port())
    } else {
        format!("http://{address}")
    }
}
