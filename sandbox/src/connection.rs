//! TCP connections that a handler can cut without a response, and on which it can wait for the
//! client to disconnect. The server itself lets a handler continue after a disconnect.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The open connections by client address.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<SocketAddr, Weak<ConnectionState>>>>);

#[derive(Default)]
struct ConnectionState {
    is_cut: AtomicBool,
    disconnected: Notify,
}

impl Connections {
    /// From now on every read and write on the client's connection fails.
    pub(crate) fn cut(&self, client: SocketAddr) {
        if let Some(connection) = self.find(client) {
            connection.is_cut.store(true, Ordering::Release);
        }
    }

    pub(crate) async fn wait_for_disconnect(&self, client: SocketAddr) {
        if let Some(connection) = self.find(client) {
            connection.disconnected.notified().await;
        }
    }

    fn find(&self, client: SocketAddr) -> Option<Arc<ConnectionState>> {
        self.lock().get(&client).and_then(Weak::upgrade)
    }

    fn open(&self, client: SocketAddr) -> Arc<ConnectionState> {
        let connection = Arc::new(ConnectionState::default());
        let mut connections = self.lock();
        connections.retain(|_, connection| connection.strong_count() > 0);
        connections.insert(client, Arc::downgrade(&connection));
        connection
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<ConnectionState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections that [`Connections::cut`] can cut.
pub(crate) struct CuttableAcceptor {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
}

impl Acceptor for CuttableAcceptor {
    type Io = CuttableStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(CuttableStream, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, client) = self.listener.accept().await?;
        // Responses are small: Nagle's algorithm would only slow down the tests.
        stream.set_nodelay(true)?;
        let io = CuttableStream { stream, connection: self.connections.open(client) };
        Ok((io, LocalAddr(self.address.into()), RemoteAddr(client.into()), Scheme::HTTP))
    }
}

pub(crate) struct CuttableStream {
    stream: TcpStream,
    connection: Arc<ConnectionState>,
}

impl CuttableStream {
    fn fail_if_cut(&self) -> io::Result<()> {
        if self.connection.is_cut.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fail_if_cut()?;
        let filled_before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_disconnected = match &read {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => buffer.filled().len() == filled_before,
            Poll::Ready(Err(_)) => true,
        };
        if is_disconnected {
            self.connection.disconnected.notify_one();
        }
        read
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.fail_if_cut()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail_if_cut()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
