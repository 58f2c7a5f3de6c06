//! What customers, banks and time do.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::told::Told;
use crate::double::Double;
use crate::world::checkout::{Card, Refusal};
use crate::world::customer::CustomerFields;
use crate::world::subscription::is_final;
use crate::world::{Cause, catalog};

const STATUSES: &[&str] =
    &["active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    price: Option<String>,
    quantity: Option<u32>,
    /// What the bank says from now on to the card that is charged.
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

impl Change {
    fn cause(&self) -> Cause {
        if self.silently { Cause::silent() } else { Cause::default() }
    }
}

/// A subscription's price changes, its quantity, its card is declined from now on, its period moves on, its end is
/// scheduled or called off, its status is forced, its open invoice is charged once more: in this order if several are
/// asked for, each told with an event of its own.
#[handler]
pub(super) fn change_subscription(
    Path(id): Path<String>,
    Told(change): Told<Change>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut world = double.world(change.cause());
    let subscription = world.subscriptions.get(&id).ok_or_else(|| Problem::not_found("subscription", &id))?;
    if is_final(subscription) {
        return Err(Problem::conflict("The subscription is over for good."));
    }
    if let Some(status) = change.status.as_deref().filter(|status| !STATUSES.contains(status)) {
        let message = format!("'{status}' is no status; there are {}.", STATUSES.join(", "));
        return Err(Problem::bad_request(message));
    }
    if let Some(price) = &change.price {
        let price = world.prices.get(price).filter(|price| catalog::is_recurring(price)).cloned();
        let price = price.ok_or_else(|| Problem::bad_request("price: there is no such recurring price"))?;
        world.change_price(&id, &price);
    }
    if let Some(quantity) = change.quantity {
        world.change_quantity(&id, quantity);
    }
    match change.card {
        None => {}
        Some(Card::Declined) => world.decline_card_of(&id),
        Some(_) => return Err(Problem::bad_request("card: only `declined`")),
    }
    if change.renew {
        world.renew(&id);
    }
    if let Some(at_period_end) = change.cancel_at_period_end {
        world.change_end(&id, at_period_end);
    }
    if let Some(status) = &change.status {
        world.force_status(&id, status);
    }
    if change.retry_payment {
        world.retry_payment(&id);
    }
    Ok(Json(world.subscriptions[&id].clone()))
}

/// The API knows nothing of that subscription any more, and nothing is told of it.
#[handler]
pub(super) fn forget_subscription(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let forgotten = double.world(Cause::default()).forget_subscription(&id);
    if forgotten { Ok(Json(json!({"forgotten": id}))) } else { Err(Problem::not_found("subscription", &id)) }
}

/// The same for a customer, with its subscriptions.
#[handler]
pub(super) fn forget_customer(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let forgotten = double.world(Cause::default()).forget_customer(&id);
    if forgotten { Ok(Json(json!({"forgotten": id}))) } else { Err(Problem::not_found("customer", &id)) }
}

/// The same for a checkout session.
#[handler]
pub(super) fn forget_checkout_session(
    Path(id): Path<String>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let forgotten = double.world(Cause::default()).forget_session(&id);
    let not_found = || Problem::not_found("checkout session", &id);
    if forgotten { Ok(Json(json!({"forgotten": id}))) } else { Err(not_found()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldPrice {
    id: String,
    product: String,
    lookup_key: Option<String>,
    unit_amount: i64,
}

/// A monthly price that began as a plan: its owner chose its id, with any characters
/// (<https://docs.stripe.com/api/plans/create#create_plan-id>).
#[handler]
pub(super) fn create_price(
    Told(old): Told<OldPrice>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let mut world = double.world(Cause::default());
    if world.prices.contains_key(&old.id) {
        return Err(Problem::conflict("There is a price of this id already."));
    }
    let now = world.now();
    let price = catalog::price(&old.id, &old.product, None, old.unit_amount, Some("month"), now);
    Ok(Json(world.create_price(&price, old.lookup_key.as_deref())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldCustomer {
    id: String,
}

/// A customer whose id its owner chose: the API took an `id` once, and documents it no longer.
#[handler]
pub(super) fn create_customer(
    Told(OldCustomer { id }): Told<OldCustomer>,
    Data(double): Data<&Arc<Double>>,
) -> Json<Value> {
    Json(double.world(Cause::default()).create_customer_of_id(&id, CustomerFields::default()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    card: Card,
}

/// What the checkout page's button does.
#[handler]
pub(super) fn pay(
    Path(id): Path<String>,
    Told(payment): Told<Payment>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let paid = double.world(Cause::default()).pay(&id, payment.card);
    match paid {
        Ok(location) => Ok(Json(json!({"paid": true, "location": location}))),
        Err(Refusal::Declined) => Ok(Json(json!({"paid": false, "location": null}))),
        Err(refusal) => Err(refused(&refusal, &id)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settlement {
    ok: bool,
}

/// What the bank says, days later, to a delayed debit.
#[handler]
pub(super) fn settle(
    Path(id): Path<String>,
    Told(settlement): Told<Settlement>,
    Data(double): Data<&Arc<Double>>,
) -> Result<Json<Value>, Problem> {
    let settled = double.world(Cause::default()).settle(&id, settlement.ok);
    settled.map(Json).map_err(|refusal| refused(&refusal, &id))
}

/// Makes the account one whose portal was never set up.
#[handler]
pub(super) fn remove_portal_configuration(Data(double): Data<&Arc<Double>>) -> Json<Value> {
    let removed = double.world(Cause::default()).remove_default_configuration();
    Json(json!({ "removed": removed }))
}

fn refused(refusal: &Refusal, session: &str) -> Problem {
    match refusal {
        Refusal::NoSuchSession => Problem::not_found("checkout session", session),
        Refusal::NotOpen => Problem::conflict("The session is not open."),
        Refusal::Declined => Problem::conflict("The card was declined."),
        Refusal::NothingToSettle => Problem::conflict("The session has no delayed payment to settle."),
    }
}
