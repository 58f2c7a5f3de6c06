//! A webhook endpoint that records requests and responds with configured statuses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::http::{HeaderMap, StatusCode};
use poem::listener::TcpAcceptor;
use poem::web::Data;
use poem::{EndpointExt, Request, Response, Route, Server, handler, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::test_double::{TestDouble, eventually};

pub(crate) const SECRET: &str = "whsec_known";

#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Webhook {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON body")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text header")
    }
}

#[derive(Default)]
struct ReceiverState {
    received: Mutex<Vec<Webhook>>,
    statuses: Mutex<VecDeque<u16>>,
}

/// Responds with the configured statuses in order, then with 200.
pub(crate) struct Receiver {
    pub(crate) url: String,
    state: Arc<ReceiverState>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    pub(crate) async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port");
        let address = listener.local_addr().expect("local address");
        let state = Arc::new(ReceiverState::default());
        let acceptor = TcpAcceptor::from_tokio(listener).expect("acceptor");
        let routes = Route::new().at("/webhook", post(receive)).data(state.clone());
        let server = tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
        Receiver { url: format!("http://{address}/webhook"), state, server }
    }

    /// Starts a receiver and registers it for all events.
    pub(crate) async fn registered_with(double: &TestDouble) -> Receiver {
        let receiver = Receiver::start().await;
        double.control("/webhook_endpoints", json!({"url": receiver.url, "secret": SECRET})).await;
        receiver
    }

    pub(crate) fn respond_with(&self, statuses: &[u16]) {
        lock(&self.state.statuses).extend(statuses);
    }

    /// Waits for `count` webhooks and returns all that were received.
    pub(crate) async fn receive(&self, count: usize) -> Vec<Webhook> {
        let condition = format!("{count} webhooks");
        eventually(&condition, async || lock(&self.state.received).len() >= count).await;
        lock(&self.state.received).clone()
    }

    pub(crate) async fn events(&self, count: usize) -> Vec<Value> {
        self.receive(count).await.iter().map(Webhook::event).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[handler]
fn receive(request: &Request, body: Vec<u8>, Data(state): Data<&Arc<ReceiverState>>) -> Response {
    lock(&state.received).push(Webhook { headers: request.headers().clone(), body });
    let status = lock(&state.statuses).pop_front().unwrap_or(200);
    let status = StatusCode::from_u16(status).expect("valid status");
    Response::builder().status(status).header("Location", "/webhook").body("thank you")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
