//! `GET /api/billing/subscription/events/`: the tenant's subscription, now and whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::param::Header;
use poem_openapi::{ApiResponse, OpenApi};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::subscription::Subscription;
use super::{ApiState, Tag};
use crate::billing::{Caller, NotOpened, Stream};
use crate::clock::Clock;
use crate::domain::plan::Entitlement;
use crate::http::api::event_stream::{self, End, EventStream};
use crate::http::auth::UserToken;
use crate::http::problem::{Documented, Failure};

/// How long a stream is silent at most. Proxies close what is silent for a minute, some for half of one.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream is open at most: a connection that nobody needs any more should not stay for good, and a page that
/// is still there opens another.
const LONGEST: Duration = Duration::from_hours(1);

/// How often a stream looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// Messages that wait for a client to take them: the next, and the last, whose place is kept from the beginning.
const WAITING: usize = 2;

/// Following what a tenant is entitled to.
pub(in crate::http) struct StreamApi;

#[derive(ApiResponse)]
enum Answer {
    /// The present state, then every change.
    #[oai(status = 200)]
    Open(
        EventStream,
        /// Keep nothing of it.
        #[oai(header = "Cache-Control")]
        String,
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
    /// changes in quick succession the last is enough. When nothing else has come for 15 s, `retry: 3000` does, a message
    /// without data. Before the service ends the stream it sends `event: end` with `{"reason": "token_expired"}`, `"stopping"` or `"too_long"` (an hour).
    /// Open it with `fetch`, which can send the token in its header.
    #[oai(path = "/api/billing/subscription/events/", method = "get", operation_id = "streamSubscription")]
    async fn open(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// The `id` of the last message that was received. While it is the ETag of the present state, the first message
        /// has no data.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<Answer, Failure<StreamProblems>> {
        let UserToken(caller) = token;
        let opened = state.billing.streams.open(&caller.tenant).await.inspect_err(|error| {
            if let NotOpened::NotRead(_) = error {
                tracing::error!(%error, tenant = %caller.tenant, "a stream could not be opened");
            }
        });
        let (stream, entitlement) = opened?;
        let limits = Limits::of_stream(state.billing.clock.clone(), caller.token_ends_at);
        let changes = Changes { stream, caller, spoke_ms: limits.opened_ms, etag: last_event_id.0 };
        let messages = follow(changes, entitlement, limits);
        Ok(Answer::Open(EventStream::of(messages), "no-store".to_owned(), "no".to_owned()))
    }
}

/// Follows in a task of its own, and returns the messages. The server asks for one when the client's connection has room
/// for it: a client that takes none would never be told to end, and would keep its place.
fn follow(
    changes: Changes,
    first: Entitlement,
    limits: Limits,
) -> impl futures_util::Stream<Item = Event> + Send + 'static {
    let (messages, mut taken) = mpsc::channel(WAITING);
    tokio::spawn(run(changes, first, limits, messages));
    stream::poll_fn(move |context| taken.poll_recv(context))
}

async fn run(mut changes: Changes, first: Entitlement, limits: Limits, messages: mpsc::Sender<Event>) {
    // Nobody has taken a place yet.
    let Ok(last) = messages.clone().try_reserve_owned() else { return };
    let end = tokio::select! {
        biased;
        () = messages.closed() => return,
        () = changes.stream.ended() => End::Stopping,
        end = limits.reached() => end,
        () = changes.tell(&first, &limits, &messages) => return,
    };
    // Whoever is told of the end may come back at once, and needs the place.
    drop(changes);
    last.send(event_stream::end(end));
}

/// How long a stream may go on. The token's end is in Unix seconds, all else in milliseconds of the steady clock.
struct Limits {
    clock: Arc<dyn Clock>,
    opened_ms: i64,
    token_ends_at: i64,
}

impl Limits {
    fn of_stream(clock: Arc<dyn Clock>, token_ends_at: i64) -> Self {
        Self { opened_ms: clock.steady_ms(), clock, token_ends_at }
    }

    async fn reached(&self) -> End {
        loop {
            if let Some(end) = self.due() {
                return end;
            }
            sleep(TICK).await;
        }
    }

    fn due(&self) -> Option<End> {
        if self.clock.now_seconds() >= self.token_ends_at {
            Some(End::TokenExpired)
        } else {
            self.has_passed(self.opened_ms, LONGEST).then_some(End::TooLong)
        }
    }

    fn has_passed(&self, since_ms: i64, length: Duration) -> bool {
        u128::try_from(self.clock.steady_ms() - since_ms)
            .is_ok_and(|passed_ms| passed_ms >= length.as_millis())
    }
}

/// What there is to tell of a tenant.
struct Changes {
    stream: Stream,
    caller: Caller,
    /// When the last message was ready, in milliseconds of the steady clock.
    spoke_ms: i64,
    /// What the client has.
    etag: Option<String>,
}

impl Changes {
    /// Tells the first, and then what comes, each when there is room for it, until nobody is there any more. For whoever is
    /// slow the latest is enough.
    async fn tell(&mut self, first: &Entitlement, limits: &Limits, messages: &mpsc::Sender<Event>) {
        let mut first = Some(self.news(first).unwrap_or_else(event_stream::heartbeat));
        while let Ok(room) = messages.reserve().await {
            let message = match first.take() {
                Some(first) => first,
                None => self.next(limits).await,
            };
            room.send(message);
            self.spoke_ms = limits.clock.steady_ms();
        }
    }

    async fn next(&mut self, limits: &Limits) -> Event {
        loop {
            let message = tokio::select! {
                entitlement = self.stream.next() => self.news(&entitlement),
                () = sleep(TICK) => self.heartbeat(limits),
            };
            if let Some(message) = message {
                return message;
            }
        }
    }

    /// A message, if the client does not have it.
    fn news(&mut self, entitlement: &Entitlement) -> Option<Event> {
        let written = Subscription::new(&self.caller.tenant, entitlement, self.caller.may_manage).written();
        let etag = written.etag();
        if self.etag.as_ref() == Some(&etag) {
            return None;
        }
        let message = event_stream::subscription(&etag, written.0);
        self.etag = Some(etag);
        Some(message)
    }

    /// A sign of life, if it is time for one, and not for the end.
    fn heartbeat(&self, limits: &Limits) -> Option<Event> {
        let is_due = limits.has_passed(self.spoke_ms, HEARTBEAT) && limits.due().is_none();
        is_due.then(event_stream::heartbeat)
    }
}
