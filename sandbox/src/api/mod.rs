//! The part of Stripe's API that Billhook uses.

pub(crate) mod error;
pub(crate) mod faults;
pub(crate) mod form;
pub(crate) mod gate;
pub(crate) mod idempotency;
pub(crate) mod tree;

mod account;
mod checkout;
mod created;
mod customers;
mod endpoints;
mod events;
mod invoices;
mod locale;
mod page;
mod portal;
mod prices;
mod subscriptions;

use percent_encoding::percent_decode_str;
use poem::http::Method;
use serde_json::Value;

use crate::world::World;
use error::StripeError;
use form::Form;

/// What a resource makes of a call.
type Reply = Result<Value, StripeError>;

/// Every call that the double answers, one line each.
fn route(world: &mut World, method: &Method, path: &str, form: Form) -> Reply {
    // The owner of an object may have chosen its id, with slashes and spaces in it.
    let segments = path.trim_start_matches("/v1/").split('/');
    let segments: Vec<String> =
        segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["account"]) => account::retrieve(world, form),

        ("POST", ["customers"]) => customers::create(world, form),
        ("GET", ["customers"]) => customers::list(world, form),
        ("GET", ["customers", id]) => customers::retrieve(world, id, form),
        ("POST", ["customers", id]) => customers::update(world, id, form),
        ("DELETE", ["customers", id]) => customers::delete(world, id, form),

        ("POST", ["prices"]) => prices::create(world, form),
        ("GET", ["prices"]) => prices::list(world, form),
        ("GET", ["prices", id]) => prices::retrieve(world, id, form),
        ("POST", ["prices", id]) => prices::update(world, id, form),

        ("POST", ["checkout", "sessions"]) => checkout::create(world, form),
        ("GET", ["checkout", "sessions"]) => checkout::list(world, form),
        ("GET", ["checkout", "sessions", id]) => checkout::retrieve(world, id, form),
        ("POST", ["checkout", "sessions", id, "expire"]) => checkout::expire(world, id, form),

        ("POST", ["billing_portal", "sessions"]) => portal::create(world, form),
        ("POST", ["billing_portal", "configurations"]) => portal::create_configuration(world, form),
        ("GET", ["billing_portal", "configurations"]) => portal::list_configurations(world, form),
        ("GET", ["billing_portal", "configurations", id]) => portal::retrieve_configuration(world, id, form),
        ("POST", ["billing_portal", "configurations", id]) => portal::update_configuration(world, id, form),

        ("GET", ["subscriptions"]) => subscriptions::list(world, form),
        ("GET", ["subscriptions", id]) => subscriptions::retrieve(world, id, form),
        ("POST", ["subscriptions", id]) => subscriptions::update(world, id, form),
        ("DELETE", ["subscriptions", id]) => subscriptions::cancel(world, id, form),

        ("GET", ["invoices"]) => invoices::list(world, form),
        ("GET", ["invoices", id]) => invoices::retrieve(world, id, form),
        ("POST", ["invoices", id, "void"]) => invoices::void(world, id, form),

        ("GET", ["subscription_items"]) => subscriptions::list_items(world, form),

        ("GET", ["events"]) => events::list(world, form),
        ("GET", ["events", id]) => events::retrieve(world, id, form),

        ("POST", ["webhook_endpoints"]) => endpoints::create(world, form),
        ("GET", ["webhook_endpoints"]) => endpoints::list(world, form),
        ("GET", ["webhook_endpoints", id]) => endpoints::retrieve(world, id, form),
        ("POST", ["webhook_endpoints", id]) => endpoints::update(world, id, form),
        ("DELETE", ["webhook_endpoints", id]) => endpoints::delete(world, id, form),

        _ => Err(StripeError::unrecognized_url(method, path)),
    }
}
