//! The backfill: what Stripe made while we could not be reached comes in by its list of events, through the same ingest
//! as the webhooks, so that after an outage of ours the state is right without anyone doing anything.
//!
//! Events can become visible late, and pages come newest first. So a run asks for a window that overlaps the last one,
//! gathers all its pages, hands them in oldest first, and only then moves the watermark. What happened longer ago than Stripe
//! lists, `gap_recovery` asks for subscription by subscription.

mod gap_recovery;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::schedule::{DueTime, Step, forever};
use crate::billing::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::event::{Event, UnreadableEvent};
use crate::domain::ids::EventId;
use crate::ingest::{Delivery, Ingest, NotStored};
use crate::store::{GapRecovery, GapStep, Lease, StoreError};
use crate::stripe::{Deadline, EventPage, Stripe, StripeError, Window};

/// How often Stripe is asked for events: often enough that nobody calls about a lost one, seldom enough to cost nothing.
const EVERY_MS: i64 = 5 * 60 * 1000;

/// How soon a replica that is not allowed to run looks again.
const LOOK_AGAIN_MS: i64 = 10 * 1000;

/// How long a lease lasts that is not taken again: longer than one page or one batch can take.
const LEASE: Duration = Duration::from_mins(1);

/// By how much a window overlaps the last one: events can become visible late.
const OVERLAP_SECONDS: i64 = 15 * 60;

/// For how long Stripe lists events (<https://docs.stripe.com/api/events>).
pub const LISTED_SECONDS: i64 = 30 * 24 * 60 * 60;

/// For how long an event that no webhook has brought may still be on its way by one.
const ON_ITS_WAY_SECONDS: i64 = 60;

/// The longest window that is gathered at once, the most events, the most bytes of them, and the longest time: what bounds
/// the memory of a run, and what is lost when it is interrupted. A window with more is halved.
const WINDOW_SECONDS: i64 = 24 * 60 * 60;
const EVENTS: usize = 5000;
const BYTES: usize = 64 * 1024 * 1024;
const GATHERING: Duration = Duration::from_mins(1);

/// How many events are asked for at once: the most that Stripe lists. Fewer if their page is too big or too slow.
const PAGE: i64 = 100;

/// How many events are handed in at once: one batch of the ingest's, so that webhooks find room between them.
const AT_ONCE: usize = 64;

/// The backfill of one replica.
pub(super) struct Backfill<'a> {
    billing: &'a Billing,
    ingest: Ingest,
    lease: Lease,
    due: DueTime,
    has_run: AtomicBool,
    /// How long a window has lately been gathered whole, in seconds.
    length: AtomicI64,
}

/// Why a run ended early. What it has handed in stays; the next run begins where the watermark stands.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Stripe(#[from] StripeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("events were not stored: {0}")]
    NotStored(#[from] NotStored),
    #[error("another replica has taken over")]
    LeaseLost,
}

/// The events of a window, newest first, or half the length in seconds of a window that has too many; and when the first
/// of them were listed, by Stripe's clock.
enum Gathered {
    All { events: Vec<Box<RawValue>>, answered_at: i64 },
    TooMany { half: i64, answered_at: i64 },
}

impl<'a> Backfill<'a> {
    pub(super) fn new(billing: &'a Billing, ingest: Ingest) -> Self {
        let lease = Lease::new("backfill", LEASE);
        let (has_run, length) = (AtomicBool::new(false), AtomicI64::new(WINDOW_SECONDS));
        Self { billing, ingest, lease, due: DueTime::now(), has_run, length }
    }

    /// Runs at the start and every few minutes, for good.
    pub(super) async fn run(&self) {
        if let Some(stripe) = self.billing.stripe.as_ref().map(Stripe::paced) {
            forever("backfill", None, || self.step(&stripe)).await;
        }
    }

    /// Lets another replica run at once.
    pub(super) async fn give_way(&self) {
        if let Err(error) = self.billing.store.give_lease_back(&self.lease).await {
            tracing::warn!(%error, "the backfill's lease is not given back; it ends by itself");
        }
    }

    async fn step(&self, stripe: &Stripe) -> Result<Step, BillingError> {
        let steady_ms = self.billing.clock.steady_ms();
        if !self.due.has_come(steady_ms) {
            return Ok(Step::Idle);
        }
        let rest_ms = self.rest_after_another().await?;
        if rest_ms > 0 || !self.billing.store.take_lease(&self.lease).await? {
            self.due.set(steady_ms + rest_ms.max(LOOK_AGAIN_MS));
            return Ok(Step::Idle);
        }
        // A trace of its own; the events that it finds are processed in it.
        let cause = if self.has_run.load(Ordering::Relaxed) { "schedule" } else { "start" };
        let span = info_span!(parent: None, "backfill", billing.backfill.cause = cause);
        let hold = self.billing.catching_up.until_dropped();
        let ended = self.fill(stripe).instrument(span).await;
        match &ended {
            Ok(_) | Err(Interrupted::Stripe(_)) => drop(hold),
            // Neither is for long, and what was bought is there to be read.
            Err(Interrupted::Store(_) | Interrupted::NotStored(_) | Interrupted::LeaseLost) => hold.keep(),
        }
        self.give_way().await;
        match ended {
            Ok(found) => {
                if found > 0 {
                    tracing::warn!(events = found, "the backfill found events that no webhook had brought");
                }
                self.has_run.store(true, Ordering::Relaxed);
                self.due.set(steady_ms + EVERY_MS);
                Ok(Step::Idle)
            }
            Err(interrupted) => {
                tracing::error!(%interrupted, "the backfill is interrupted; it goes on soon where it stopped");
                Ok(Step::Trouble)
            }
        }
    }

    /// For how long to rest since another replica ran lately, in milliseconds. A replica that has just started does not
    /// rest: it may be the only one.
    async fn rest_after_another(&self) -> Result<i64, StoreError> {
        if !self.has_run.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let watermark = self.billing.store.watermark().await?;
        let age_ms = watermark.map(|mark| self.billing.clock.now_ms() - mark.finished_at_ms);
        // A run that ended in our future tells of a wrong clock, and of nothing else.
        Ok(age_ms.filter(|age_ms| (0..EVERY_MS).contains(age_ms)).map_or(0, |age_ms| EVERY_MS - age_ms))
    }

    /// Brings the inbox up to date, window by window. Returns how many events no webhook had brought.
    async fn fill(&self, stripe: &Stripe) -> Result<usize, Interrupted> {
        let mut now = self.billing.clock.now_seconds();
        let mut from = self.beginning(stripe, now).await?;
        let mut found = 0;
        loop {
            let window = next_window(from, now, self.length.load(Ordering::Relaxed));
            let (events, answered_at) = match self.gather(stripe, window).await? {
                Gathered::TooMany { half, answered_at } => {
                    self.length.store(half, Ordering::Relaxed);
                    // Or a clock of ours that is slow would leave the window open for ever.
                    now = now.max(answered_at);
                    continue;
                }
                Gathered::All { events, answered_at } => (events, answered_at),
            };
            found += self.hand_in(events, answered_at).await?;
            // By Stripe's clock: what ours takes for the past may not have happened yet.
            let Some(until) = window.until.filter(|until| *until <= answered_at) else {
                self.advance(answered_at, Some(self.billing.clock.now_ms())).await?;
                return Ok(found);
            };
            self.advance(until, None).await?;
            (from, now) = (until, now.max(answered_at));
            let longer = self.length.load(Ordering::Relaxed) * 2;
            self.length.store(longer.min(WINDOW_SECONDS), Ordering::Relaxed);
        }
    }

    /// From where events are to be listed: a little before the watermark, and no longer ago than Stripe lists them. What was
    /// missed before that is recovered first.
    async fn beginning(&self, stripe: &Stripe, now: i64) -> Result<i64, Interrupted> {
        let store = &self.billing.store;
        let Some(watermark) = store.watermark().await? else { return Ok(now - OVERLAP_SECONDS) };
        // One in our future was set when a clock was wrong.
        let from = watermark.at.min(now) - OVERLAP_SECONDS;
        let unfinished = store.gap_recovery().await?;
        if unfinished.is_none() && from >= now - LISTED_SECONDS {
            return Ok(from);
        }
        // A gap, if our clock is right: Stripe's is.
        let here = Window { from: now, until: None };
        let now = self.page(stripe, here, None, &mut 1).await?.answered_at;
        let listed_from = now - LISTED_SECONDS;
        // One that started too long ago has a gap behind it.
        if let Some(recovery) = unfinished.filter(|it| it.started_at - OVERLAP_SECONDS >= listed_from) {
            tracing::warn!("the recovery from a gap of more than 30 days continues where it stopped");
            self.recover(stripe, from, recovery).await?;
        } else if watermark.at.max(watermark.leapt_at) - OVERLAP_SECONDS < listed_from {
            let missed_seconds = listed_from - from;
            tracing::error!(
                missed_seconds,
                "Stripe lists events for 30 days, and more than that were missed: every customer's subscriptions are asked for"
            );
            let recovery = GapRecovery { started_at: now, step: GapStep::Customers { after: None } };
            store.save_gap_recovery(&recovery).await?;
            self.recover(stripe, from, recovery).await?;
        }
        Ok(from.max(listed_from))
    }

    async fn gather(&self, stripe: &Stripe, window: Window) -> Result<Gathered, Interrupted> {
        let began = Instant::now();
        let (mut events, mut bytes, mut length) = (Vec::new(), 0, PAGE);
        let (mut answered_first, mut after) = (None, None);
        loop {
            let is_too_many = events.len() >= EVENTS || bytes >= BYTES || began.elapsed() >= GATHERING;
            if let (true, Some(answered_at)) = (is_too_many, answered_first)
                && let Some(half) = half(window, answered_at)
            {
                return Ok(Gathered::TooMany { half, answered_at });
            }
            let page = self.page(stripe, window, after.as_ref(), &mut length).await?;
            bytes += page.events.iter().map(|raw| raw.get().len()).sum::<usize>();
            events.extend(page.events);
            let answered_at = *answered_first.get_or_insert(page.answered_at);
            after = page.next;
            if after.is_none() {
                return Ok(Gathered::All { events, answered_at });
            }
        }
    }

    /// One page, or a shorter one where it is too big or too slow; then `length` tells how short.
    async fn page(
        &self,
        stripe: &Stripe,
        window: Window,
        after: Option<&EventId>,
        length: &mut i64,
    ) -> Result<EventPage, Interrupted> {
        loop {
            self.hold_lease().await?;
            let deadline = Deadline::after(STRIPE_DEADLINE);
            match stripe.list_events(window, after, *length, deadline).await {
                Err(error) if error.is_too_much() && *length > 1 => *length /= 10,
                listed => return Ok(listed?.value),
            }
        }
    }

    /// Hands in what is not in the inbox yet, oldest first. Returns how many those were, but for what a webhook may still
    /// bring.
    async fn hand_in(
        &self,
        newest_first: Vec<Box<RawValue>>,
        answered_at: i64,
    ) -> Result<usize, Interrupted> {
        let mut found = 0;
        let oldest_first: Vec<_> = newest_first.into_iter().rev().collect();
        for batch in oldest_first.chunks(AT_ONCE) {
            let deliveries = self.unknown(batch).await?;
            let is_overdue = |delivery: &&Delivery| delivery.event.created < answered_at - ON_ITS_WAY_SECONDS;
            found += deliveries.iter().filter(is_overdue).count();
            if !deliveries.is_empty() {
                self.hold_lease().await?;
                let taken = deliveries.into_iter().map(|delivery| self.ingest.enqueue(delivery));
                futures_util::future::try_join_all(taken).await?;
            }
        }
        Ok(found)
    }

    async fn unknown(&self, batch: &[Box<RawValue>]) -> Result<Vec<Delivery>, StoreError> {
        let read = |raw: &RawValue| {
            let payload = raw.get().as_bytes();
            let unreadable = |error: &UnreadableEvent| tracing::error!(%error, "an event that Stripe lists cannot be read");
            Some((Event::read(payload).inspect_err(unreadable).ok()?, payload.to_vec()))
        };
        let events: Vec<(Event, Vec<u8>)> = batch.iter().filter_map(|raw| read(raw)).collect();
        let known = self.billing.store.known_events(events.iter().map(|(event, _)| &event.id)).await?;
        let unknown = events.into_iter().filter(|(event, _)| !known.contains(&event.id));
        let now_ms = self.billing.clock.now_ms();
        Ok(unknown.map(|(event, payload)| Delivery::by_backfill(event, payload, now_ms)).collect())
    }

    async fn hold_lease(&self) -> Result<(), Interrupted> {
        if self.billing.store.take_lease(&self.lease).await? { Ok(()) } else { Err(Interrupted::LeaseLost) }
    }

    /// Everything until then is in the inbox; `finished_at_ms` if that is the present.
    async fn advance(&self, at: i64, finished_at_ms: Option<i64>) -> Result<(), Interrupted> {
        let is_ours = self.billing.store.move_watermark(at, finished_at_ms, &self.lease).await?;
        if is_ours { Ok(()) } else { Err(Interrupted::LeaseLost) }
    }
}

/// The window that begins there: of that length in seconds, or open if it reaches the present.
fn next_window(from: i64, now: i64, length: i64) -> Window {
    let until = from + length;
    Window { from, until: (until < now).then_some(until) }
}

/// Half the length of a window in seconds; none if it is a second already.
fn half(window: Window, answered_at: i64) -> Option<i64> {
    let half = (window.until.unwrap_or(answered_at) - window.from) / 2;
    (half > 0).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_a_length_or_reaches_the_present() {
        assert_eq!(next_window(100, 200, 100), Window { from: 100, until: None });
        assert_eq!(next_window(200, 100, 1), Window { from: 200, until: None });
        assert_eq!(next_window(100, 201, 100), Window { from: 100, until: Some(200) });
    }

    #[test]
    fn a_window_is_halved_down_to_a_second() {
        let open = Window { from: 10, until: None };
        assert_eq!(half(open, 20), Some(5));
        assert_eq!(half(open, 9), None);
        assert_eq!(half(Window { from: 10, until: Some(12) }, 20), Some(1));
        assert_eq!(half(Window { from: 10, until: Some(11) }, 20), None);
    }
}
