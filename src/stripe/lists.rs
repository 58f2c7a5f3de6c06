//! Requests for lists, page by page.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stripe::StripeRequest;
use stripe_billing::subscription::{ListSubscription, ListSubscriptionStatus};
use stripe_client_core::{RequestBuilder, StripeMethod};
use stripe_core::event::ListEvent;
use stripe_types::{RangeBoundsTs, RangeQueryTs};

use super::client::{Deadline, RawResponse, Stripe};
use super::error::StripeError;
use super::requests::{ApiResponse, ObjectId};
use crate::domain::event::{self, ItemPage};
use crate::domain::ids::{CustomerId, EventId, SubscriptionId};
use crate::domain::subscription::Snapshot;
use crate::telemetry::redact::hash_if_email;

/// The maximum that Stripe allows.
const PAGE_SIZE: i64 = 100;

/// A thousand subscriptions, more than any customer has bought.
const MAX_SUBSCRIPTION_PAGES: u32 = 10;

/// More than enough: Stripe allows 20 items in a subscription.
const MAX_ITEM_PAGES: u32 = 10;

#[derive(Serialize)]
struct ItemQuery<'a> {
    subscription: &'a str,
    limit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_after: Option<String>,
}

/// One subscription, or all of a customer, including ended ones.
#[derive(Debug)]
pub struct FetchedSubscriptions {
    pub snapshots: Vec<Snapshot>,
    /// The earliest `Date` of the responses, in Unix seconds.
    pub answered_at: i64,
    /// Those that awaited their first payment here, and whose latest invoice is paid or void. Empty
    /// until the caller has looked: [`crate::billing`] knows which ones await a payment.
    pub paid_or_void: BTreeSet<SubscriptionId>,
}

/// A range of creation times, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Inclusive.
    pub from: i64,
    /// Exclusive; until now without it.
    pub until: Option<i64>,
}

/// A page of events, newest first.
#[derive(Debug)]
pub struct EventPage {
    /// The JSON as received.
    pub events: Vec<Box<RawValue>>,
    /// The cursor of the next page, if there is one.
    pub next: Option<EventId>,
    /// The `Date` of the response, in Unix seconds.
    pub answered_at: i64,
}

/// A page of the account's subscriptions, newest first.
#[derive(Debug)]
pub struct SubscriptionPage {
    /// Without those that cannot be parsed.
    pub snapshots: Vec<Snapshot>,
    /// The cursor of the next page, if there is one.
    pub next: Option<SubscriptionId>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    has_more: bool,
}

impl Page {
    fn parse(response: &RawResponse) -> Result<Self, StripeError> {
        serde_json::from_slice(&response.body).map_err(|_| response.unreadable())
    }

    /// The cursor of the next page, if there is one: the id of this page's last object.
    fn next<Id: FromStr>(&self, response: &RawResponse) -> Result<Option<Id>, StripeError> {
        let id_of = |raw: &RawValue| {
            let object: ObjectId = serde_json::from_str(raw.get()).ok()?;
            object.id.parse().ok()
        };
        let last =
            self.data.last().map(|last| id_of(last).ok_or_else(|| response.unreadable())).transpose()?;
        Ok(last.filter(|_| self.has_more))
    }
}

impl Stripe {
    /// Lists all subscriptions of a customer, including ended ones.
    pub async fn list_subscriptions(
        &self,
        customer: &CustomerId,
        deadline: Deadline,
    ) -> Result<ApiResponse<FetchedSubscriptions>, StripeError> {
        let mut found = FetchedSubscriptions {
            snapshots: Vec::new(),
            answered_at: i64::MAX,
            paid_or_void: BTreeSet::new(),
        };
        let mut request_id = None;
        let mut after: Option<String> = None;
        for _ in 0..MAX_SUBSCRIPTION_PAGES {
            let mut request = ListSubscription::new()
                .customer(customer.to_string())
                .status(ListSubscriptionStatus::All)
                .limit(PAGE_SIZE);
            if let Some(after) = after {
                request = request.starting_after(after);
            }
            let response = self.send("GET /v1/subscriptions", request.build(), deadline).await?;
            let answered_at = response.answered_at.ok_or_else(|| response.unreadable())?;
            let page = Page::parse(&response)?;
            let read = |raw: &RawValue| event::read_subscription(raw.get().as_bytes());
            let snapshots: Option<Vec<Snapshot>> = page.data.iter().map(|raw| read(raw)).collect();
            for snapshot in snapshots.ok_or_else(|| response.unreadable())? {
                found.snapshots.push(self.with_all_items(snapshot, deadline).await?);
            }
            found.answered_at = found.answered_at.min(answered_at);
            request_id = response.request_id;
            after = found.snapshots.last().map(|last| last.id.to_string());
            if !page.has_more {
                return Ok(ApiResponse { value: found, request_id });
            }
        }
        tracing::error!(
            customer = hash_if_email(customer.as_str()),
            "the customer has more subscriptions than the limit; reading only the newest"
        );
        Ok(ApiResponse { value: found, request_id })
    }

    /// Fetches the items that the subscription's own list leaves out.
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
        for _ in 0..MAX_ITEM_PAGES {
            let subscription = snapshot.id.as_str();
            let query = ItemQuery { subscription, limit: PAGE_SIZE, starting_after };
            let request = RequestBuilder::new(StripeMethod::Get, "/subscription_items").query(&query);
            let response = self.send("GET /v1/subscription_items", request, deadline).await?;
            let page = event::read_items(&response.body).ok_or_else(|| response.unreadable())?;
            all.items.extend(page.items);
            all.period_end = all.period_end.into_iter().chain(page.period_end).min();
            starting_after = Page::parse(&response)?.next(&response)?;
            if starting_after.is_none() {
                snapshot.state.items = all.items;
                snapshot.state.current_period_end = all.period_end.or(snapshot.state.current_period_end);
                return Ok(Snapshot { has_all_items: true, ..snapshot });
            }
        }
        Err(StripeError::Unavailable { what: "endless_list", request_id: None })
    }

    /// Lists a page of the account's subscriptions created since `since`, including ended ones.
    pub async fn list_subscriptions_since(
        &self,
        since: i64,
        after: Option<&SubscriptionId>,
        deadline: Deadline,
    ) -> Result<SubscriptionPage, StripeError> {
        let bounds = RangeBoundsTs { gte: Some(since), ..RangeBoundsTs::default() };
        let mut request = ListSubscription::new()
            .status(ListSubscriptionStatus::All)
            .created(RangeQueryTs::Bounds(bounds))
            .limit(PAGE_SIZE);
        if let Some(after) = after {
            request = request.starting_after(after.to_string());
        }
        let response = self.send("GET /v1/subscriptions", request.build(), deadline).await?;
        let page = Page::parse(&response)?;
        let read = page.data.iter().filter_map(|raw| event::read_subscription(raw.get().as_bytes()));
        Ok(SubscriptionPage { snapshots: read.collect(), next: page.next(&response)? })
    }

    /// Lists a page of events of the handled types. `length` is at most 100.
    pub async fn list_events(
        &self,
        window: Window,
        after: Option<&EventId>,
        length: i64,
        deadline: Deadline,
    ) -> Result<EventPage, StripeError> {
        let bounds = RangeBoundsTs { gte: Some(window.from), lt: window.until, ..RangeBoundsTs::default() };
        let mut request = ListEvent::new()
            .types(event::HANDLED_EVENT_TYPES.map(str::to_owned).to_vec())
            .created(RangeQueryTs::Bounds(bounds))
            .limit(length);
        if let Some(after) = after {
            request = request.starting_after(after.to_string());
        }
        let response = self.send("GET /v1/events", request.build(), deadline).await?;
        let answered_at = response.answered_at.ok_or_else(|| response.unreadable())?;
        let page = Page::parse(&response)?;
        Ok(EventPage { next: page.next(&response)?, events: page.data, answered_at })
    }
}
