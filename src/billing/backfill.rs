//! The backfill: what Stripe made while we could not be reached comes in by its list of events, through the same ingest
//! as the webhooks, so that after an outage of ours the state is right without anyone doing anything.
//!
//! Events can become visible late, and pages come newest first. So a run asks for a window that overlaps the last one,
//! gathers all its pages, hands them in oldest first, and only then moves the watermark.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tracing::{Instrument, info_span};

use super::background::{Step, forever};
use super::ingest::{Delivery, Ingest, NotStored};
use super::{Billing, BillingError, STRIPE_DEADLINE};
use crate::domain::event::{Event, UnreadableEvent};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::store::{Lease, StoreError};
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
const LISTED_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The longest window that is gathered at once, and the most pages: together with the size of events, what bounds the
/// memory of a run. A window with more is halved.
const WINDOW_SECONDS: i64 = 24 * 60 * 60;
const PAGES: usize = 50;

/// How many events are handed in at once: one batch of the ingest's, so that webhooks find room between them.
const AT_ONCE: usize = 64;

/// How many customers' questions are left in one transaction.
const CUSTOMERS: u64 = 500;

/// The backfill of one replica.
pub(super) struct Backfill<'a> {
    billing: &'a Billing,
    ingest: Ingest,
    lease: Lease,
    due_at_ms: AtomicI64,
    has_run: AtomicBool,
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

/// The events of a window, newest first, and when the first page of them was made; or the halves of a window that has
/// too many.
enum Gathered {
    All(Vec<Box<RawValue>>, i64),
    TooMany([Window; 2]),
}

impl<'a> Backfill<'a> {
    pub(super) fn new(billing: &'a Billing, ingest: Ingest) -> Self {
        let lease = Lease::new("backfill", LEASE);
        Self { billing, ingest, lease, due_at_ms: AtomicI64::new(i64::MIN), has_run: AtomicBool::new(false) }
    }

    /// Runs at the start and every few minutes, for good.
    pub(super) async fn run(&self) {
        if let Some(stripe) = &self.billing.stripe {
            forever("backfill", None, || self.step(stripe)).await;
        }
    }

    /// Lets another replica run at once.
    pub(super) async fn give_way(&self) {
        if let Err(error) = self.billing.store.give_lease_back(&self.lease).await {
            tracing::warn!(%error, "the backfill's lease is not given back; it ends by itself");
        }
    }

    async fn step(&self, stripe: &Stripe) -> Result<Step, BillingError> {
        let now_ms = self.billing.clock.now_ms();
        if now_ms < self.due_at_ms.load(Ordering::Relaxed) {
            return Ok(Step::Idle);
        }
        if let Some(due_at_ms) = self.done_by_another(now_ms).await? {
            self.due_at_ms.store(due_at_ms, Ordering::Relaxed);
            return Ok(Step::Idle);
        }
        if !self.billing.store.take_lease(&self.lease).await? {
            self.due_at_ms.store(now_ms + LOOK_AGAIN_MS, Ordering::Relaxed);
            return Ok(Step::Idle);
        }
        // A trace of its own; the events that it finds are processed in it.
        let span = info_span!(parent: None, "backfill");
        let ended = self.fill(stripe).instrument(span).await;
        self.give_way().await;
        match ended {
            Ok(found) => {
                if found > 0 {
                    tracing::warn!(events = found, "the backfill found events that no webhook had brought");
                }
                self.has_run.store(true, Ordering::Relaxed);
                self.due_at_ms.store(now_ms + EVERY_MS, Ordering::Relaxed);
                Ok(Step::Idle)
            }
            Err(interrupted) => {
                tracing::error!(%interrupted, "the backfill is interrupted; it goes on soon where it stopped");
                Ok(Step::Trouble)
            }
        }
    }

    /// When it is due after another replica's last run, if that was lately. A replica that has just started runs anyhow:
    /// it may be the only one.
    async fn done_by_another(&self, now_ms: i64) -> Result<Option<i64>, StoreError> {
        if !self.has_run.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let watermark = self.billing.store.watermark().await?;
        let due_at_ms = watermark.map(|watermark| watermark.finished_at_ms + EVERY_MS);
        Ok(due_at_ms.filter(|due_at_ms| now_ms < *due_at_ms))
    }

    /// Brings the inbox up to date, window by window. Returns how many events no webhook had brought.
    async fn fill(&self, stripe: &Stripe) -> Result<usize, Interrupted> {
        let now = self.billing.clock.now_seconds();
        let from = self.beginning(now).await? - OVERLAP_SECONDS;
        let from = if from < now - LISTED_SECONDS { self.leap(from, now).await? } else { from };

        let mut found = 0;
        let mut windows = windows(from, now);
        while let Some(window) = windows.pop() {
            match self.gather(stripe, window).await? {
                Gathered::TooMany(halves) => windows.extend(halves),
                Gathered::All(events, answered_at) => {
                    found += self.hand_in(events).await?;
                    self.advance(window, answered_at).await?;
                }
            }
        }
        Ok(found)
    }

    /// Up to where everything is known. At the very first run that is the oldest event that anybody told us of: what
    /// was before is not ours to know, and linking a customer asks for it.
    async fn beginning(&self, now: i64) -> Result<i64, StoreError> {
        let store = &self.billing.store;
        match store.watermark().await? {
            Some(watermark) => Ok(watermark.at),
            None => Ok(store.oldest_event().await?.unwrap_or(now).min(now)),
        }
    }

    /// Some of what was missed is listed no longer: every customer is asked about instead. Returns from where events are
    /// still listed.
    async fn leap(&self, from: i64, now: i64) -> Result<i64, StoreError> {
        let missed_seconds = now - LISTED_SECONDS - from;
        tracing::error!(
            missed_seconds,
            "Stripe lists events for 30 days, and more than that were missed: every customer's subscriptions are asked for"
        );
        let store = &self.billing.store;
        let mut after = None;
        loop {
            let linked = store.linked_tenants(after.as_ref(), CUSTOMERS).await?;
            let Some((last, _)) = linked.last() else { return Ok(now - LISTED_SECONDS) };
            after = Some(last.clone());
            let wish = |(tenant, customer): (TenantId, CustomerId)| {
                let subject = RefreshSubject::Customer(customer.clone());
                let reason = RefreshReason::MissedEvents;
                (subject.clone(), Refresh { subject, customer, tenant, reason, event: None })
            };
            let wishes = linked.into_iter().map(wish).collect();
            store.insert_refreshes(&wishes, self.billing.clock.now_ms()).await?;
            self.billing.refresh_wanted.notify_one();
        }
    }

    async fn gather(&self, stripe: &Stripe, window: Window) -> Result<Gathered, Interrupted> {
        let mut gathered = Vec::new();
        let mut answered_first = None;
        let mut after = None;
        for page in 0.. {
            if page == PAGES
                && let Some(halves) = answered_first.and_then(|answered_at| halves(window, answered_at))
            {
                return Ok(Gathered::TooMany(halves));
            }
            self.hold_lease().await?;
            stripe.background_turn().await;
            let deadline = Deadline::after(STRIPE_DEADLINE);
            let EventPage { events, next, answered_at } =
                stripe.list_events(window, after.as_ref(), deadline).await?.value;
            gathered.extend(events);
            answered_first.get_or_insert(answered_at);
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(Gathered::All(gathered, answered_first.unwrap_or(window.from)))
    }

    /// Hands in what is not in the inbox yet, oldest first. Returns how many those were.
    async fn hand_in(&self, newest_first: Vec<Box<RawValue>>) -> Result<usize, Interrupted> {
        let mut found = 0;
        let oldest_first: Vec<_> = newest_first.into_iter().rev().collect();
        for batch in oldest_first.chunks(AT_ONCE) {
            let deliveries = self.unknown(batch).await?;
            found += deliveries.len();
            if !deliveries.is_empty() {
                self.hold_lease().await?;
                let taken = deliveries.into_iter().map(|delivery| self.ingest.take(delivery));
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
        let known = self.billing.store.known(events.iter().map(|(event, _)| &event.id)).await?;
        let unknown = events.into_iter().filter(|(event, _)| !known.contains(&event.id));
        let now_ms = self.billing.clock.now_ms();
        Ok(unknown.map(|(event, payload)| Delivery::by_backfill(event, payload, now_ms)).collect())
    }

    async fn hold_lease(&self) -> Result<(), Interrupted> {
        if self.billing.store.take_lease(&self.lease).await? { Ok(()) } else { Err(Interrupted::LeaseLost) }
    }

    /// Everything of the window is in the inbox.
    async fn advance(&self, window: Window, answered_at: i64) -> Result<(), Interrupted> {
        let (at, finished_at_ms) = match window.until {
            Some(until) => (until, None),
            None => (answered_at, Some(self.billing.clock.now_ms())),
        };
        let is_ours = self.billing.store.move_watermark(at, finished_at_ms, &self.lease).await?;
        if is_ours { Ok(()) } else { Err(Interrupted::LeaseLost) }
    }
}

/// The windows from one second until now, the first of them last. The last is open: Stripe's clock may be ahead of ours.
fn windows(from: i64, now: i64) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut from = from;
    while from + WINDOW_SECONDS < now {
        windows.push(Window { from, until: Some(from + WINDOW_SECONDS) });
        from += WINDOW_SECONDS;
    }
    windows.push(Window { from, until: None });
    windows.reverse();
    windows
}

/// Two windows in the place of one, the first of them last; none if it is a second already.
fn halves(window: Window, answered_at: i64) -> Option<[Window; 2]> {
    let middle = window.from.midpoint(window.until.unwrap_or(answered_at));
    (middle > window.from).then_some([
        Window { from: middle, until: window.until },
        Window { from: window.from, until: Some(middle) },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = WINDOW_SECONDS;

    #[test]
    fn a_short_time_is_one_open_window() {
        assert_eq!(windows(100, 200), [Window { from: 100, until: None }]);
        assert_eq!(windows(200, 100), [Window { from: 200, until: None }]);
    }

    #[test]
    fn a_long_time_is_windows_without_a_gap_the_first_on_top() {
        let windows = windows(0, 2 * DAY + 1);
        assert_eq!(
            windows,
            [
                Window { from: 2 * DAY, until: None },
                Window { from: DAY, until: Some(2 * DAY) },
                Window { from: 0, until: Some(DAY) },
            ]
        );
    }

    #[test]
    fn a_window_is_halved_down_to_a_second() {
        let open = Window { from: 10, until: None };
        let halved = halves(open, 20).expect("two");
        assert_eq!(halved, [Window { from: 15, until: None }, Window { from: 10, until: Some(15) }]);
        assert_eq!(halves(Window { from: 10, until: Some(11) }, 20), None);
        assert_eq!(halves(open, 9), None);
    }
}
