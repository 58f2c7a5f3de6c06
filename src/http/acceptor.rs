//! Taking connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::connections::{Connections, Place};

/// How long to wait before taking the next connection after one could not be taken: out of file descriptors, say.
/// Without it a server that is out of them spins.
const PAUSE: Duration = Duration::from_millis(50);

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
    pub async fn open(address: SocketAddr, connections: Connections) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, connections })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that it has taken.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// The next connection for which there is room.
    pub(super) async fn accept(&self) -> (TcpStream, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    // A peer that is gone already shows at the first read.
                    let _ = stream.set_nodelay(true);
                    let Some(place) = self.connections.open(remote) else { continue };
                    return (stream, place);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
