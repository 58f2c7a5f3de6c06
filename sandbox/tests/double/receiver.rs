//! An endpoint that writes down what it is sent and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::http::{HeaderMap, StatusCode};
use poem::listener::TcpAcceptor;
use poem::web::Data;
use poem::{EndpointExt, Request, Response, Route, Server, handler, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stage::{Stage, eventually};

pub(crate) const SECRET: &str = "whsec_known";

#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Webhook {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a webhook should be JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("headers should be text")
    }
}

#[derive(Default)]
struct Desk {
    received: Mutex<Vec<Webhook>>,
    answers: Mutex<VecDeque<u16>>,
}

/// Answers 200 unless it was given other answers, which are used up one by one.
pub(crate) struct Receiver {
    pub(crate) url: String,
    desk: Arc<Desk>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    pub(crate) async fn open() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port should be free");
        let address = listener.local_addr().expect("a listener should have an address");
        let desk = Arc::new(Desk::default());
        let acceptor = TcpAcceptor::from_tokio(listener).expect("the listener should be accepted from");
        let routes = Route::new().at("/webhook", post(receive)).data(desk.clone());
        let server = tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
        Receiver { url: format!("http://{address}/webhook"), desk, server }
    }

    /// Opened and told about all events.
    pub(crate) async fn listening_to(stage: &Stage) -> Receiver {
        let receiver = Receiver::open().await;
        stage.tell("/webhook_endpoints", json!({"url": receiver.url, "secret": SECRET})).await;
        receiver
    }

    pub(crate) fn will_answer(&self, answers: &[u16]) {
        locked(&self.desk.answers).extend(answers);
    }

    /// The first so many webhooks.
    pub(crate) async fn receive(&self, count: usize) -> Vec<Webhook> {
        let what = format!("{count} webhooks");
        eventually(&what, async || locked(&self.desk.received).len() >= count).await;
        locked(&self.desk.received).clone()
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
fn receive(request: &Request, body: Vec<u8>, Data(desk): Data<&Arc<Desk>>) -> Response {
    locked(&desk.received).push(Webhook { headers: request.headers().clone(), body });
    let status = locked(&desk.answers).pop_front().unwrap_or(200);
    let status = StatusCode::from_u16(status).expect("a test should answer with a status");
    Response::builder().status(status).header("Location", "/webhook").body("thank you")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
