//! The checkout page.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path};
use poem::{Response, handler};
use serde_json::Value;

use super::ActionForm;
use super::html::{Button, Notice, Page, details, form, link, section, see_other};
use crate::double::Double;
use crate::state::checkout::{Card, Refusal, is_overdue, line_items, success_url, trial_days};
use crate::state::{Cause, State, catalog, text};

#[handler]
pub(super) fn show(Path(id): Path<String>, Data(double): Data<&Arc<Double>>) -> Response {
    page(&double.state(Cause::default()), &id).into_response()
}

#[handler]
pub(super) fn act(
    Path(id): Path<String>,
    Form(ActionForm { action, .. }): Form<ActionForm>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut state = double.state(Cause::default());
    match action.as_str() {
        "pay" => pay(&mut state, &id, Card::Ok),
        "decline" => pay(&mut state, &id, Card::Declined),
        "cancel" => cancel(&state, &id),
        _ if state.sessions.contains_key(&id) => unknown_action(&id),
        _ => not_found().into_response(),
    }
}

fn pay(state: &mut State, id: &str, card: Card) -> Response {
    match state.pay(id, card) {
        Ok(location) => see_other(&location),
        Err(Refusal::Declined) => page(state, id).with_notice(Some(Notice::card_declined())).into_response(),
        Err(_) => page(state, id).into_response(),
    }
}

/// The session stays open, so the customer can return to it.
fn cancel(state: &State, id: &str) -> Response {
    match state.sessions.get(id).and_then(|session| session["cancel_url"].as_str()) {
        Some(cancel_url) => see_other(cancel_url),
        None => page(state, id).into_response(),
    }
}

fn page(state: &State, id: &str) -> Page {
    match state.sessions.get(id) {
        None => not_found(),
        Some(session) if text(session, "status") == "complete" => complete(session),
        Some(session) if text(session, "status") == "expired" || is_overdue(session, state.now()) => {
            expired(session)
        }
        Some(session) => Page::new("Checkout", order(state, session) + &payment(session)),
    }
}

fn order(state: &State, session: &Value) -> String {
    let mut rows: Vec<(&str, String)> = line_items(session)
        .iter()
        .filter_map(|(price, quantity)| Some(("Plan", offer(state, state.prices.get(price)?, *quantity))))
        .collect();
    if let Some(days) = trial_days(session) {
        rows.push(("Trial", format!("{days} days")));
    }
    rows.push(("Due today", catalog::dollars(session["amount_total"].as_i64().unwrap_or_default())));
    let customer = session["customer"].as_str();
    rows.push((
        "Customer",
        customer.map_or_else(|| "New customer".to_owned(), |id| state.customer_label(id)),
    ));
    section("order", "Your order", &details(&rows))
}

fn offer(state: &State, price: &Value, quantity: Option<i64>) -> String {
    let offer = state.offer_label(price);
    match quantity {
        Some(1) => offer,
        Some(quantity) => format!("{quantity} × {offer}"),
        None => format!("{offer} per unit used"),
    }
}

fn payment(session: &Value) -> String {
    let pay = form("", &Button::primary("pay", "Pay"));
    let decline = form("", &Button::plain("decline", "Pay with a declined card"));
    let cancel = if session["cancel_url"].is_null() {
        String::new()
    } else {
        form("", &Button::plain("cancel", "Go back without paying"))
    };
    let hint = "<p class=\"small\">No card details are needed. Choose the result of the payment.</p>\n";
    section("payment", "Payment", &format!("{hint}<div class=\"actions\">\n{pay}{decline}{cancel}</div>\n"))
}

fn complete(session: &Value) -> Page {
    Page::message(
        "This checkout is complete",
        "It cannot be paid again.",
        &link(Some(&success_url(session)), "Continue to the application"),
    )
}

fn expired(session: &Value) -> Page {
    Page::message(
        "This checkout has expired",
        "Nothing was charged. Start a new checkout in the application.",
        &link(session["cancel_url"].as_str(), "Return to the application"),
    )
}

fn not_found() -> Page {
    let page = Page::message(
        "Checkout not found",
        "The sandbox loses all data when it stops. Start a new checkout in the application.",
        "",
    );
    page.with_status(StatusCode::NOT_FOUND)
}

fn unknown_action(id: &str) -> Response {
    let page = Page::message(
        "Unknown action",
        "Nothing was changed.",
        &link(Some(&format!("/c/pay/{id}")), "Back to the checkout"),
    );
    page.with_status(StatusCode::BAD_REQUEST).into_response()
}
