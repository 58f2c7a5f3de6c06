//! `GET /api/billing/subscription/events/`: an event stream with the tenant's subscription and its
//! changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::param::Header;
use poem_openapi::{ApiResponse, OpenApi};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::event_stream::{self, End, EventStream};
use super::subscription::Subscription;
use super::{ApiState, Tag};
use crate::billing::{EntitlementStream, OpenStreamError, TenantUser};
use crate::clock::Clock;
use crate::domain::plan::Entitlement;
use crate::http::auth::UserToken;
use crate::http::problem::{DocumentedProblems, ProblemResponse};

/// Proxies close streams that are idle for a minute, some after 30 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Closes streams whose page is gone. A page that is still open reconnects.
const MAX_STREAM_DURATION: Duration = Duration::from_hours(1);

/// How often a stream checks the clock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Messages that wait for the client: the next, and the last one, whose slot is reserved from the
/// start.
const MESSAGE_BUFFER: usize = 2;

pub(in crate::http) struct StreamApi;

#[derive(ApiResponse)]
enum StreamResponse {
    /// The current state, then changes.
    #[oai(status = 200)]
    Open(
        EventStream,
        /// Always `no-store`.
        #[oai(header = "Cache-Control")]
        String,
        /// Always `no`: nginx forwards each message at once.
        #[oai(header = "X-Accel-Buffering")]
        String,
    ),
}

struct StreamProblems;

impl DocumentedProblems for StreamProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (500, "`internal`"),
        (503, "`unavailable`: also if too many streams are open. Poll the subscription instead"),
    ];
}

#[OpenApi(tag = "Tag::Billing")]
impl StreamApi {
    /// Follow the tenant's subscription
    ///
    /// Server-Sent Events. Each message is `event: subscription`. Its `id` is the ETag of
    /// `getSubscription`, and its `data` is the same object. The first message is sent at once with
    /// the current state, and the others when it changes. Of several quick changes, only the last
    /// may be sent. After 15 s without a message, `retry: 3000` is sent, a message without data.
    /// Before the service ends the stream, it sends `event: end` with
    /// `{"reason": "token_expired"}`, `"stopping"`, or `"too_long"` after an hour. Open the stream
    /// with `fetch`, which can send the token in a header.
    #[oai(path = "/api/billing/subscription/events/", method = "get", operation_id = "streamSubscription")]
    async fn open(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// The `id` of the last received message. If it is the ETag of the current state, the first
        /// message has no data.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<StreamResponse, ProblemResponse<StreamProblems>> {
        let UserToken(caller) = token;
        let opened = state.billing.streams.open(&caller.tenant).await.inspect_err(|error| {
            if let OpenStreamError::Database(_) = error {
                tracing::error!(%error, tenant = %caller.tenant, "could not open a stream");
            }
        });
        let (stream, entitlement) = opened?;
        let limits = Limits::start(state.billing.clock.clone(), caller.token_accepted_until);
        let updates = Updates { stream, caller, last_message_ms: limits.opened_ms, etag: last_event_id.0 };
        let messages = spawn(updates, entitlement, limits);
        Ok(StreamResponse::Open(EventStream::new(messages), "no-store".to_owned(), "no".to_owned()))
    }
}

/// Runs the stream in its own task and returns its messages. hyper asks for a message only when the
/// client's connection has room for it. Without the task, a stream whose client reads nothing would
/// never end.
fn spawn(
    updates: Updates,
    first: Entitlement,
    limits: Limits,
) -> impl futures_util::Stream<Item = Event> + Send + 'static {
    let (messages, mut receiver) = mpsc::channel(MESSAGE_BUFFER);
    tokio::spawn(run(updates, first, limits, messages));
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

async fn run(mut updates: Updates, first: Entitlement, limits: Limits, messages: mpsc::Sender<Event>) {
    // It cannot fail, since nothing has been sent yet.
    let Ok(last_slot) = messages.clone().try_reserve_owned() else { return };
    let end = tokio::select! {
        biased;
        () = messages.closed() => return,
        () = updates.stream.closed() => End::Stopping,
        end = limits.wait() => end,
        () = updates.send_all(&first, &limits, &messages) => return,
    };
    // The client may reconnect at once and needs the stream's slot.
    drop(updates);
    last_slot.send(event_stream::end(end));
}

/// When a stream has to end. The token's end is in Unix seconds, the opening in milliseconds of the
/// steady clock.
struct Limits {
    clock: Arc<dyn Clock>,
    opened_ms: i64,
    token_accepted_until: i64,
}

impl Limits {
    fn start(clock: Arc<dyn Clock>, token_accepted_until: i64) -> Self {
        Self { opened_ms: clock.steady_ms(), clock, token_accepted_until }
    }

    async fn wait(&self) -> End {
        loop {
            if let Some(end) = self.reached() {
                return end;
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    fn reached(&self) -> Option<End> {
        if self.clock.now_seconds() >= self.token_accepted_until {
            Some(End::TokenExpired)
        } else {
            self.has_passed(self.opened_ms, MAX_STREAM_DURATION).then_some(End::TooLong)
        }
    }

    fn has_passed(&self, since_ms: i64, length: Duration) -> bool {
        u128::try_from(self.clock.steady_ms() - since_ms)
            .is_ok_and(|passed_ms| passed_ms >= length.as_millis())
    }
}

struct Updates {
    stream: EntitlementStream,
    caller: TenantUser,
    /// In milliseconds of the steady clock.
    last_message_ms: i64,
    /// The ETag of the state that the client has.
    etag: Option<String>,
}

impl Updates {
    /// Sends the first state and all updates until the client disconnects. Waits for room first, so
    /// that a slow client gets only the latest state.
    async fn send_all(&mut self, first: &Entitlement, limits: &Limits, messages: &mpsc::Sender<Event>) {
        let mut first = Some(self.update_message(first).unwrap_or_else(event_stream::heartbeat));
        while let Ok(room) = messages.reserve().await {
            let message = match first.take() {
                Some(first) => first,
                None => self.next_message(limits).await,
            };
            room.send(message);
            self.last_message_ms = limits.clock.steady_ms();
        }
    }

    async fn next_message(&mut self, limits: &Limits) -> Event {
        loop {
            let message = tokio::select! {
                entitlement = self.stream.next() => self.update_message(&entitlement),
                () = sleep(CHECK_INTERVAL) => self.heartbeat(limits),
            };
            if let Some(message) = message {
                return message;
            }
        }
    }

    /// None if the client already has this state.
    fn update_message(&mut self, entitlement: &Entitlement) -> Option<Event> {
        let json = Subscription::new(&self.caller.tenant, entitlement, self.caller.may_manage).serialize();
        let etag = json.etag();
        if self.etag.as_ref() == Some(&etag) {
            return None;
        }
        let message = event_stream::subscription(&etag, json.0);
        self.etag = Some(etag);
        Some(message)
    }

    /// None if no heartbeat is due, or the stream has to end.
    fn heartbeat(&self, limits: &Limits) -> Option<Event> {
        let is_due =
            limits.has_passed(self.last_message_ms, HEARTBEAT_INTERVAL) && limits.reached().is_none();
        is_due.then(event_stream::heartbeat)
    }
}
