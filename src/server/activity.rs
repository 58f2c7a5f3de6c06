//! What a connection is doing: is the service working for it, or does it wait for its client?
//!
//! A read or write timeout on the socket cannot tell. A client of HTTP/2 that grants no window acknowledges every PING and
//! leaves no write pending, and a stream of events is right to read nothing for an hour. So each response says when it has
//! handed over data and when it is asked for more, which the server does once the client has taken some.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From the opening of a connection to its first whole request, TLS included. Browsers open connections that they may
/// never use, and open others when they need them.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// From a response to the next whole request. Longer than the 60 s that proxies keep idle connections, so that the proxy
/// closes first and never sends a request on a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a response may make no progress. The socket's buffer hides small steps: a client that takes less than about
/// 1 KB/s looks like one that takes nothing.
const RESPONSE_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// The same for a stream of events, whose client may be a laptop that sleeps.
const STREAM_STALL_TIMEOUT: Duration = Duration::from_mins(10);

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    state: Mutex<State>,
    /// Whether a request over this connection has proved to be genuine.
    is_verified: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The opening, or the end of the last exchange.
    idle_since: Instant,
    has_received_request: bool,
    /// Requests that are being answered: one with HTTP/1, several with HTTP/2.
    exchanges: Vec<(u64, Phase)>,
    next_exchange: u64,
}

/// How far an exchange is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The service works on the response.
    Handling,
    Responding {
        is_stream: bool,
        /// When the client last took data while more is ready for it. None: the service has to produce more first.
        waiting_on_client_since: Option<Instant>,
    },
}

/// What a connection has failed to do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// To send a request.
    Idle,
    /// To take a response.
    Stalled,
}

/// A request that is being answered, until this is dropped.
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

    /// A request has arrived.
    pub(super) fn start_exchange(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        let id = state.next_exchange;
        state.next_exchange += 1;
        state.has_received_request = true;
        state.exchanges.push((id, Phase::Handling));
        Exchange { activity: self.clone(), id }
    }

    /// Since when the connection waits for its client and for nothing else. None while the service works for it.
    pub(super) fn waiting_on_client_since(&self) -> Option<Instant> {
        let state = self.lock();
        let mut since = state.exchanges.iter().map(|(_, phase)| phase.waiting_on_client_since());
        match since.next() {
            None => Some(state.idle_since),
            // The latest: the connection has made progress as long as one response has.
            Some(first) => since.try_fold(first?, |latest, since| Some(latest.max(since?))),
        }
    }

    /// Responses that the client has not taken, streams of events aside.
    pub(super) fn unread_responses(&self) -> usize {
        let is_unread = |phase: &Phase| {
            matches!(phase, Phase::Responding { is_stream: false, waiting_on_client_since: Some(_) })
        };
        self.lock().exchanges.iter().filter(|(_, phase)| is_unread(phase)).count()
    }

    /// What the connection has failed to do in time.
    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.lock();
        let idle_timeout = if state.has_received_request { IDLE_TIMEOUT } else { FIRST_REQUEST_TIMEOUT };
        if state.exchanges.is_empty() {
            return (now.duration_since(state.idle_since) >= idle_timeout).then_some(Overdue::Idle);
        }
        let is_stalled = state.exchanges.iter().any(|(_, phase)| phase.is_stalled(now));
        is_stalled.then_some(Overdue::Stalled)
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().exchanges.is_empty()
    }

    /// Whether there is no response to finish: none at all, or only streams, which the client may not be reading.
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
    /// The response is ready, and the client has to take it.
    pub(super) fn respond(&self, is_stream: bool) {
        let waiting_on_client_since = Some(Instant::now());
        self.update(|phase| *phase = Phase::Responding { is_stream, waiting_on_client_since });
    }

    /// The client has taken what came before, and there is more for it.
    pub(super) fn hand_over(&self) {
        self.wait_on_client_since(Some(Instant::now()));
    }

    /// The client has taken everything that there is so far.
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
    async fn idle_connection_is_overdue_sooner_before_its_first_request() {
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
    async fn response_is_overdue_without_progress_and_a_stream_later() {
        let activity = activity();
        let (response, stream) = (activity.start_exchange(), activity.start_exchange());
        advance(STREAM_STALL_TIMEOUT).await;
        assert_eq!(activity.overdue(Instant::now()), None, "the service works on both");
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
    async fn connection_waits_on_client_only_when_all_responses_do() {
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
