//! A way to PostgreSQL on which connections fall silent, as they do when a firewall forgets who talks through it, or a host
//! loses its power: nothing comes any more, and nobody hangs up.

use std::future::pending;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::postgres_server::Server;

pub struct Relay {
    address: SocketAddr,
    silence: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn before(postgres: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (silence, silenced) = watch::channel(());
        let task = tokio::spawn(pass_on(listener, postgres.port(), silenced));
        Self { address, silence, task }
    }

    pub fn url(&self, sslmode: &str) -> String {
        format!("{}?sslmode={sslmode}", Server::url_at(self.address.port()))
    }

    /// From now on not a byte comes over the connections that there are, either way, and none is closed. New ones are
    /// passed on.
    pub fn fall_silent(&self) {
        self.silence.send_replace(());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(listener: TcpListener, port: u16, silenced: watch::Receiver<()>) {
    loop {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut silenced = silenced.clone();
        silenced.mark_unchanged();
        tokio::spawn(async move {
            // Where nobody listens, the client is cut off.
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            tokio::select! {
                biased;
                _ = silenced.changed() => pending().await,
                _ = copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}
