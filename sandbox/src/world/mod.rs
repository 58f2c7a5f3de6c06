//! What the double remembers, and what can happen in it.
//!
//! Objects are kept as the JSON that Stripe would answer; a change is a change of that JSON, and what an event says
//! has changed is computed from before and after, never written by hand.

pub(crate) mod catalog;
pub(crate) mod checkout;
pub(crate) mod customer;
pub(crate) mod difference;
pub(crate) mod dispatch;
pub(crate) mod embedded;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod invoice;
pub(crate) mod payment;
pub(crate) mod portal;
pub(crate) mod subscription;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::ids;
use dispatch::Dispatch;

/// The API version that the account is on.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

/// Objects of one kind by id, oldest first.
pub(crate) type Shelf = IndexMap<String, Value>;

/// Free text that an integration keeps with an object.
pub(crate) type Metadata = Map<String, Value>;

/// Everything.
pub(crate) struct World {
    pub(crate) base_url: String,
    pub(crate) clock: Clock,
    pub(crate) account: Value,
    pub(crate) products: Shelf,
    pub(crate) prices: Shelf,
    pub(crate) customers: Shelf,
    pub(crate) sessions: Shelf,
    pub(crate) subscriptions: Shelf,
    pub(crate) invoices: Shelf,
    /// The payment methods that the bank declines.
    pub(crate) declined: BTreeSet<String>,
    pub(crate) configurations: Shelf,
    pub(crate) portal_sessions: Shelf,
    pub(crate) endpoints: IndexMap<String, endpoint::Endpoint>,
    pub(crate) events: Shelf,
    /// How many events the list shows while later ones are hidden.
    pub(crate) events_shown: Option<usize>,
    pub(crate) dispatch: Dispatch,
    pub(crate) cause: Cause,
}

/// Why something happens: the API call under way, or nothing that an integration did.
#[derive(Clone, Default)]
pub(crate) struct Cause {
    /// The call's `Request-Id`.
    pub(crate) request_id: Option<String>,
    /// The call's `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// Whether nothing is ever told of it.
    pub(crate) is_silent: bool,
}

impl Cause {
    /// Something that no event tells of: one that got lost, or is older than events are kept.
    pub(crate) fn silent() -> Cause {
        Cause { is_silent: true, ..Cause::default() }
    }
}

impl World {
    /// A new account: some prices and a portal configuration, nobody in it.
    pub(crate) fn new(base_url: String, dispatch: Dispatch) -> World {
        let clock = Clock::default();
        let (products, prices) = catalog::seeded(clock.now());
        let mut world = World {
            base_url,
            clock,
            account: account(),
            products,
            prices,
            customers: Shelf::new(),
            sessions: Shelf::new(),
            subscriptions: Shelf::new(),
            invoices: Shelf::new(),
            declined: BTreeSet::new(),
            configurations: Shelf::new(),
            portal_sessions: Shelf::new(),
            endpoints: IndexMap::new(),
            events: Shelf::new(),
            events_shown: None,
            dispatch,
            cause: Cause::default(),
        };
        world.seed_default_configuration();
        world
    }

    /// The double's own time.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }
}

/// Puts an object on its shelf under its own id and hands a copy back.
pub(crate) fn keep(shelf: &mut Shelf, object: Value) -> Value {
    shelf.insert(text(&object, "id").to_owned(), object.clone());
    object
}

/// A text field of an object; empty if it has none.
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
