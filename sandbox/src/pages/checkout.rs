//! The page on which a customer pays, or does not.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::html::{Button, Notice, Page, facts, form, link, section, see_other};
use crate::double::Double;
use crate::world::checkout::{Card, Refusal, is_overdue, line_items, success_location, trial_days};
use crate::world::{Cause, World, catalog, text};

#[derive(Deserialize)]
struct Pressed {
    action: String,
}

/// The page of a session.
#[handler]
pub(super) fn show(Path(id): Path<String>, Data(double): Data<&Arc<Double>>) -> Response {
    page(&double.world(Cause::default()), &id).answer()
}

/// One of its buttons.
#[handler]
pub(super) fn act(
    Path(id): Path<String>,
    Form(pressed): Form<Pressed>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut world = double.world(Cause::default());
    match pressed.action.as_str() {
        "pay" => finish(&mut world, &id, Card::Ok),
        "decline" => finish(&mut world, &id, Card::Declined),
        "cancel" => leave(&world, &id),
        _ if world.sessions.contains_key(&id) => no_such_button(&id),
        _ => unknown().answer(),
    }
}

fn finish(world: &mut World, id: &str, card: Card) -> Response {
    match world.pay(id, card) {
        Ok(location) => see_other(&location),
        Err(Refusal::Declined) => page(world, id).after(Some(declined())).answer(),
        Err(_) => page(world, id).answer(),
    }
}

fn declined() -> Notice {
    Notice::problem("The card was declined", "Nothing was charged. You can try again.")
}

/// The session stays open: a customer who turns back may come again.
fn leave(world: &World, id: &str) -> Response {
    match world.sessions.get(id).and_then(|session| session["cancel_url"].as_str()) {
        Some(cancel_url) => see_other(cancel_url),
        None => page(world, id).answer(),
    }
}

fn page(world: &World, id: &str) -> Page {
    match world.sessions.get(id) {
        None => unknown(),
        Some(session) if text(session, "status") == "complete" => complete(session),
        Some(session) if text(session, "status") == "expired" || is_overdue(session, world.now()) => {
            expired(session)
        }
        Some(session) => Page::new("Checkout", order(world, session) + &payment(session)),
    }
}

fn order(world: &World, session: &Value) -> String {
    let mut known: Vec<(&str, String)> = line_items(session)
        .iter()
        .filter_map(|(price, quantity)| Some(("Plan", offer(world, world.prices.get(price)?, *quantity))))
        .collect();
    if let Some(days) = trial_days(session) {
        known.push(("Trial", format!("{days} days")));
    }
    known.push(("Due today", catalog::dollars(session["amount_total"].as_i64().unwrap_or_default())));
    let customer = session["customer"].as_str();
    known.push(("Customer", customer.map_or_else(|| "A new one".to_owned(), |id| world.customer_words(id))));
    section("order", "Your order", &facts(&known))
}

fn offer(world: &World, price: &Value, quantity: Option<i64>) -> String {
    let offer = world.offer(price);
    match quantity {
        Some(1) => offer,
        Some(quantity) => format!("{quantity} times {offer}"),
        None => format!("{offer} for each that is used"),
    }
}

fn payment(session: &Value) -> String {
    let pay = form("", &Button::primary("pay", "Pay"));
    let decline = form("", &Button::plain("decline", "Pay with a card that is declined"));
    let cancel = if session["cancel_url"].is_null() {
        String::new()
    } else {
        form("", &Button::plain("cancel", "Go back without paying"))
    };
    let hint = "<p class=\"small\">No card is asked for. Choose how the payment ends.</p>\n";
    section("payment", "Payment", &format!("{hint}<div class=\"actions\">\n{pay}{decline}{cancel}</div>\n"))
}

fn complete(session: &Value) -> Page {
    Page::message(
        "This checkout is complete",
        "It was completed before, and cannot be paid for twice.",
        &link(Some(&success_location(session)), "Continue to the application"),
    )
}

fn expired(session: &Value) -> Page {
    Page::message(
        "This checkout has expired",
        "Nothing was charged. Start another one in the application.",
        &link(session["cancel_url"].as_str(), "Return to the application"),
    )
}

fn unknown() -> Page {
    let page = Page::message(
        "There is no such checkout",
        "The sandbox forgets everything when it stops. Start another checkout in the application.",
        "",
    );
    page.with_status(StatusCode::NOT_FOUND)
}

fn no_such_button(id: &str) -> Response {
    let page = Page::message(
        "There is no such button",
        "Nothing was done. The checkout is as it was.",
        &link(Some(&format!("/c/pay/{id}")), "Back to the checkout"),
    );
    page.with_status(StatusCode::BAD_REQUEST).answer()
}
