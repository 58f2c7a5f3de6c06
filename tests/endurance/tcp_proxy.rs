//! A TCP proxy to PostgreSQL whose connections can go silent without being closed, as after a
//! firewall drops its state or a host loses power.

use std::future::pending;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::postgres_server::PostgresServer;

pub struct TcpProxy {
    address: SocketAddr,
    silence: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    pub async fn start(postgres: &PostgresServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (silence, silenced) = watch::channel(());
        let task = tokio::spawn(forward(listener, postgres.port(), silenced));
        Self { address, silence, task }
    }

    pub fn url(&self, sslmode: &str) -> String {
        format!("{}?sslmode={sslmode}", PostgresServer::url_at(self.address.port()))
    }

    /// Stops forwarding on all existing connections, without closing them. New connections are
    /// forwarded.
    pub fn silence_connections(&self) {
        self.silence.send_replace(());
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, port: u16, silenced: watch::Receiver<()>) {
    loop {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut silenced = silenced.clone();
        silenced.mark_unchanged();
        tokio::spawn(async move {
            // If the server does not listen, the client is disconnected.
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            tokio::select! {
                biased;
                _ = silenced.changed() => pending().await,
                _ = copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}
