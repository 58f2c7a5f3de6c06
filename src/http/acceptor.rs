//! Taking connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use poem::Endpoint;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::TcpListener;

use super::connections::{Connection, Connections};

/// How long to wait before taking the next connection after one could not be taken: out of file descriptors, say.
/// Without it a server that is out of them spins.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(75);

/// Answers requests until told to stop, and then for as long as `drain` those that have begun.
pub async fn serve(
    acceptor: NodelayAcceptor,
    routes: impl Endpoint + 'static,
    told_to_stop: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    let server = poem::Server::new_with_acceptor(acceptor).idle_timeout(IDLE);
    server.run_with_graceful_shutdown(routes, told_to_stop, Some(drain)).await
}

/// Takes TCP connections. Unlike poem's own, it sends small answers at once (`TCP_NODELAY`) and does not spin when no
/// connection can be taken.
#[derive(Debug)]
pub struct NodelayAcceptor {
    listener: TcpListener,
    address: SocketAddr,
    connections: Connections,
}

impl NodelayAcceptor {
    /// Listens; port 0 finds a free one.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, connections: Connections::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that it has taken.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }
}

impl Acceptor for NodelayAcceptor {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, poem::http::uri::Scheme)> {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    // A peer that is gone already shows at the first read.
                    let _ = stream.set_nodelay(true);
                    let local = LocalAddr(self.address.into());
                    let connection = self.connections.open(stream, remote);
                    return Ok((connection, local, RemoteAddr(remote.into()), poem::http::uri::Scheme::HTTP));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
