//! Simulates customers, banks and the passing of time.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use super::control_body::ControlBody;
use super::problem::Problem;
use crate::double::Double;
use crate::state::checkout::{Card, Refusal};
use crate::state::customer::CustomerFields;
use crate::state::subscription::is_final;
use crate::state::{Cause, catalog};

const STATUSES: &[&str] =
    &["active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionChange {
    price: Option<String>,
    quantity: Option<u32>,
    /// How the bank answers charges of the subscription's card from now on.
    card: Option<Card>,
    #[serde(default)]
    renew: bool,
    cancel_at_period_end: Option<bool>,
    status: Option<String>,
    #[serde(default)]
    retry_payment: bool,
    #[serde(default)]
    silently: bool,
}

/// Applies the requested changes in this order, each with its own event: price, quantity, declined
/// card, renewal, cancellation, status, retry of the open invoice.
#[handler]
pub(super) fn change_subscription(
    Path(id): Path<String>,
    ControlBody(change): ControlBody<SubscriptionChange>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut state = double.state(if change.silently { Cause::silent() } else { Cause::default() });
    let subscription = state.subscriptions.get(&id).ok_or_else(|| Problem::not_found("subscription", &id))?;
    if is_final(subscription) {
        return Err(Problem::conflict("The subscription has ended and cannot change."));
    }
    if let Some(status) = change.status.as_deref().filter(|status| !STATUSES.contains(status)) {
        let message = format!("status: '{status}' is unknown; use one of {}.", STATUSES.join(", "));
        return Err(Problem::bad_request(message));
    }
    if let Some(price) = &change.price {
        let price = state.prices.get(price).filter(|price| catalog::is_recurring(price)).cloned();
        let price = price.ok_or_else(|| Problem::bad_request("price: no such recurring price"))?;
        state.change_price(&id, &price);
    }
    if let Some(quantity) = change.quantity {
        state.change_quantity(&id, quantity);
    }
    match change.card {
        None => {}
        Some(Card::Declined) => state.decline_charged_card(&id),
        Some(_) => return Err(Problem::bad_request("card: must be `declined`")),
    }
    if change.renew {
        state.renew(&id);
    }
    if let Some(at_period_end) = change.cancel_at_period_end {
        state.set_cancel_at_period_end(&id, at_period_end);
    }
    if let Some(status) = &change.status {
        state.force_status(&id, status);
    }
    if change.retry_payment {
        state.retry_payment(&id);
    }
    Ok(Json(state.subscriptions[&id].clone()))
}

/// Removes a subscription without an event.
#[handler]
pub(super) fn forget_subscription(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let found = double.state(Cause::default()).forget_subscription(&id);
    forgotten("subscription", &id, found)
}

/// Removes a customer with its subscriptions, without an event.
#[handler]
pub(super) fn forget_customer(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let found = double.state(Cause::default()).forget_customer(&id);
    forgotten("customer", &id, found)
}

/// Removes a checkout session without an event.
#[handler]
pub(super) fn forget_checkout_session(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let found = double.state(Cause::default()).sessions.shift_remove(&id).is_some();
    forgotten("checkout session", &id, found)
}

fn forgotten(kind: &str, id: &str, found: bool) -> Result<Json<Value>, Problem> {
    if found { Ok(Json(json!({"forgotten": id}))) } else { Err(Problem::not_found(kind, id)) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyPrice {
    id: String,
    product: String,
    lookup_key: Option<String>,
    unit_amount: i64,
}

/// Creates a monthly price that was once a plan. The account owner chose its id, which may contain
/// any characters (<https://docs.stripe.com/api/plans/create#create_plan-id>).
#[handler]
pub(super) fn create_price(
    ControlBody(legacy): ControlBody<LegacyPrice>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut state = double.state(Cause::default());
    if state.prices.contains_key(&legacy.id) {
        return Err(Problem::conflict("A price with this id exists already."));
    }
    let now = state.now();
    let price = catalog::price(&legacy.id, &legacy.product, None, legacy.unit_amount, Some("month"), now);
    Ok(Json(state.create_price(&price, legacy.lookup_key.as_deref())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyCustomer {
    id: String,
}

/// Creates a customer with a chosen id. The API once accepted an `id` and no longer documents it.
#[handler]
pub(super) fn create_customer(
    ControlBody(LegacyCustomer { id }): ControlBody<LegacyCustomer>,
    Data(double): Data<&Arc<Double>>,
) -> Json<Value> {
    Json(double.state(Cause::default()).create_customer_with_id(&id, CustomerFields::default()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    card: Card,
}

/// Pays an open checkout session, as the *Pay* button of its page does.
#[handler]
pub(super) fn pay(
    Path(id): Path<String>,
    ControlBody(payment): ControlBody<Payment>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let paid = double.state(Cause::default()).pay(&id, payment.card);
    match paid {
        Ok(location) => Ok(Json(json!({"paid": true, "location": location}))),
        Err(Refusal::Declined) => Ok(Json(json!({"paid": false, "location": null}))),
        Err(refusal) => Err(problem_of(&refusal, &id)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settlement {
    ok: bool,
}

/// Settles a delayed debit: the bank's answer that comes days later.
#[handler]
pub(super) fn settle(
    Path(id): Path<String>,
    ControlBody(settlement): ControlBody<Settlement>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let settled = double.state(Cause::default()).settle(&id, settlement.ok);
    settled.map(Json).map_err(|refusal| problem_of(&refusal, &id))
}

/// Removes the default portal configuration, as in an account that never saved the portal's
/// settings.
#[handler]
pub(super) fn remove_portal_configuration(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    let removed = double.state(Cause::default()).remove_default_configuration();
    Json(json!({ "removed": removed }))
}

fn problem_of(refusal: &Refusal, session: &str) -> Problem {
    match refusal {
        Refusal::NoSuchSession => Problem::not_found("checkout session", session),
        Refusal::NotOpen => Problem::conflict("The session is not open."),
        Refusal::Declined => Problem::conflict("The card was declined."),
        Refusal::NothingToSettle => Problem::conflict("The session has no delayed payment to settle."),
    }
}
