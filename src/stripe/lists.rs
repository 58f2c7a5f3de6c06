//! What we read page by page.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stripe::StripeRequest;
use stripe_billing::subscription::{ListSubscription, ListSubscriptionStatus};
use stripe_client_core::{RequestBuilder, StripeMethod};
use stripe_core::event::ListEvent;
use stripe_types::{RangeBoundsTs, RangeQueryTs};

use super::client::{Deadline, Reply, Stripe};
use super::error::StripeError;
use super::requests::{Answer, Identified};
use crate::domain::event::{self, ItemPage};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId};
use crate::domain::subscription::Snapshot;
use crate::telemetry::loggable::loggable;

/// The most that Stripe puts on a page.
const PAGE: i64 = 100;

/// How many of a customer's subscriptions are read: a thousand, more than anybody has bought.
const SUBSCRIPTION_PAGES: u32 = 10;

/// How many pages of a subscription's items are read: Stripe allows 20 items.
const ITEM_PAGES: u32 = 10;

/// Which items are asked for.
#[derive(Serialize)]
struct ItemQuery<'a> {
    subscription: &'a str,
    limit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_after: Option<String>,
}

/// All subscriptions of a customer.
#[derive(Debug)]
pub struct Subscriptions {
    /// How each stands, or stood when it ended.
    pub snapshots: Vec<Snapshot>,
    /// When the first of them were read, by Stripe's clock in whole Unix seconds.
    pub answered_at: i64,
    /// Those that a first payment was awaited for, and whose latest invoice is paid or void.
    pub settled: BTreeSet<SubscriptionId>,
}

/// Which events are asked for: those made from one second on, and before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first second.
    pub from: i64,
    /// The first second that is not wanted any more; without it, all until now.
    pub until: Option<i64>,
}

/// One page of events, newest first.
#[derive(Debug)]
pub struct EventPage {
    /// The events, as the bytes that came.
    pub events: Vec<Box<RawValue>>,
    /// Where the next page begins, if there is one.
    pub next: Option<EventId>,
    /// When the page was made, by Stripe's clock in whole Unix seconds.
    pub answered_at: i64,
}

/// One page of the account's subscriptions, newest first.
#[derive(Debug)]
pub struct SubscriptionPage {
    /// Those of them that can be read.
    pub snapshots: Vec<Snapshot>,
    /// Where the next page begins, if there is one.
    pub next: Option<SubscriptionId>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    has_more: bool,
}

impl Page {
    fn read(reply: &Reply) -> Result<Self, StripeError> {
        serde_json::from_slice(&reply.body).map_err(|_| reply.broken())
    }

    /// Where the next page begins, if there is one: after the last on this one.
    fn next<Id: FromStr>(&self, reply: &Reply) -> Result<Option<Id>, StripeError> {
        let id_of = |raw: &RawValue| {
            let identified: Identified = serde_json::from_str(raw.get()).ok()?;
            identified.id.parse().ok()
        };
        let last = self.data.last().map(|last| id_of(last).ok_or_else(|| reply.broken())).transpose()?;
        Ok(last.filter(|_| self.has_more))
    }
}

impl Stripe {
    /// Asks for all subscriptions of a customer, the ended ones too.
    pub async fn list_subscriptions(
        &self,
        customer: &CustomerId,
        deadline: Deadline,
    ) -> Result<Answer<Subscriptions>, StripeError> {
        let mut found =
            Subscriptions { snapshots: Vec::new(), answered_at: i64::MAX, settled: BTreeSet::new() };
        let mut request_id = None;
        let mut after: Option<String> = None;
        for _ in 0..SUBSCRIPTION_PAGES {
            let mut request = ListSubscription::new()
                .customer(customer.to_string())
                .status(ListSubscriptionStatus::All)
                .limit(PAGE);
            if let Some(after) = after {
                request = request.starting_after(after);
            }
            let reply = self.send("GET /v1/subscriptions", request.build(), deadline).await?;
            let answered_at = reply.answered_at.ok_or_else(|| reply.broken())?;
            let page = Page::read(&reply)?;
            let read = |raw: &RawValue| event::read_subscription(raw.get().as_bytes());
            let snapshots: Option<Vec<Snapshot>> = page.data.iter().map(|raw| read(raw)).collect();
            for snapshot in snapshots.ok_or_else(|| reply.broken())? {
                found.snapshots.push(self.with_all_items(snapshot, deadline).await?);
            }
            found.answered_at = found.answered_at.min(answered_at);
            request_id = reply.request_id;
            after = found.snapshots.last().map(|last| last.id.to_string());
            if !page.has_more {
                return Ok(Answer { value: found, request_id });
            }
        }
        tracing::error!(
            customer = loggable(customer.as_str()),
            "the customer has more subscriptions than are read: the newest of them are"
        );
        Ok(Answer { value: found, request_id })
    }

    /// A subscription with all of its items: those that its own list leaves out are asked for.
    pub(super) async fn with_all_items(
        &self,
        mut snapshot: Snapshot,
        deadline: Deadline,
    ) -> Result<Snapshot, StripeError> {
        if snapshot.has_all_items {
            return Ok(snapshot);
        }
        let mut all = ItemPage::default();
        let mut starting_after: Option<String> = None;
        for _ in 0..ITEM_PAGES {
            let subscription = snapshot.id.as_str();
            let query = ItemQuery { subscription, limit: PAGE, starting_after };
            let request = RequestBuilder::new(StripeMethod::Get, "/subscription_items").query(&query);
            let reply = self.send("GET /v1/subscription_items", request, deadline).await?;
            let page = event::read_items(&reply.body).ok_or_else(|| reply.broken())?;
            all.items.extend(page.items);
            all.period_end = all.period_end.into_iter().chain(page.period_end).min();
            starting_after = Page::read(&reply)?.next(&reply)?;
            if starting_after.is_none() {
                snapshot.state.items = all.items;
                snapshot.state.current_period_end = all.period_end.or(snapshot.state.current_period_end);
                return Ok(Snapshot { has_all_items: true, ..snapshot });
            }
        }
        Err(StripeError::Unavailable { what: "endless_list", request_id: None })
    }

    /// Asks for a page of the subscriptions that were made since then, whoever's, the ended ones too.
    pub async fn list_subscriptions_since(
        &self,
        since: i64,
        after: Option<&SubscriptionId>,
        deadline: Deadline,
    ) -> Result<Answer<SubscriptionPage>, StripeError> {
        let bounds = RangeBoundsTs { gte: Some(since), ..RangeBoundsTs::default() };
        let mut request = ListSubscription::new()
            .status(ListSubscriptionStatus::All)
            .created(RangeQueryTs::Bounds(bounds))
            .limit(PAGE);
        if let Some(after) = after {
            request = request.starting_after(after.to_string());
        }
        let reply = self.send("GET /v1/subscriptions", request.build(), deadline).await?;
        let page = Page::read(&reply)?;
        let read = page.data.iter().filter_map(|raw| event::read_subscription(raw.get().as_bytes()));
        let value = SubscriptionPage { snapshots: read.collect(), next: page.next(&reply)? };
        Ok(Answer { value, request_id: reply.request_id })
    }

    /// Asks for a page of the events that we handle, at most a hundred.
    pub async fn list_events(
        &self,
        window: Window,
        after: Option<&EventId>,
        length: i64,
        deadline: Deadline,
    ) -> Result<Answer<EventPage>, StripeError> {
        let bounds = RangeBoundsTs { gte: Some(window.from), lt: window.until, ..RangeBoundsTs::default() };
        let mut request = ListEvent::new()
            .types(event::HANDLED.map(str::to_owned).to_vec())
            .created(RangeQueryTs::Bounds(bounds))
            .limit(length);
        if let Some(after) = after {
            request = request.starting_after(after.to_string());
        }
        let reply = self.send("GET /v1/events", request.build(), deadline).await?;
        let answered_at = reply.answered_at.ok_or_else(|| reply.broken())?;
        let page = Page::read(&reply)?;
        let value = EventPage { next: page.next(&reply)?, events: page.data, answered_at };
        Ok(Answer { value, request_id: reply.request_id })
    }
}
