//! The backfill: reads the events that Stripe created while the service was down from Stripe's list
//! of events, and passes them to the same ingest as webhooks. So after a downtime the state becomes
//! correct without an operator.
//!
//! Events can become visible late, and pages come newest first. So a run lists a window that
//! overlaps the last one, collects all its pages, enqueues the events oldest first, and only then
//! moves the watermark. `gap_recovery` handles a downtime longer than Stripe lists events.

mod gap_recovery;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::schedule::{DueTime, Step, run_forever};
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::event::{Event, UnreadableEvent};
use crate::domain::ids::EventId;
use crate::ingest::{Delivery, Ingest, NotStored};
use crate::store::{GapRecovery, GapStep, Lease, StoreError};
use crate::stripe::{Deadline, EventPage, Stripe, StripeError, Window};

/// Short enough that a lost event is noticed before users complain, long enough to cost nothing.
const RUN_INTERVAL_MS: i64 = 5 * 60 * 1000;

/// How soon a replica without the lease tries again.
const LEASE_POLL_INTERVAL_MS: i64 = 10 * 1000;

/// A lease that is not renewed ends after this: longer than one page or one batch can take.
const LEASE_DURATION: Duration = Duration::from_mins(1);

/// How far a window overlaps the last one, because events can become visible late.
const OVERLAP_SECONDS: i64 = 15 * 60;

/// How long Stripe lists an event (<https://docs.stripe.com/api/events>).
pub const EVENT_LIST_SECONDS: i64 = 30 * 24 * 60 * 60;

/// A younger event may still arrive by webhook and does not count as missed.
const DELIVERY_GRACE_SECONDS: i64 = 60;

/// Limits of one window. They bound the memory of a run and the work lost in an interruption. A
/// window that exceeds one is halved.
const MAX_WINDOW_SECONDS: i64 = 24 * 60 * 60;
const MAX_WINDOW_EVENTS: usize = 5000;
const MAX_WINDOW_BYTES: usize = 64 * 1024 * 1024;
const MAX_GATHER_TIME: Duration = Duration::from_mins(1);

/// The most events that Stripe puts on a page. A page that is too large or too slow is requested
/// with fewer.
const MAX_PAGE_EVENTS: i64 = 100;

/// Events enqueued at once: one batch of the ingest, so that webhooks get their turn in between.
const MAX_BATCH_EVENTS: usize = 64;

pub(super) struct Backfill<'a> {
    billing: &'a Billing,
    ingest: Ingest,
    lease: Lease,
    due: DueTime,
    has_run: AtomicBool,
    /// Whether the last run succeeded.
    is_caught_up: AtomicBool,
    /// The current window length in seconds: halved when a window exceeds a limit, doubled after
    /// each complete one.
    window_seconds: AtomicI64,
}

/// Why a run ended early. Its enqueued events stay; the next run starts at the watermark.
#[derive(Debug, thiserror::Error)]
enum BackfillError {
    #[error(transparent)]
    Stripe(#[from] StripeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("events were not stored: {0}")]
    NotStored(#[from] NotStored),
    #[error("another replica has the lease")]
    LeaseLost,
}

/// `answered_at` is the `Date` of the first page, in Unix seconds.
enum Gathered {
    /// All events of the window, newest first.
    All { events: Vec<Box<RawValue>>, answered_at: i64 },
    /// The window exceeds a limit; `half` is half its length in seconds.
    TooMany { half: i64, answered_at: i64 },
}

impl<'a> Backfill<'a> {
    pub(super) fn new(billing: &'a Billing, ingest: Ingest) -> Self {
        Self {
            billing,
            ingest,
            lease: Lease::new("backfill", LEASE_DURATION),
            due: DueTime::now(),
            has_run: AtomicBool::new(false),
            is_caught_up: AtomicBool::new(false),
            window_seconds: AtomicI64::new(MAX_WINDOW_SECONDS),
        }
    }

    /// Runs at startup and then periodically, forever.
    pub(super) async fn run(&self) {
        if let Some(stripe) = self.billing.stripe.as_ref().map(Stripe::throttled) {
            run_forever("backfill", None, || self.step(&stripe)).await;
        }
    }

    /// Lets another replica run at once.
    pub(super) async fn release_lease(&self) {
        if let Err(error) = self.billing.store.release_lease(&self.lease).await {
            tracing::warn!(%error, "could not release the backfill's lease; it ends by itself");
        }
    }

    async fn step(&self, stripe: &Stripe) -> Result<Step, BillingError> {
        let steady_ms = self.billing.clock.steady_ms();
        if !self.due.has_come(steady_ms) {
            return Ok(Step::Idle);
        }
        let wait_ms = self.wait_after_other_replica().await?;
        if wait_ms > 0 || !self.billing.store.acquire_lease(&self.lease).await? {
            self.due.set(steady_ms + wait_ms.max(LEASE_POLL_INTERVAL_MS));
            return Ok(Step::Idle);
        }
        // A trace of its own, in which the found events are processed.
        let cause = if self.has_run.load(Ordering::Relaxed) { "schedule" } else { "start" };
        let span = info_span!(parent: None, "backfill", billing.backfill.cause = cause);
        let guard = self.billing.catch_up.end_on_drop();
        let result = self.fill(stripe).instrument(span).await;
        match &result {
            Ok(_) | Err(BackfillError::Stripe(_)) => drop(guard),
            // These pass soon, and Stripe can still be read, so sales stay blocked.
            Err(BackfillError::Store(_) | BackfillError::NotStored(_) | BackfillError::LeaseLost) => {
                guard.disarm();
            }
        }
        self.release_lease().await;
        match result {
            Ok(found) => {
                if found > 0 {
                    tracing::warn!(events = found, "the backfill found events that no webhook delivered");
                }
                self.has_run.store(true, Ordering::Relaxed);
                if !self.is_caught_up.swap(true, Ordering::Relaxed) {
                    tracing::info!(events = found, "the backfill caught up");
                }
                self.due.set(steady_ms + RUN_INTERVAL_MS);
                Ok(Step::Idle)
            }
            Err(error) => {
                self.is_caught_up.store(false, Ordering::Relaxed);
                tracing::error!(interrupted = %error, "the backfill was interrupted; it continues soon where it stopped");
                Ok(Step::Failed)
            }
        }
    }

    /// How long to wait because another replica ran recently, in milliseconds. A replica does not
    /// wait before its first run: it may be the only one.
    async fn wait_after_other_replica(&self) -> Result<i64, StoreError> {
        if !self.has_run.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let watermark = self.billing.store.watermark().await?;
        let age_ms = watermark.map(|mark| self.billing.clock.now_ms() - mark.finished_at_ms);
        // A run that ended in the future only shows that a clock is wrong.
        Ok(age_ms
            .filter(|age_ms| (0..RUN_INTERVAL_MS).contains(age_ms))
            .map_or(0, |age_ms| RUN_INTERVAL_MS - age_ms))
    }

    /// Brings the inbox up to date, window by window. Returns the number of events that no webhook
    /// delivered.
    async fn fill(&self, stripe: &Stripe) -> Result<usize, BackfillError> {
        let mut now = self.billing.clock.now_seconds();
        let mut from = self.first_second(stripe, now).await?;
        let mut found = 0;
        loop {
            let window = next_window(from, now, self.window_seconds.load(Ordering::Relaxed));
            let (events, answered_at) = match self.gather(stripe, window).await? {
                Gathered::TooMany { half, answered_at } => {
                    self.window_seconds.store(half, Ordering::Relaxed);
                    // With a slow clock of ours the window would otherwise stay open forever.
                    now = now.max(answered_at);
                    continue;
                }
                Gathered::All { events, answered_at } => (events, answered_at),
            };
            found += self.enqueue_new(events, answered_at).await?;
            // By Stripe's clock, because ours may be ahead and more events may still come.
            let Some(until) = window.until.filter(|until| *until <= answered_at) else {
                self.move_watermark(answered_at, Some(self.billing.clock.now_ms())).await?;
                return Ok(found);
            };
            self.move_watermark(until, None).await?;
            (from, now) = (until, now.max(answered_at));
            let longer = self.window_seconds.load(Ordering::Relaxed) * 2;
            self.window_seconds.store(longer.min(MAX_WINDOW_SECONDS), Ordering::Relaxed);
        }
    }

    /// Returns the first second to list: a little before the watermark, but not before Stripe lists
    /// events. An earlier gap is recovered first.
    async fn first_second(&self, stripe: &Stripe, now: i64) -> Result<i64, BackfillError> {
        let store = &self.billing.store;
        let Some(watermark) = store.watermark().await? else { return Ok(now - OVERLAP_SECONDS) };
        // A watermark in the future was set while a clock was wrong.
        let from = watermark.at.min(now) - OVERLAP_SECONDS;
        let unfinished = store.gap_recovery().await?;
        if unfinished.is_none() && from >= now - EVENT_LIST_SECONDS {
            return Ok(from);
        }
        // This is a gap unless our clock is wrong, so use Stripe's.
        let here = Window { from: now, until: None };
        let now = self.page(stripe, here, None, &mut 1).await?.answered_at;
        let listed_from = now - EVENT_LIST_SECONDS;
        // A recovery that started too long ago is followed by a gap of its own.
        if let Some(recovery) =
            unfinished.filter(|recovery| recovery.started_at - OVERLAP_SECONDS >= listed_from)
        {
            tracing::warn!("continuing the recovery from a gap of more than 30 days where it stopped");
            self.recover(stripe, from, recovery).await?;
        } else if watermark.at.max(watermark.leapt_at) - OVERLAP_SECONDS < listed_from {
            let missed_seconds = listed_from - from;
            tracing::error!(
                missed_seconds,
                "more than the 30 days for which Stripe lists events were missed; refreshing every customer"
            );
            let recovery = GapRecovery { started_at: now, step: GapStep::Customers { after: None } };
            store.save_gap_recovery(&recovery).await?;
            self.recover(stripe, from, recovery).await?;
        }
        Ok(from.max(listed_from))
    }

    async fn gather(&self, stripe: &Stripe, window: Window) -> Result<Gathered, BackfillError> {
        let started = Instant::now();
        let (mut events, mut bytes, mut length) = (Vec::new(), 0, MAX_PAGE_EVENTS);
        let (mut first_answered_at, mut after) = (None, None);
        loop {
            let is_too_many = events.len() >= MAX_WINDOW_EVENTS
                || bytes >= MAX_WINDOW_BYTES
                || started.elapsed() >= MAX_GATHER_TIME;
            if let (true, Some(answered_at)) = (is_too_many, first_answered_at)
                && let Some(half) = half(window, answered_at)
            {
                return Ok(Gathered::TooMany { half, answered_at });
            }
            let page = self.page(stripe, window, after.as_ref(), &mut length).await?;
            bytes += page.events.iter().map(|raw| raw.get().len()).sum::<usize>();
            events.extend(page.events);
            let answered_at = *first_answered_at.get_or_insert(page.answered_at);
            after = page.next;
            if after.is_none() {
                return Ok(Gathered::All { events, answered_at });
            }
        }
    }

    /// Returns one page. Reduces `length` while the page is too large or too slow.
    async fn page(
        &self,
        stripe: &Stripe,
        window: Window,
        after: Option<&EventId>,
        length: &mut i64,
    ) -> Result<EventPage, BackfillError> {
        loop {
            self.renew_lease().await?;
            let deadline = Deadline::after(STRIPE_DEADLINE);
            match stripe.list_events(window, after, *length, deadline).await {
                Err(error) if error.is_too_large_or_slow() && *length > 1 => *length /= 10,
                listed => return Ok(listed?),
            }
        }
    }

    /// Enqueues the events that are not in the inbox, oldest first. Returns their number without
    /// those that may still arrive by webhook.
    async fn enqueue_new(
        &self,
        newest_first: Vec<Box<RawValue>>,
        answered_at: i64,
    ) -> Result<usize, BackfillError> {
        let mut found = 0;
        let oldest_first: Vec<_> = newest_first.into_iter().rev().collect();
        for batch in oldest_first.chunks(MAX_BATCH_EVENTS) {
            let deliveries = self.unknown(batch).await?;
            let is_overdue =
                |delivery: &&Delivery| delivery.event.created < answered_at - DELIVERY_GRACE_SECONDS;
            found += deliveries.iter().filter(is_overdue).count();
            if !deliveries.is_empty() {
                self.renew_lease().await?;
                let enqueued = deliveries.into_iter().map(|delivery| self.ingest.enqueue(delivery));
                futures_util::future::try_join_all(enqueued).await?;
            }
        }
        Ok(found)
    }

    async fn unknown(&self, batch: &[Box<RawValue>]) -> Result<Vec<Delivery>, StoreError> {
        let read = |raw: &RawValue| {
            let payload = raw.get().as_bytes();
            let unreadable = |error: &UnreadableEvent| tracing::error!(%error, "could not read an event that Stripe lists");
            Some((Event::read(payload).inspect_err(unreadable).ok()?, payload.to_vec()))
        };
        let events: Vec<(Event, Vec<u8>)> = batch.iter().filter_map(|raw| read(raw)).collect();
        let known = self.billing.store.known_events(events.iter().map(|(event, _)| &event.id)).await?;
        let unknown = events.into_iter().filter(|(event, _)| !known.contains(&event.id));
        let now_ms = self.billing.clock.now_ms();
        Ok(unknown.map(|(event, payload)| Delivery::from_backfill(event, payload, now_ms)).collect())
    }

    async fn renew_lease(&self) -> Result<(), BackfillError> {
        if self.billing.store.acquire_lease(&self.lease).await? {
            Ok(())
        } else {
            Err(BackfillError::LeaseLost)
        }
    }

    /// Every event before `at` is in the inbox. `finished_at_ms` is set if the run has reached the
    /// present.
    async fn move_watermark(&self, at: i64, finished_at_ms: Option<i64>) -> Result<(), BackfillError> {
        let is_ours = self.billing.store.advance_watermark(at, finished_at_ms, &self.lease).await?;
        if is_ours { Ok(()) } else { Err(BackfillError::LeaseLost) }
    }
}

/// A window of `length` seconds, without an end if it reaches the present.
fn next_window(from: i64, now: i64, length: i64) -> Window {
    let until = from + length;
    Window { from, until: (until < now).then_some(until) }
}

/// Half the length of a window in seconds; none for one second.
fn half(window: Window, answered_at: i64) -> Option<i64> {
    let half = (window.until.unwrap_or(answered_at) - window.from) / 2;
    (half > 0).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_open_when_it_reaches_the_present() {
        assert_eq!(next_window(100, 200, 100), Window { from: 100, until: None });
        assert_eq!(next_window(200, 100, 1), Window { from: 200, until: None });
        assert_eq!(next_window(100, 201, 100), Window { from: 100, until: Some(200) });
    }

    #[test]
    fn window_is_halved_down_to_one_second() {
        let open = Window { from: 10, until: None };
        assert_eq!(half(open, 20), Some(5));
        assert_eq!(half(open, 9), None);
        assert_eq!(half(Window { from: 10, until: Some(12) }, 20), Some(1));
        assert_eq!(half(Window { from: 10, until: Some(11) }, 20), None);
    }
}
