//! The Stripe account of the double: its objects, the changes to them, and the events that the
//! changes emit.
//!
//! Objects are stored as the JSON that Stripe returns, and changes edit that JSON.
//! `previous_attributes` is always computed from the object before and after. Start with [`State`],
//! then `subscription.rs` and `event.rs`.

pub(crate) mod catalog;
pub(crate) mod checkout;
pub(crate) mod customer;
pub(crate) mod dispatcher;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod invoice;
pub(crate) mod payment;
pub(crate) mod portal;
pub(crate) mod previous_attributes;
pub(crate) mod subscription;
pub(crate) mod truncated_lists;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::ids;
use dispatcher::Dispatcher;

/// The account's API version.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

/// Objects of one type by id, oldest first.
pub(crate) type Objects = IndexMap<String, Value>;

pub(crate) type Metadata = Map<String, Value>;

pub(crate) struct State {
    pub(crate) base_url: String,
    pub(crate) clock: Clock,
    pub(crate) account: Value,
    pub(crate) products: Objects,
    pub(crate) prices: Objects,
    pub(crate) customers: Objects,
    pub(crate) sessions: Objects,
    pub(crate) subscriptions: Objects,
    pub(crate) invoices: Objects,
    /// Ids of the payment methods that the bank declines.
    pub(crate) declined_payment_methods: BTreeSet<String>,
    pub(crate) configurations: Objects,
    pub(crate) portal_sessions: Objects,
    pub(crate) endpoints: IndexMap<String, endpoint::Endpoint>,
    pub(crate) events: Objects,
    /// The number of events in the list while later ones are hidden.
    pub(crate) visible_events: Option<usize>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) cause: Cause,
}

/// The API call that causes a change. Both ids are `None` for changes that no API call causes.
#[derive(Clone, Default)]
pub(crate) struct Cause {
    pub(crate) request_id: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    /// Whether no events are emitted.
    pub(crate) is_silent: bool,
}

impl Cause {
    /// A change without events, for events that were lost or are older than Stripe's retention
    /// time.
    pub(crate) fn silent() -> Cause {
        Cause { is_silent: true, ..Cause::default() }
    }
}

impl State {
    /// A new account with prices and a portal configuration, and without customers.
    pub(crate) fn new(base_url: String, dispatcher: Dispatcher) -> State {
        let clock = Clock::default();
        let (products, prices) = catalog::seeded(clock.now());
        let mut state = State {
            base_url,
            clock,
            account: account(),
            products,
            prices,
            customers: Objects::new(),
            sessions: Objects::new(),
            subscriptions: Objects::new(),
            invoices: Objects::new(),
            declined_payment_methods: BTreeSet::new(),
            configurations: Objects::new(),
            portal_sessions: Objects::new(),
            endpoints: IndexMap::new(),
            events: Objects::new(),
            visible_events: None,
            dispatcher,
            cause: Cause::default(),
        };
        state.seed_default_configuration();
        state
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }
}

/// Inserts or replaces an object under its own id, and returns a copy.
pub(crate) fn insert(objects: &mut Objects, object: Value) -> Value {
    objects.insert(text(&object, "id").to_owned(), object.clone());
    object
}

/// Edits an object and returns copies of it from before and after.
fn edited(objects: &mut Objects, id: &str, edit: impl FnOnce(&mut Value)) -> Option<(Value, Value)> {
    let object = objects.get_mut(id)?;
    let before = object.clone();
    edit(object);
    Some((before, object.clone()))
}

/// A string field of an object, or the empty string.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

fn account() -> Value {
    json!({
        "id": ids::long("acct"),
        "object": "account",
        "business_profile": {"name": "Billhook's sandbox", "url": null},
        "charges_enabled": true,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": true,
        "email": "sandbox@example.com",
        "payouts_enabled": true,
        "settings": {"dashboard": {"display_name": "Billhook's sandbox", "timezone": "Etc/UTC"}},
        "type": "standard",
    })
}
