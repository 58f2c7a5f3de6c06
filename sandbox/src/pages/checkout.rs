//! The page on which a customer pays, or does not.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::html::{alert, button, escape, message, page, primary_button, see_other};
use crate::double::Double;
use crate::world::checkout::{Card, Refusal, line_items};
use crate::world::{Cause, World, text};

const DECLINED: &str = "The card was declined. Nothing was charged; try again.";

#[derive(Deserialize)]
struct Button {
    action: String,
}

/// The page of a session.
#[handler]
pub(super) fn show(Path(id): Path<String>, Data(double): Data<&Arc<Double>>) -> Response {
    render(&double.world(Cause::default()), &id, "")
}

/// One of its buttons.
#[handler]
pub(super) fn act(
    Path(id): Path<String>,
    Form(button): Form<Button>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut world = double.world(Cause::default());
    match button.action.as_str() {
        "pay" => finish(&mut world, &id, Card::Ok),
        "decline" => finish(&mut world, &id, Card::Declined),
        "cancel" => leave(&world, &id),
        _ => message(StatusCode::BAD_REQUEST, "Checkout", "There is no such button."),
    }
}

fn finish(world: &mut World, id: &str, card: Card) -> Response {
    match world.pay(id, card) {
        Ok(location) => see_other(&location),
        Err(Refusal::Declined) => render(world, id, &alert(DECLINED)),
        Err(_) => render(world, id, ""),
    }
}

/// The session stays open: a customer who turns back may come again.
fn leave(world: &World, id: &str) -> Response {
    match world.sessions.get(id).and_then(|session| session["cancel_url"].as_str()) {
        Some(cancel_url) => see_other(cancel_url),
        None => render(world, id, ""),
    }
}

fn render(world: &World, id: &str, alert: &str) -> Response {
    let Some(session) = world.sessions.get(id) else {
        return message(StatusCode::NOT_FOUND, "Checkout", "There is no such checkout.");
    };
    match text(session, "status") {
        "complete" => message(StatusCode::OK, "Checkout", "This checkout is complete. Thank you."),
        "expired" => message(StatusCode::OK, "Checkout", "This checkout has expired. Please begin again."),
        _ => page(StatusCode::OK, "Checkout", &format!("{alert}{}", open(world, session))),
    }
}

fn open(world: &World, session: &Value) -> String {
    let customer = customer_name(world, session);
    let items: String =
        line_items(session).iter().map(|(price, quantity)| item(world, price, *quantity)).collect();
    let buttons = [
        primary_button("pay", "Pay"),
        button("decline", "Decline"),
        if session["cancel_url"].is_null() { String::new() } else { button("cancel", "Cancel") },
    ];
    format!(
        "<section aria-label=\"Order\">\n<dl>\n{items}<dt>Customer</dt><dd>{}</dd>\n</dl>\n\
         <form method=\"post\">\n{}</form>\n</section>",
        escape(&customer),
        buttons.concat()
    )
}

fn item(world: &World, price: &str, quantity: i64) -> String {
    let offer = world.prices.get(price).map(|price| world.offer(price)).unwrap_or_default();
    let count = if quantity == 1 { String::new() } else { format!("{quantity} of ") };
    format!("<dt>Product</dt><dd>{count}{}</dd>\n", escape(&offer))
}

fn customer_name(world: &World, session: &Value) -> String {
    let Some(id) = session["customer"].as_str() else { return "new".to_owned() };
    let customer = world.customers.get(id);
    let known = customer.and_then(|customer| customer["name"].as_str().or(customer["email"].as_str()));
    known.map_or_else(|| id.to_owned(), |known| format!("{known} ({id})"))
}
