//! Connections that a handler can cut, so that a caller sees the line go dead instead of an answer, and on which it
//! can hear that the caller has hung up: the server itself lets a handler run on then.

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

/// The open connections, by the caller's address.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<SocketAddr, Weak<Line>>>>);

#[derive(Default)]
struct Line {
    cut: AtomicBool,
    hung_up: Notify,
}

impl Connections {
    /// From now on nothing is read from or written to that caller.
    pub(crate) fn cut(&self, caller: SocketAddr) {
        if let Some(line) = self.find(caller) {
            line.cut.store(true, Ordering::Release);
        }
    }

    /// Waits until that caller has hung up.
    pub(crate) async fn hung_up(&self, caller: SocketAddr) {
        if let Some(line) = self.find(caller) {
            line.hung_up.notified().await;
        }
    }

    fn find(&self, caller: SocketAddr) -> Option<Arc<Line>> {
        self.lines().get(&caller).and_then(Weak::upgrade)
    }

    fn open(&self, caller: SocketAddr) -> Arc<Line> {
        let line = Arc::new(Line::default());
        let mut lines = self.lines();
        lines.retain(|_, line| line.strong_count() > 0);
        lines.insert(caller, Arc::downgrade(&line));
        line
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<Line>>> {
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
    type Io = Cuttable;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(Cuttable, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, caller) = self.listener.accept().await?;
        // Answers are small; waiting to fill a packet would only slow the tests down.
        stream.set_nodelay(true)?;
        let io = Cuttable { stream, line: self.connections.open(caller) };
        Ok((io, LocalAddr(self.address.into()), RemoteAddr(caller.into()), Scheme::HTTP))
    }
}

/// A TCP stream with a switch and a bell.
pub(crate) struct Cuttable {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Cuttable {
    fn alive(&self) -> io::Result<()> {
        if self.line.cut.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive()?;
        let already = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_over = match &read {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => buffer.filled().len() == already,
            Poll::Ready(Err(_)) => true,
        };
        if is_over {
            self.line.hung_up.notify_one();
        }
        read
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
