//! Tracks whether the service works on a connection's requests or the connection waits for its
//! client.
//!
//! A socket timeout cannot tell. An HTTP/2 client that grants no window acknowledges every PING and
//! leaves no write pending, and the client of an event stream legitimately sends nothing for an
//! hour. So each response reports when it hands data to hyper and when hyper asks for more, which
//! it does after the client has read some.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From the opening of a connection to its first complete request, including TLS. Browsers open
/// spare connections and reconnect when needed.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// From a response to the next complete request. Longer than the 60 s for which proxies keep idle
/// connections, so that the proxy closes first and never sends a request on a connection that is
/// being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a response may make no progress. The socket's buffer hides small steps: a client that
/// reads less than about 1 KB/s looks like one that reads nothing.
const RESPONSE_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// The same for an event stream, whose client may be a sleeping laptop.
const STREAM_STALL_TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct ConnectionActivity {
    state: Mutex<State>,
    /// Whether a request on this connection was verified.
    is_verified: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The opening of the connection, or the end of the last exchange.
    idle_since: Instant,
    has_received_request: bool,
    /// Requests in progress by id: at most one with HTTP/1, several with HTTP/2.
    exchanges: Vec<(u64, Phase)>,
    next_exchange: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The service is working on the response.
    Handling,
    Responding {
        is_stream: bool,
        /// When the client last read data while more is ready for it. None: the service has to
        /// produce more first.
        waiting_on_client_since: Option<Instant>,
    },
}

/// What the client has failed to do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Send a request.
    Idle,
    /// Read a response.
    Stalled,
}

/// A request in progress. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Arc<ConnectionActivity>,
    id: u64,
}

impl ConnectionActivity {
    pub(super) fn new() -> Self {
        let state = State {
            idle_since: Instant::now(),
            has_received_request: false,
            exchanges: Vec::new(),
            next_exchange: 0,
        };
        Self { state: Mutex::new(state), is_verified: AtomicBool::new(false) }
    }

    pub(super) fn start_exchange(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        let id = state.next_exchange;
        state.next_exchange += 1;
        state.has_received_request = true;
        state.exchanges.push((id, Phase::Handling));
        Exchange { activity: self.clone(), id }
    }

    /// Since when the connection has waited only for its client. None while the service works on a
    /// request.
    pub(super) fn waiting_on_client_since(&self) -> Option<Instant> {
        let state = self.lock();
        let mut since = state.exchanges.iter().map(|(_, phase)| phase.waiting_on_client_since());
        match since.next() {
            None => Some(state.idle_since),
            // The latest: progress of one response is progress of the connection.
            Some(first) => since.try_fold(first?, |latest, since| Some(latest.max(since?))),
        }
    }

    /// Responses that the client has not read completely, without event streams.
    pub(super) fn unread_responses(&self) -> usize {
        let is_unread = |phase: &Phase| {
            matches!(phase, Phase::Responding { is_stream: false, waiting_on_client_since: Some(_) })
        };
        self.lock().exchanges.iter().filter(|(_, phase)| is_unread(phase)).count()
    }

    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.lock();
        let idle_timeout = if state.has_received_request { IDLE_TIMEOUT } else { FIRST_REQUEST_TIMEOUT };
        if state.exchanges.is_empty() {
            return (now.duration_since(state.idle_since) >= idle_timeout).then_some(Overdue::Idle);
        }
        let is_stalled = state.exchanges.iter().any(|(_, phase)| phase.is_stalled(now));
        is_stalled.then_some(Overdue::Stalled)
    }

    /// Whether no request is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().exchanges.is_empty()
    }

    /// Whether there is no response to finish. True without requests, too: event streams do not
    /// count, since the client may not be reading them.
    pub(super) fn has_only_streams(&self) -> bool {
        let is_stream = |phase: &Phase| matches!(phase, Phase::Responding { is_stream: true, .. });
        self.lock().exchanges.iter().all(|(_, phase)| is_stream(phase))
    }

    pub(super) fn is_verified(&self) -> bool {
        self.is_verified.load(Ordering::Relaxed)
    }

    pub(super) fn set_verified(&self) {
        self.is_verified.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    fn waiting_on_client_since(self) -> Option<Instant> {
        match self {
            Self::Handling => None,
            Self::Responding { waiting_on_client_since, .. } => waiting_on_client_since,
        }
    }

    fn is_stalled(self, now: Instant) -> bool {
        let Self::Responding { is_stream, waiting_on_client_since: Some(since) } = self else { return false };
        let timeout = if is_stream { STREAM_STALL_TIMEOUT } else { RESPONSE_STALL_TIMEOUT };
        now.duration_since(since) >= timeout
    }
}

impl Exchange {
    /// The response is ready, and the client has to read it.
    pub(super) fn respond(&self, is_stream: bool) {
        let waiting_on_client_since = Some(Instant::now());
        self.update(|phase| *phase = Phase::Responding { is_stream, waiting_on_client_since });
    }

    /// The client has read the previous data, and more is ready.
    pub(super) fn hand_over(&self) {
        self.wait_on_client_since(Some(Instant::now()));
    }

    /// The client has read everything so far, and the service has to produce more.
    pub(super) fn await_service(&self) {
        self.wait_on_client_since(None);
    }

    fn wait_on_client_since(&self, since: Option<Instant>) {
        self.update(|phase| {
            if let Phase::Responding { waiting_on_client_since, .. } = phase {
                *waiting_on_client_since = since;
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut Phase)) {
        let mut state = self.activity.lock();
        if let Some((_, phase)) = state.exchanges.iter_mut().find(|(id, _)| *id == self.id) {
            change(phase);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        state.exchanges.retain(|(id, _)| *id != self.id);
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn activity() -> Arc<ConnectionActivity> {
        Arc::new(ConnectionActivity::new())
    }

    #[tokio::test(start_paused = true)]
    async fn first_request_has_a_shorter_timeout_than_later_ones() {
        let activity = activity();
        advance(FIRST_REQUEST_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), Some(Overdue::Idle));
        drop(activity.start_exchange());
        advance(FIRST_REQUEST_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), None);
        advance(IDLE_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn unread_response_is_overdue_sooner_than_unread_stream() {
        let activity = activity();
        let (response, stream) = (activity.start_exchange(), activity.start_exchange());
        advance(STREAM_STALL_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), None, "the service is working on both");
        response.respond(false);
        stream.respond(true);
        advance(RESPONSE_STALL_TIMEOUT / 2).await;
        response.hand_over();
        advance(RESPONSE_STALL_TIMEOUT / 2).await;
        assert_eq!(activity.overdue(Instant::now()), None, "progress");
        advance(RESPONSE_STALL_TIMEOUT / 2).await;
        assert_eq!(activity.overdue(Instant::now()), Some(Overdue::Stalled));
        drop(response);
        assert_eq!(activity.overdue(Instant::now()), None);
        advance(STREAM_STALL_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), Some(Overdue::Stalled));
        stream.await_service();
        assert_eq!(activity.overdue(Instant::now()), None, "a stream with nothing to send is not stalled");
    }

    #[tokio::test(start_paused = true)]
    async fn connection_waits_on_client_only_if_all_responses_do() {
        let activity = activity();
        let opened = Instant::now();
        assert_eq!(activity.waiting_on_client_since(), Some(opened));
        let (first, second) = (activity.start_exchange(), activity.start_exchange());
        first.respond(false);
        assert_eq!(activity.waiting_on_client_since(), None, "the second is being handled");
        advance(Duration::from_secs(1)).await;
        second.respond(true);
        assert_eq!(activity.waiting_on_client_since(), Some(Instant::now()));
        assert!(!activity.has_only_streams());
        second.await_service();
        assert_eq!(activity.waiting_on_client_since(), None);
        drop(first);
        assert!(activity.has_only_streams());
    }
}
