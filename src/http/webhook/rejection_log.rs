//! Logs webhooks with an invalid signature. Anyone can send those, so the lines are rate limited:
//! they can neither fill the disk nor displace other lines. Each line has the number of rejections
//! before it that were not logged.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{Quota, RateLimiter};

use crate::billing::WebhookRecord;
use crate::clock::Clock;
use crate::domain::journey::Traceparent;
use crate::domain::signature::{RejectionReason, SignatureError};
use crate::http::throttle::{LineLimiter, SteadyClock, one_line_per_minute};
use crate::telemetry::spans::current_trace;
use crate::telemetry::topics::{Level, Line, Topic, TopicLogs};

/// At most about 25 MB a day.
const MAX_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// Lines at once: enough for every delivery of a busy minute after the secret was rotated wrongly.
const MAX_BURST_LINES: NonZeroU32 = NonZeroU32::new(60).expect("not zero");

pub(super) struct RejectionLog {
    topics: TopicLogs,
    record: Arc<WebhookRecord>,
    clock: Arc<dyn Clock>,
    lines: LineLimiter,
    warnings: LineLimiter,
    suppressed: Mutex<Suppressed>,
}

#[derive(Debug, Clone, Copy)]
struct Rejection {
    error: SignatureError,
    at_ms: i64,
    trace: Option<Traceparent>,
}

/// The rejections since the last line.
#[derive(Default)]
struct Suppressed {
    count: u64,
    latest: Option<Rejection>,
}

impl RejectionLog {
    pub(super) fn new(topics: TopicLogs, record: Arc<WebhookRecord>, clock: Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(MAX_LINES_PER_SECOND).allow_burst(MAX_BURST_LINES);
        let lines = RateLimiter::direct_with_clock(quota, SteadyClock(clock.clone()));
        let warnings = one_line_per_minute(clock.clone());
        Self { topics, record, clock, lines, warnings, suppressed: Mutex::default() }
    }

    /// Whether another warning may be printed on stderr: one per minute. A call uses up the
    /// permission.
    pub(super) fn may_warn(&self) -> bool {
        self.warnings.check().is_ok()
    }

    /// Records a rejection. It must be called for every rejected signature.
    pub(super) fn record(&self, error: SignatureError) {
        let now_ms = self.clock.now_ms();
        self.record.note_rejected(error.reason, now_ms);
        self.warn_about_wrong_secret(error, now_ms);
        let rejection = Rejection { error, at_ms: now_ms, trace: current_trace() };
        let count = {
            let mut suppressed = self.suppressed();
            if self.lines.check().is_err() {
                suppressed.count += 1;
                suppressed.latest = Some(rejection);
                return;
            }
            std::mem::take(&mut *suppressed).count
        };
        self.topics.append(&[rejection.line(count)]);
    }

    /// Warns on stderr if webhooks look like Stripe's but none is verified: the secret or the clock
    /// is wrong. A third party can cause the warning too, but only while no webhook of Stripe's is
    /// verified.
    fn warn_about_wrong_secret(&self, error: SignatureError, now_ms: i64) {
        let advice = match error.reason {
            RejectionReason::NoMatch => "compare STRIPE_WEBHOOK_SECRET with the endpoint's signing secret",
            RejectionReason::TooOld => "check this machine's clock",
            RejectionReason::Missing | RejectionReason::Malformed => return,
        };
        if self.record.has_no_recent_verification(now_ms) && self.may_warn() {
            tracing::warn!(
                reason = error.reason.as_str(),
                skew_seconds = error.skew_seconds,
                "webhooks are rejected, and none was verified since the start or in the last hour: {advice}"
            );
        }
    }

    /// Logs the suppressed rejections in one line: the latest, with the number of the others.
    pub(super) fn log_suppressed(&self) {
        let Suppressed { count, latest } = std::mem::take(&mut *self.suppressed());
        if let Some(latest) = latest {
            self.topics.append(&[latest.line(count - 1)]);
        }
    }

    fn suppressed(&self) -> MutexGuard<'_, Suppressed> {
        self.suppressed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rejection {
    fn line(self, suppressed: u64) -> Line {
        Line::new(Topic::WebhookSignatures, Level::Warn, "signature.rejected", self.at_ms)
            .outcome("rejected")
            .reason(self.error.reason.as_str())
            .skew_seconds(self.error.skew_seconds)
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
    use crate::domain::log_config::LogConfig;
    use crate::domain::signature::RejectionReason;

    struct Flood {
        dir: TempDir,
        clock: Arc<ManualClock>,
        rejections: RejectionLog,
    }

    impl Flood {
        fn new() -> Self {
            let dir = tempdir().expect("a directory");
            let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
            let topics = TopicLogs::open(&LogConfig::in_dir(dir.path()));
            Self { dir, clock: clock.clone(), rejections: RejectionLog::new(topics, Arc::default(), clock) }
        }

        fn reject(&self, times: usize) {
            for _ in 0..times {
                self.rejections
                    .record(SignatureError { reason: RejectionReason::NoMatch, skew_seconds: Some(1) });
            }
        }

        /// The `suppressed` field of each line.
        fn suppressed(&self) -> Vec<u64> {
            let text = std::fs::read_to_string(self.dir.path().join("webhook_signatures.log"));
            let lines =
                text.expect("the log").lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
            lines.expect("JSON").iter().map(|line| line["suppressed"].as_u64().unwrap_or(0)).collect()
        }
    }

    #[test]
    fn sixty_rejections_are_all_logged() {
        let flood = Flood::new();
        flood.reject(60);
        flood.rejections.log_suppressed();
        assert_eq!(flood.suppressed(), [0; 60]);
    }

    #[test]
    fn flood_logs_one_line_per_second_with_suppressed_count() {
        let flood = Flood::new();
        flood.reject(1000);
        assert_eq!(flood.suppressed(), [0; 60]);
        for _ in 0..2 {
            flood.clock.advance_seconds(1);
            flood.reject(100);
        }
        assert_eq!(flood.suppressed()[60..], [940, 99]);
    }

    #[test]
    fn end_of_a_flood_is_logged_in_one_line() {
        let flood = Flood::new();
        flood.reject(1000);
        flood.rejections.log_suppressed();
        flood.rejections.log_suppressed();
        assert_eq!(flood.suppressed()[60..], [939], "the line itself is the 940th rejection");
    }

    #[test]
    fn warnings_are_limited_to_one_per_minute() {
        let flood = Flood::new();
        let warnings = || (0..100).filter(|_| flood.rejections.may_warn()).count();
        assert_eq!([warnings(), warnings()], [1, 0]);
        flood.clock.advance_seconds(60);
        assert_eq!(warnings(), 1);
    }

    #[test]
    fn clock_set_back_does_not_suppress_lines() {
        let flood = Flood::new();
        flood.reject(60);
        flood.clock.advance_seconds(-3600);
        flood.clock.advance_seconds(60);
        flood.reject(60);
        assert_eq!(flood.suppressed(), [0; 120]);
    }
}
