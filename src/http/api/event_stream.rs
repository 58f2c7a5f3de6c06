//! Server-Sent Events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): the messages of a stream as
//! bytes, and the stream as an answer. poem's own has no comments but empty ones, and says `no-cache`.

use std::fmt;
use std::io;

use futures_util::{Stream, StreamExt};
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;

use super::subscription::Subscription;

/// What is sent on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// What the tenant is entitled to now.
    Subscription {
        /// As `getSubscription` gives it.
        etag: String,
        /// The object, on one line.
        json: String,
    },
    /// A comment, so that nobody on the way takes the connection for dead.
    Heartbeat,
    /// The last: why the service ends the stream.
    End(End),
}

/// Why the service ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The token that opened it is not taken any more.
    TokenExpired,
    /// The service stops.
    Stopping,
    /// It has been open for as long as one may be.
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

/// As it goes over the wire.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription { etag, json } => {
                write!(f, "event: subscription\nid: {etag}\ndata: {json}\n\n")
            }
            Self::Heartbeat => f.write_str(": heartbeat\n\n"),
            Self::End(end) => write!(f, "event: end\ndata: {{\"reason\":\"{}\"}}\n\n", end.as_str()),
        }
    }
}

/// A stream of messages as an answer's body.
pub(super) struct EventStream(Body);

impl EventStream {
    /// Sends what the stream yields, for as long as it does and the client is there.
    pub(super) fn of(messages: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Body::from_bytes_stream(messages.map(|message| Ok::<_, io::Error>(message.to_string()))))
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
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_lines_and_an_empty_one() {
        let subscription = Message::Subscription { etag: "\"a1\"".into(), json: "{\"plan\":\"pro\"}".into() };
        for (message, lines) in [
            (subscription, "event: subscription\nid: \"a1\"\ndata: {\"plan\":\"pro\"}\n\n"),
            (Message::Heartbeat, ": heartbeat\n\n"),
            (Message::End(End::TokenExpired), "event: end\ndata: {\"reason\":\"token_expired\"}\n\n"),
            (Message::End(End::Stopping), "event: end\ndata: {\"reason\":\"stopping\"}\n\n"),
            (Message::End(End::TooLong), "event: end\ndata: {\"reason\":\"too_long\"}\n\n"),
        ] {
            assert_eq!(message.to_string(), lines);
        }
    }
}
