//! A response body that reports its progress to the connection's activity.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Exchange;

/// The largest frame. hyper asks for the next one after the client has read this one, so a file of
/// megabytes shows progress and occupies only a few frames of buffer.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The exchange lasts until this is dropped.
pub(super) struct TrackedBody<B> {
    body: B,
    /// The rest of the last frame of `body`.
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
        let length = this.rest.len().min(MAX_FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
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
    async fn large_body_is_split_into_frames_with_exact_size_hint() {
        let sent: Vec<u8> = (0..=255).cycle().take(3 * MAX_FRAME_BYTES + 1).collect();
        let mut body = tracked(poem::Body::from(sent.clone()));
        let mut received = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((sent.len() - received.len()) as u64));
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let Some(frame) = frame else { break };
            let data = frame.expect("a frame").into_data().expect("data");
            assert!(data.len() <= MAX_FRAME_BYTES);
            received.extend_from_slice(&data);
        }
        assert_eq!(received, sent);
    }
}
