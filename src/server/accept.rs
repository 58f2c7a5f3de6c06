//! Accepts connections and serves each in its own task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::Endpoint;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::TaskTracker;

use super::connection::Server;
use super::lifecycle::LifecycleWatch;
use super::slots::ConnectionSlots;
use super::supervise::supervised;
use super::tls::Tls;

/// The pause after an accept error, such as too many open files. Without it the loop would spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel queues until they are accepted.
const BACKLOG: u32 = 1024;

/// The kernel's buffer for data that the client has not read. By default it grows to megabytes, and
/// a client that stopped reading would stay unnoticed for minutes.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// How often connections are checked for timeouts.
const OVERDUE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    slots: ConnectionSlots,
}

impl Listener {
    /// Port 0 selects a free port.
    pub fn bind(address: SocketAddr, slots: ConnectionSlots) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit this.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, slots })
    }

    /// The actual address, also if the port was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves the routes until the service stops. Then ends the requests in progress, at the latest
/// after `finish_timeout`.
pub async fn serve(
    listener: Listener,
    tls: Option<Tls>,
    routes: impl Endpoint + 'static,
    lifecycle: LifecycleWatch,
    finish_timeout: Duration,
) {
    let server = Arc::new(Server::new(routes, tls, listener.address, lifecycle.clone(), finish_timeout));
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
        match listener.socket.accept().await {
            Ok((stream, remote)) => {
                // It fails only if the client has disconnected, which the first read will report.
                let _ = stream.set_nodelay(true);
                if let Some(slot) = listener.slots.acquire(remote).await {
                    connections.spawn(server.clone().run(stream, slot));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

pub(super) async fn end_overdue(slots: &ConnectionSlots) {
    loop {
        tokio::time::sleep(OVERDUE_CHECK_INTERVAL).await;
        slots.end_overdue();
    }
}
