//! A connection's byte stream, inspected for ambiguous requests. Over TLS it is inspected after decryption.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request_framing::RequestInspector;

/// A byte stream from which no ambiguous request can be read.
#[derive(Debug)]
pub(super) struct InspectedStream<Io> {
    io: Io,
    inspector: RequestInspector,
}

impl<Io> InspectedStream<Io> {
    pub(super) fn new(io: Io) -> Self {
        Self { io, inspector: RequestInspector::new() }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for InspectedStream<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inspector.has_rejected() {
            // The end of the stream, for hyper.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let visible = self.inspector.inspect(&mut buffer.filled_mut()[before..]);
        buffer.set_filled(before + visible);
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for InspectedStream<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
