//! The part of Stripe's API that Billhook uses: one file per resource, which reads and checks the
//! parameters and calls `state`. Start with `handler.rs` and the routes below.

pub(crate) mod error;
pub(crate) mod faults;
pub(crate) mod form;
pub(crate) mod form_encoding;
pub(crate) mod handler;
pub(crate) mod idempotency;

mod account;
mod checkout;
mod created_filter;
mod customers;
mod endpoints;
mod events;
mod invoices;
mod locale;
mod pagination;
mod portal;
mod prices;
mod subscriptions;

use percent_encoding::percent_decode_str;
use poem::http::Method;
use serde_json::Value;

use crate::state::State;
use error::StripeError;
use form::Form;

type ApiResult = Result<Value, StripeError>;

fn route(state: &mut State, method: &Method, path: &str, form: Form) -> ApiResult {
    // Ids chosen by the account owner may contain encoded slashes and spaces.
    let segments = path.trim_start_matches("/v1/").split('/');
    let segments: Vec<String> =
        segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["account"]) => account::retrieve(state, form),

        ("POST", ["customers"]) => customers::create(state, form),
        ("GET", ["customers"]) => customers::list(state, form),
        ("GET", ["customers", id]) => customers::retrieve(state, id, form),
        ("POST", ["customers", id]) => customers::update(state, id, form),
        ("DELETE", ["customers", id]) => customers::delete(state, id, form),

        ("POST", ["prices"]) => prices::create(state, form),
        ("GET", ["prices"]) => prices::list(state, form),
        ("GET", ["prices", id]) => prices::retrieve(state, id, form),
        ("POST", ["prices", id]) => prices::update(state, id, form),

        ("POST", ["checkout", "sessions"]) => checkout::create(state, form),
        ("GET", ["checkout", "sessions"]) => checkout::list(state, form),
        ("GET", ["checkout", "sessions", id]) => checkout::retrieve(state, id, form),
        ("POST", ["checkout", "sessions", id, "expire"]) => checkout::expire(state, id, form),

        ("POST", ["billing_portal", "sessions"]) => portal::create(state, form),
        ("POST", ["billing_portal", "configurations"]) => portal::create_configuration(state, form),
        ("GET", ["billing_portal", "configurations"]) => portal::list_configurations(state, form),
        ("GET", ["billing_portal", "configurations", id]) => portal::retrieve_configuration(state, id, form),
        ("POST", ["billing_portal", "configurations", id]) => portal::update_configuration(state, id, form),

        ("GET", ["subscriptions"]) => subscriptions::list(state, form),
        ("GET", ["subscriptions", id]) => subscriptions::retrieve(state, id, form),
        ("POST", ["subscriptions", id]) => subscriptions::update(state, id, form),
        ("DELETE", ["subscriptions", id]) => subscriptions::cancel(state, id, form),

        ("GET", ["invoices"]) => invoices::list(state, form),
        ("GET", ["invoices", id]) => invoices::retrieve(state, id, form),
        ("POST", ["invoices", id, "void"]) => invoices::void(state, id, form),

        ("GET", ["subscription_items"]) => subscriptions::list_items(state, form),

        ("GET", ["events"]) => events::list(state, form),
        ("GET", ["events", id]) => events::retrieve(state, id, form),

        ("POST", ["webhook_endpoints"]) => endpoints::create(state, form),
        ("GET", ["webhook_endpoints"]) => endpoints::list(state, form),
        ("GET", ["webhook_endpoints", id]) => endpoints::retrieve(state, id, form),
        ("POST", ["webhook_endpoints", id]) => endpoints::update(state, id, form),
        ("DELETE", ["webhook_endpoints", id]) => endpoints::delete(state, id, form),

        _ => Err(StripeError::unrecognized_url(method, path)),
    }
}
