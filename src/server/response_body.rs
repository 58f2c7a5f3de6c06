//! A response's body that reports its progress to the connection's activity.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Exchange;

/// The largest piece that is handed over at once. The server asks for the next when the client has taken this one, so a
/// file of megabytes shows progress, and no more than a few pieces of it wait in buffers.
const PIECE_BYTES: usize = 16 * 1024;

/// A body that is under way until it is dropped.
pub(super) struct TrackedBody<B> {
    body: B,
    /// Data of the last frame that has not been handed over.
    rest: Bytes,
    exchange: Exchange,
}

impl<B> TrackedBody<B> {
    pub(super) fn new(body: B, exchange: Exchange) -> Self {
        Self { body, rest: Bytes::new(), exchange }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
                this.exchange.await_service();
                return Poll::Pending;
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        this.exchange.hand_over();
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use poem::http::Response;

    use super::*;
    use crate::server::activity::ConnectionActivity;

    fn tracked(body: poem::Body) -> TrackedBody<impl Body<Data = Bytes, Error = io::Error> + Unpin> {
        let response: Response<_> = poem::Response::builder().body(body).into();
        let exchange = Arc::new(ConnectionActivity::new()).start_exchange();
        TrackedBody::new(response.into_body(), exchange)
    }

    #[tokio::test]
    async fn large_body_is_handed_over_in_pieces_of_known_total() {
        let sent: Vec<u8> = (0..=255).cycle().take(3 * PIECE_BYTES + 1).collect();
        let mut body = tracked(poem::Body::from(sent.clone()));
        let mut received = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((sent.len() - received.len()) as u64));
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let Some(frame) = frame else { break };
            let piece = frame.expect("it does not fail").into_data().expect("data");
            assert!(piece.len() <= PIECE_BYTES);
            received.extend_from_slice(&piece);
        }
        assert_eq!(received, sent);
    }
}
