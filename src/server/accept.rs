//! Accepts connections and hands each to a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::Endpoint;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

use super::connection::Server;
use super::lifecycle::LifecycleWatch;
use super::slots::ConnectionSlots;
use super::supervise::supervised;
use super::tls::Tls;

/// The pause after a connection could not be accepted, as when the process has no file left. Without it the loop spins.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

/// The kernel's buffer for what a client has not taken. Left alone it grows to megabytes, and whether the client takes
/// anything could not be seen for minutes.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// How often connections are checked for being overdue.
const OVERDUE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// A listening socket, and the slots for its connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    slots: ConnectionSlots,
}

impl Listener {
    /// Listens. Port 0 finds a free one.
    pub fn bind(address: SocketAddr, slots: ConnectionSlots) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, slots })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, remote)) => {
                    // It fails only if the client is gone, which the first read shows.
                    let _ = stream.set_nodelay(true);
                    return (stream, remote);
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            }
        }
    }
}

/// Serves the routes until the service stops. Then requests in progress have as long as `drain` to finish.
pub async fn serve(
    listener: Listener,
    tls: Option<Tls>,
    routes: impl Endpoint + 'static,
    lifecycle: LifecycleWatch,
    drain: Duration,
) {
    let server = Arc::new(Server::new(routes, tls, listener.address, lifecycle.clone(), drain));
    let connections = TaskTracker::new();
    tokio::select! {
        () = lifecycle.stopping() => {}
        () = supervised("accepting connections", || accept_all(&listener, &server, &connections)) => {}
        () = supervised("ending overdue connections", || end_overdue(&listener.slots)) => {}
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept_all<E: Endpoint + 'static>(
    listener: &Listener,
    server: &Arc<Server<E>>,
    connections: &TaskTracker,
) {
    loop {
        let (stream, remote) = listener.accept().await;
        if let Some(slot) = listener.slots.acquire(remote).await {
            connections.spawn(server.clone().run(stream, slot));
        }
    }
}

pub(super) async fn end_overdue(slots: &ConnectionSlots) {
    loop {
        tokio::time::sleep(OVERDUE_CHECK_INTERVAL).await;
        slots.end_overdue();
    }
}
