//! The messages of an event stream
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), and its response type.

use futures_util::Stream;
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;

use super::subscription::Subscription;

/// Most browsers use about this by default.
const RECONNECT_AFTER_MS: u64 = 3000;

/// Why the service ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    TokenExpired,
    Stopping,
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

/// The object and the ETag that `getSubscription` returns.
pub(super) fn subscription(etag: &str, json: String) -> Event {
    Event::message(json).event_type("subscription").id(etag)
}

/// Keeps the connection alive. A message without data, since poem can send comments only from its
/// own timer.
pub(super) fn heartbeat() -> Event {
    Event::retry(RECONNECT_AFTER_MS)
}

pub(super) fn end(end: End) -> Event {
    Event::message(format!("{{\"reason\":\"{}\"}}", end.as_str())).event_type("end")
}

pub(super) struct EventStream(SSE);

impl EventStream {
    pub(super) fn new(messages: impl Stream<Item = Event> + Send + 'static) -> Self {
        Self(SSE::new(messages))
    }
}

impl Payload for EventStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    /// OpenAPI 3.0 cannot describe the messages of a stream. Client generators use the schema for a
    /// message's data.
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
    fn messages_are_formatted_as_server_sent_events() {
        for (message, expected) in [
            (
                subscription("\"a1\"", "{\"plan\":\"pro\"}".into()),
                "id: \"a1\"\nevent: subscription\ndata: {\"plan\":\"pro\"}\n\n",
            ),
            (heartbeat(), "retry: 3000\n\n"),
            (end(End::TokenExpired), "event: end\ndata: {\"reason\":\"token_expired\"}\n\n"),
            (end(End::Stopping), "event: end\ndata: {\"reason\":\"stopping\"}\n\n"),
            (end(End::TooLong), "event: end\ndata: {\"reason\":\"too_long\"}\n\n"),
        ] {
            assert_eq!(message.to_string(), expected);
        }
    }
}
