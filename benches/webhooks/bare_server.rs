//! The upper limit: a webhook is read and verified, and nothing else. Runs poem's own server
//! without our middleware, in a child process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use billhook::clock::{Clock, SystemClock};
use billhook::domain::signature;
use billhook::domain::webhook_secret::WebhookSecrets;
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::Data;
use poem::{EndpointExt, Request, Route, Server, get, handler, post};

use crate::service::WEBHOOK_SECRET;

/// The argument that makes this program run the bare server.
pub const ARGUMENT: &str = "--bare-server";

pub struct BareServer {
    pub address: SocketAddr,
    child: Child,
}

impl BareServer {
    pub fn start() -> Self {
        let this = std::env::current_exe().expect("this program's path");
        let mut child = Command::new(this).arg(ARGUMENT).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Self { address: line.trim().parse().expect("an address"), child }
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until killed.
pub async fn serve() {
    let secrets = WebhookSecrets::parse(WEBHOOK_SECRET).expect("a secret");
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.expect("a port");
    println!("{}", acceptor.local_addr()[0].as_socket_addr().expect("an address"));
    let routes =
        Route::new().at("/api/billing/webhook/", post(receive)).at("/healthz", get(alive)).data(secrets);
    Server::new_with_acceptor(acceptor).run(routes).await.expect("it serves");
}

#[handler]
#[allow(clippy::needless_pass_by_value, reason = "poem passes handlers their arguments by value")]
fn receive(request: &Request, secrets: Data<&WebhookSecrets>, body: Vec<u8>) -> (StatusCode, &'static str) {
    let header = request.header("stripe-signature");
    match signature::verify(&body, header, &secrets, SystemClock.now_seconds()) {
        Ok(_) => (StatusCode::OK, r#"{"received":true}"#),
        Err(_) => (StatusCode::BAD_REQUEST, "{}"),
    }
}

#[handler]
fn alive() -> &'static str {
    r#"{"status":"alive"}"#
}
