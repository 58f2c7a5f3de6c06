//! The webhooks whose signature was refused. Anybody can send those, as many as they like: the lines about them have a
//! budget, so that nobody can fill the disk or wash the other lines away. What is over it is counted, and the count is
//! told.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{Quota, RateLimiter};

use crate::billing::WebhookRecord;
use crate::clock::Clock;
use crate::domain::journey::Traceparent;
use crate::domain::signature::{Refusal, RefusalReason};
use crate::http::throttle::{LineLimiter, SteadyClock, one_line_a_minute};
use crate::telemetry::spans::current_trace;
use crate::telemetry::topics::{Level, Line, Topic, TopicLogs};

/// Lines about refused signatures in a second: some 25 MB a day at the worst.
const LINES_A_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// Lines that may come at once: each delivery of a busy minute after the secret was rolled wrongly.
const BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");

/// Tells of the refused signatures. Each line stands for itself and for the `suppressed` ones before it.
pub(super) struct Rejections {
    topics: TopicLogs,
    record: Arc<WebhookRecord>,
    clock: Arc<dyn Clock>,
    budget: LineLimiter,
    printing: LineLimiter,
    untold: Mutex<Option<Untold>>,
}

/// What happened, and when and where.
#[derive(Debug, Clone, Copy)]
struct Rejection {
    refusal: Refusal,
    at_milliseconds: i64,
    trace: Option<Traceparent>,
}

/// The latest that was not told, and how many were not before it.
#[derive(Debug, Clone, Copy)]
struct Untold {
    latest: Rejection,
    earlier: u64,
}

impl fmt::Debug for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejections({:?})", self.untold())
    }
}

impl Rejections {
    pub(super) fn new(topics: TopicLogs, record: Arc<WebhookRecord>, clock: Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(LINES_A_SECOND).allow_burst(BURST);
        let budget = RateLimiter::direct_with_clock(quota, SteadyClock(clock.clone()));
        let printing = one_line_a_minute(clock.clone());
        Self { topics, record, clock, budget, printing, untold: Mutex::default() }
    }

    /// Whether stderr may bear another line about a webhook that cannot be checked.
    pub(super) fn may_print(&self) -> bool {
        self.printing.check().is_ok()
    }

    /// Takes notice of one. All of them pass here.
    pub(super) fn note(&self, refusal: Refusal) {
        let now_ms = self.clock.now_ms();
        self.record.note_refused(refusal.reason, now_ms);
        self.warn_of_wrong_secret(refusal, now_ms);
        let rejection = Rejection { refusal, at_milliseconds: now_ms, trace: current_trace() };
        let suppressed = {
            let mut untold = self.untold();
            if self.budget.check().is_err() {
                let earlier = untold.map_or(0, Untold::count);
                *untold = Some(Untold { latest: rejection, earlier });
                return;
            }
            untold.take().map_or(0, Untold::count)
        };
        self.topics.append(&[rejection.line(suppressed)]);
    }

    /// Warns on stderr when webhooks look like Stripe's and none verifies: the secret or the clock is wrong. A stranger can
    /// cause the warning too, but only while Stripe itself sends nothing that verifies.
    fn warn_of_wrong_secret(&self, refusal: Refusal, now_ms: i64) {
        let problem = match refusal.reason {
            RefusalReason::NoMatch => "compare STRIPE_WEBHOOK_SECRET with the endpoint's signing secret",
            RefusalReason::TooOld => "compare this machine's clock with the time",
            RefusalReason::Missing | RefusalReason::Malformed => return,
        };
        if self.record.has_long_verified_none(now_ms) && self.may_print() {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                skew_seconds = refusal.skew_seconds,
                "webhooks are refused, and none was verified since the start or for an hour: {problem}"
            );
        }
    }

    /// Tells what has not been told, in one line: the latest's, with the number of the others.
    pub(super) fn log_suppressed(&self) {
        let untold = self.untold().take();
        if let Some(Untold { latest, earlier }) = untold {
            self.topics.append(&[latest.line(earlier)]);
        }
    }

    fn untold(&self) -> MutexGuard<'_, Option<Untold>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Untold {
    fn count(self) -> u64 {
        self.earlier + 1
    }
}

impl Rejection {
    fn line(self, suppressed: u64) -> Line {
        Line::new(Topic::WebhookSignatures, Level::Warn, "signature.rejected", self.at_milliseconds)
            .outcome("rejected")
            .reason(self.refusal.reason.as_str())
            .skew_seconds(self.refusal.skew_seconds)
            .suppressed(suppressed)
            .in_trace(self.trace)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::log_settings::LogConfig;
    use crate::domain::signature::RefusalReason;

    struct Flood {
        dir: TempDir,
        clock: Arc<ManualClock>,
        rejections: Rejections,
    }

    impl Flood {
        fn begin() -> Self {
            let dir = tempdir().expect("a directory");
            let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
            let topics = TopicLogs::open(&LogConfig::in_dir(dir.path()));
            Self { dir, clock: clock.clone(), rejections: Rejections::new(topics, Arc::default(), clock) }
        }

        fn refuse(&self, times: usize) {
            for _ in 0..times {
                self.rejections.note(Refusal { reason: RefusalReason::NoMatch, skew_seconds: Some(1) });
            }
        }

        /// How many each line says were suppressed.
        fn suppressed(&self) -> Vec<u64> {
            let text = std::fs::read_to_string(self.dir.path().join("webhook_signatures.log"));
            let lines =
                text.expect("the log").lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
            lines.expect("JSON").iter().map(|line| line["suppressed"].as_u64().unwrap_or(0)).collect()
        }
    }

    #[test]
    fn a_few_are_all_told() {
        let flood = Flood::begin();
        flood.refuse(60);
        flood.rejections.log_suppressed();
        assert_eq!(flood.suppressed(), [0; 60]);
    }

    #[test]
    fn of_a_flood_one_a_second_is_told_and_says_how_many_were_not() {
        let flood = Flood::begin();
        flood.refuse(1000);
        assert_eq!(flood.suppressed(), [0; 60]);
        for _ in 0..2 {
            flood.clock.advance_seconds(1);
            flood.refuse(100);
        }
        assert_eq!(flood.suppressed()[60..], [940, 99]);
    }

    #[test]
    fn the_end_of_a_flood_is_told_once_in_one_line() {
        let flood = Flood::begin();
        flood.refuse(1000);
        flood.rejections.log_suppressed();
        flood.rejections.log_suppressed();
        assert_eq!(flood.suppressed()[60..], [939], "and the line itself is the 940th");
    }

    #[test]
    fn of_what_cannot_be_checked_one_line_a_minute_is_printed() {
        let flood = Flood::begin();
        let printed = || (0..100).filter(|_| flood.rejections.may_print()).count();
        assert_eq!([printed(), printed()], [1, 0]);
        flood.clock.advance_seconds(60);
        assert_eq!(printed(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_mutes_nobody() {
        let flood = Flood::begin();
        flood.refuse(60);
        flood.clock.advance_seconds(-3600);
        flood.clock.advance_seconds(60);
        flood.refuse(60);
        assert_eq!(flood.suppressed(), [0; 120]);
    }
}
