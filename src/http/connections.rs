//! The open connections, on which a stream can hear that its caller has hung up. The server itself does not say so: it
//! lets what it is sending go on until two writes have failed, and a closed tab would take a stream's place for half a
//! minute.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use poem::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The open connections, by the caller's address. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<SocketAddr, watch::Receiver<bool>>>>);

/// Tells when a caller has hung up.
#[derive(Debug)]
pub(super) struct HangUp(Option<watch::Receiver<bool>>);

impl Connections {
    /// A connection that has just been taken.
    pub(super) fn open(&self, stream: TcpStream, caller: SocketAddr) -> Connection {
        let (hung_up, hearing) = watch::channel(false);
        self.lock().insert(caller, hearing);
        Connection { stream, caller, hung_up, connections: self.clone() }
    }

    /// Tells when whoever sent the request hangs up.
    pub(super) fn hang_up_of(&self, request: &Request) -> HangUp {
        let caller = request.remote_addr().as_socket_addr();
        HangUp(caller.and_then(|caller| self.lock().get(caller).cloned()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, watch::Receiver<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HangUp {
    /// Waits until the caller has hung up.
    pub(super) async fn heard(&mut self) {
        match &mut self.0 {
            // An error means that the connection is gone altogether.
            Some(hearing) => _ = hearing.wait_for(|hung_up| *hung_up).await,
            None => std::future::pending().await,
        }
    }
}

/// A connection that tells when nothing more can be read from it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    caller: SocketAddr,
    hung_up: watch::Sender<bool>,
    connections: Connections,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Before the stream is closed, after which another may come from the same address.
        self.connections.lock().remove(&self.caller);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_over = match &read {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
        };
        if is_over {
            self.hung_up.send_replace(true);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
