//! Server-Sent Events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): what is sent on a stream, and the
//! stream as a response of the contract.

use futures_util::Stream;
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;

use super::subscription::Subscription;

/// After how many milliseconds a browser reconnects, as most do by themselves.
const RECONNECT_AFTER_MS: u64 = 3000;

/// Why the service ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The token that opened it is not valid any more.
    TokenExpired,
    /// The service stops.
    Stopping,
    /// It has been open for as long as a stream may be.
    TooLong,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::TokenExpired => "token_expired",
            Self::Stopping => "stopping",
            Self::TooLong => "too_long",
        }
    }
}

/// What the tenant is entitled to now: the object and the ETag that `getSubscription` gives it.
pub(super) fn subscription(etag: &str, json: String) -> Event {
    Event::message(json).event_type("subscription").id(etag)
}

/// Shows that the connection is alive. poem has no comments but those that its own timer sends, so it is a message without
/// data.
pub(super) fn heartbeat() -> Event {
    Event::retry(RECONNECT_AFTER_MS)
}

/// The last message.
pub(super) fn end(end: End) -> Event {
    Event::message(format!("{{\"reason\":\"{}\"}}", end.as_str())).event_type("end")
}

/// A stream of messages as a response's body.
pub(super) struct EventStream(SSE);

impl EventStream {
    /// Sends what the stream yields, for as long as it does and the client is there.
    pub(super) fn of(messages: impl Stream<Item = Event> + Send + 'static) -> Self {
        Self(SSE::new(messages))
    }
}

impl Payload for EventStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    /// OpenAPI 3.0 has no word for what a stream is made of. Generators of clients take the schema for that of a message's
    /// data.
    fn schema_ref() -> MetaSchemaRef {
        <Subscription as Type>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        <Subscription as Type>::register(registry);
    }
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_lines_and_an_empty_one() {
        for (message, lines) in [
            (
                subscription("\"a1\"", "{\"plan\":\"pro\"}".into()),
                "id: \"a1\"\nevent: subscription\ndata: {\"plan\":\"pro\"}\n\n",
            ),
            (heartbeat(), "retry: 3000\n\n"),
            (end(End::TokenExpired), "event: end\ndata: {\"reason\":\"token_expired\"}\n\n"),
            (end(End::Stopping), "event: end\ndata: {\"reason\":\"stopping\"}\n\n"),
            (end(End::TooLong), "event: end\ndata: {\"reason\":\"too_long\"}\n\n"),
        ] {
            assert_eq!(message.to_string(), lines);
        }
    }
}
