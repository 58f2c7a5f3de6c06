//! What goes on over a connection, and until when it may.
//!
//! A connection is for asking and answering. One that does neither in time is ended: whoever opens it and is silent, sends
//! a head of a request byte by byte, or does not fetch an answer. It is the same rule for every version of HTTP, and for
//! what comes before a version is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a connection may take to its first whole head. Browsers open some that they may never use, and open them anew.
const FIRST_HEAD: Duration = Duration::from_secs(10);

/// How long it may be silent between an answer and the next whole head: longer than proxies keep theirs, so that it is
/// they who close.
const SILENCE: Duration = Duration::from_secs(75);

/// How long an answer may be thought about. It is given up before: see `PATIENCE` in [`crate::http`].
const THOUGHT: Duration = Duration::from_secs(30);

/// What a connection does.
#[derive(Debug)]
pub(in crate::http) struct Work {
    state: watch::Sender<State>,
    head_is_due: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Since when there is nothing to answer.
    silent_since: Instant,
    has_asked: bool,
    /// The answers that are under way, by their numbers.
    answers: BTreeMap<u64, Answer>,
    next: u64,
}

#[derive(Debug)]
struct Answer {
    /// Until when it must be out.
    due: Instant,
    /// Whether it goes on until somebody ends it.
    is_stream: bool,
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Overdue {
    /// There was no request in time.
    Silent,
    /// An answer was not fetched in time.
    Stalled,
}

impl Overdue {
    /// The word in metrics.
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stalled => "stalled",
        }
    }
}

/// An answer that is under way. It is out, or nobody wants it any more, when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Answering {
    work: Arc<Work>,
    number: u64,
}

impl Default for Work {
    fn default() -> Self {
        let state =
            State { silent_since: Instant::now(), has_asked: false, answers: BTreeMap::new(), next: 0 };
        Self { state: watch::Sender::new(state), head_is_due: AtomicBool::new(true) }
    }
}

impl Work {
    /// A request has come.
    pub(in crate::http) fn answer(self: Arc<Self>) -> Answering {
        let mut number = 0;
        self.state.send_modify(|state| {
            number = state.next;
            state.next += 1;
            state.has_asked = true;
            state.answers.insert(number, Answer { due: Instant::now() + THOUGHT, is_stream: false });
        });
        Answering { work: self, number }
    }

    /// Since when there is nothing to answer, if there is nothing.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let state = self.state.borrow();
        state.answers.is_empty().then_some(state.silent_since)
    }

    /// Whether there is nothing to answer.
    pub(in crate::http) fn is_silent(&self) -> bool {
        self.silent_since().is_some()
    }

    /// Waits until there is nothing to answer, or nothing but streams, which do not end by themselves.
    pub(in crate::http) async fn only_streams(&self) {
        let mut state = self.state.subscribe();
        // There is always a sender, as long as there is somebody to ask it.
        let _ = state.wait_for(|state| state.answers.values().all(|answer| answer.is_stream)).await;
    }

    /// Whether what is read next begins a head. It does once for each that this says so of.
    pub(in crate::http) fn takes_head(&self) -> bool {
        self.head_is_due.swap(false, Ordering::AcqRel)
    }

    /// Waits until the connection has taken too long over something.
    pub(in crate::http) async fn overdue(&self) -> Overdue {
        let mut state = self.state.subscribe();
        loop {
            let (deadline, overdue) = state.borrow_and_update().deadline();
            tokio::select! {
                () = sleep_until(deadline) => return overdue,
                // There is always a sender, as long as there is somebody to ask it.
                _ = state.changed() => {}
            }
        }
    }
}

impl State {
    fn deadline(&self) -> (Instant, Overdue) {
        match self.answers.values().map(|answer| answer.due).min() {
            Some(earliest) => (earliest, Overdue::Stalled),
            None if self.has_asked => (self.silent_since + SILENCE, Overdue::Silent),
            None => (self.silent_since + FIRST_HEAD, Overdue::Silent),
        }
    }
}

impl Answering {
    /// The answer has begun, and must be out in this time.
    pub(in crate::http) fn be_out_in(&self, time: Duration) {
        self.is(Answer { due: Instant::now() + time, is_stream: false });
    }

    /// A stream has begun, and must be over in this time.
    pub(in crate::http) fn stream_for(&self, time: Duration) {
        self.is(Answer { due: Instant::now() + time, is_stream: true });
    }

    fn is(&self, answer: Answer) {
        self.work.state.send_modify(|state| _ = state.answers.insert(self.number, answer));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.work.state.send_modify(|state| {
            state.answers.remove(&self.number);
            state.silent_since = Instant::now();
        });
        self.work.head_is_due.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    async fn is_overdue_after(work: &Work, time: Duration) -> Option<Overdue> {
        timeout(time, work.overdue()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_nothing_is_overdue_soon_and_whoever_has_asked_later() {
        let work = Arc::new(Work::default());
        assert_eq!(is_overdue_after(&work, FIRST_HEAD * 2).await, Some(Overdue::Silent));
        drop(work.clone().answer());
        assert_eq!(is_overdue_after(&work, FIRST_HEAD * 2).await, None);
        assert_eq!(is_overdue_after(&work, SILENCE).await, Some(Overdue::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_its_own_time() {
        let work = Arc::new(Work::default());
        let long = work.clone().answer();
        long.stream_for(Duration::from_hours(1));
        assert_eq!(is_overdue_after(&work, SILENCE * 2).await, None, "a stream is not silence");
        let short = work.clone().answer();
        assert_eq!(is_overdue_after(&work, THOUGHT * 2).await, Some(Overdue::Stalled));
        drop(short);
        assert_eq!(is_overdue_after(&work, SILENCE * 2).await, None);
        assert!(!work.is_silent());
        drop(long);
        assert!(work.is_silent());
    }

    #[tokio::test]
    async fn a_stream_is_nothing_to_wait_for() {
        let work = Arc::new(Work::default());
        let (stream, answer) = (work.clone().answer(), work.clone().answer());
        stream.stream_for(Duration::from_hours(1));
        assert!(work.only_streams().now_or_never().is_none(), "an answer is");
        drop(answer);
        assert!(work.only_streams().now_or_never().is_some());
        assert!(!work.is_silent());
    }

    #[test]
    fn a_head_is_due_at_first_and_after_each_answer() {
        let work = Arc::new(Work::default());
        assert_eq!([work.takes_head(), work.takes_head()], [true, false]);
        let answering = work.clone().answer();
        assert!(!work.takes_head());
        drop(answering);
        assert_eq!([work.takes_head(), work.takes_head()], [true, false]);
    }
}
