//! `GET /api/billing/subscription/events/`: the tenant's subscription, now and whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::Header;
use poem_openapi::types::ToJSON;
use poem_openapi::{ApiResponse, OpenApi};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::subscription::{Subscription, etag_of};
use super::{ApiState, Tag};
use crate::billing::{Caller, Stream};
use crate::clock::Clock;
use crate::domain::plan::Entitlement;
use crate::http::auth::UserToken;
use crate::http::connections::HangUp;
use crate::http::event_stream::{End, EventStream, Message};
use crate::http::problem::{Documented, Failure};

/// How long a stream is silent at most. Proxies close what is silent for a minute, some for half of one.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream is open at most: a connection that nobody needs any more should not stay for good, and a page that
/// is still there opens another.
const LONGEST: Duration = Duration::from_hours(1);

/// How often a stream looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// Following what a tenant is entitled to.
pub(in crate::http) struct StreamApi;

#[derive(ApiResponse)]
enum Answer {
    /// The present state, then every change.
    #[oai(status = 200)]
    Open(
        EventStream,
        #[oai(header = "Cache-Control")] String,
        /// Tells nginx to pass on each message at once.
        #[oai(header = "X-Accel-Buffering")]
        String,
    ),
}

struct StreamProblems;

impl Documented for StreamProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (500, "`internal`"),
        (503, "`unavailable`; when too many streams are open, too: ask for the subscription now and then"),
    ];
}

#[OpenApi(tag = "Tag::Billing")]
impl StreamApi {
    /// Follow the tenant's subscription
    ///
    /// Server-Sent Events. Each message is `event: subscription`, with the ETag of `getSubscription` as its `id` and the
    /// same object as its `data`. The first comes at once with the present state, the others when it has changed; of
    /// changes in quick succession the last is enough. A comment comes when nothing else has for 15 s. Before the service
    /// ends the stream it sends `event: end` with `{"reason": "token_expired"}`, `"stopping"` or `"too_long"` (an hour).
    /// Open it with `fetch`, which can send the token in its header.
    #[oai(path = "/api/billing/subscription/events/", method = "get", operation_id = "streamSubscription")]
    async fn open(
        &self,
        request: &Request,
        state: Data<&ApiState>,
        token: UserToken,
        /// The `id` of the last message that was received. While it is the ETag of the present state, the first message
        /// is a comment.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<Answer, Failure<StreamProblems>> {
        let UserToken(caller) = token;
        let (stream, entitlement) = state.billing.streams.open(&caller.tenant).await?;
        let hang_up = state.connections.hang_up_of(request);
        let following = Following::new(stream, hang_up, caller, state.billing.clock.clone(), last_event_id.0);
        let messages = EventStream::of(following.messages(&entitlement));
        Ok(Answer::Open(messages, "no-store".to_owned(), "no".to_owned()))
    }
}

/// An open stream, and what its end and its next message depend on. All times but the token's are in milliseconds of the
/// steady clock.
struct Following {
    stream: Stream,
    hang_up: HangUp,
    caller: Caller,
    clock: Arc<dyn Clock>,
    tick: Interval,
    opened_ms: i64,
    spoke_ms: i64,
    /// What the client has.
    etag: Option<String>,
}

impl Following {
    fn new(
        stream: Stream,
        hang_up: HangUp,
        caller: Caller,
        clock: Arc<dyn Clock>,
        last_event_id: Option<String>,
    ) -> Self {
        let mut tick = interval(TICK);
        // A client that was slow to read is not made up for.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now_ms = clock.steady_ms();
        Self {
            stream,
            hang_up,
            caller,
            clock,
            tick,
            opened_ms: now_ms,
            spoke_ms: now_ms,
            etag: last_event_id,
        }
    }

    /// The first message, and then as they come. They are made when the client's connection has room for one: nothing
    /// waits for a client that does not read.
    fn messages(mut self, first: &Entitlement) -> impl futures_util::Stream<Item = Message> + Send + 'static {
        let first = self.news(first).unwrap_or(Message::Heartbeat);
        let more = stream::unfold(Some(self), |following| async {
            let mut following = following?;
            let message = following.next().await?;
            let goes_on = !matches!(message, Message::End(_));
            Some((message, goes_on.then_some(following)))
        });
        stream::iter([first]).chain(more)
    }

    /// Waits for the next message; none if nobody is there any more.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.hang_up.heard() => return None,
                _ = self.tick.tick() => self.due(),
                read = self.stream.next() => match read {
                    Some(entitlement) => self.news(&entitlement),
                    None => Some(Message::End(End::Stopping)),
                },
            };
            if message.is_some() {
                self.spoke_ms = self.clock.steady_ms();
                return message;
            }
        }
    }

    /// What the time demands.
    fn due(&self) -> Option<Message> {
        let steady_ms = self.clock.steady_ms();
        let has_passed = |since_ms: i64, length: Duration| {
            u128::try_from(steady_ms - since_ms).is_ok_and(|passed_ms| passed_ms >= length.as_millis())
        };
        if self.clock.now_seconds() >= self.caller.token_ends_at {
            Some(Message::End(End::TokenExpired))
        } else if has_passed(self.opened_ms, LONGEST) {
            Some(Message::End(End::TooLong))
        } else {
            has_passed(self.spoke_ms, HEARTBEAT).then_some(Message::Heartbeat)
        }
    }

    /// A message, if the client does not have it.
    fn news(&mut self, entitlement: &Entitlement) -> Option<Message> {
        let subscription = Subscription::new(&self.caller.tenant, entitlement, self.caller.may_manage);
        let etag = etag_of(&subscription);
        if self.etag.as_ref() == Some(&etag) {
            return None;
        }
        self.etag = Some(etag.clone());
        Some(Message::Subscription { etag, json: subscription.to_json_string() })
    }
}
