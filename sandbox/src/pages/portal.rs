//! The portal: a customer's subscriptions, and what may be done about them.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path, Query};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::html::{button, escape, message, notice, page, primary_button, see_other};
use crate::clock;
use crate::double::Double;
use crate::world::portal::allows;
use crate::world::subscription::{ends_by_itself, is_final, items, period_end, schedule_end};
use crate::world::{Cause, World, catalog, text};

/// What was done just before the page is shown.
#[derive(Deserialize)]
pub(super) struct Shown {
    done: Option<String>,
}

/// What was pressed, and beside what.
#[derive(Deserialize)]
struct Button {
    action: String,
    #[serde(default)]
    subscription: String,
    #[serde(default)]
    price: String,
}

/// The page of a session.
#[handler]
pub(super) fn show(
    Path(opaque): Path<String>,
    Query(shown): Query<Shown>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let world = double.world(Cause::default());
    let Some(session) = world.portal_session_at(&opaque) else { return unknown() };
    let content = match shown.done.as_deref() {
        None if !session["flow"].is_null() => flow(&world, session),
        done => format!("{}{}", done.map(told).unwrap_or_default(), home(&world, session)),
    };
    page(StatusCode::OK, "Billing", &format!("{content}{}", way_back(session)))
}

/// One of its buttons.
#[handler]
pub(super) fn act(
    Path(opaque): Path<String>,
    Form(button): Form<Button>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut world = double.world(Cause::default());
    let Some(session) = world.portal_session_at(&opaque).cloned() else { return unknown() };
    if !carry_out(&mut world, &session, &button) {
        return message(StatusCode::BAD_REQUEST, "Billing", "That cannot be done here.");
    }
    let after = &session["flow"]["after_completion"]["redirect"]["return_url"];
    match after.as_str() {
        Some(return_url) => see_other(return_url),
        None => see_other(&format!("/p/session/{opaque}?done={}", button.action)),
    }
}

/// Does what the button says, if this customer may do it in this portal.
fn carry_out(world: &mut World, session: &Value, button: &Button) -> bool {
    let action = button.action.as_str();
    let customer = text(session, "customer");
    if !feature_of(action).is_some_and(|feature| offers(world, session, feature)) {
        return false;
    }
    if action == "update_card" {
        world.update_card(customer);
        return true;
    }
    let id = button.subscription.as_str();
    let theirs = world.subscriptions_of(customer).find(|subscription| text(subscription, "id") == id);
    let Some(subscription) = theirs.filter(|subscription| !is_final(subscription)) else { return false };
    let (end, now) = (period_end(subscription), world.now());
    match action {
        "change_plan" => return change_plan(world, id, &button.price),
        "cancel" if cancels_at_once(world, session) => world.end_subscription(id),
        "cancel" => world.change_subscription(id, |subscription| schedule_end(subscription, end, now)),
        _ => world.change_subscription(id, |subscription| schedule_end(subscription, None, now)),
    };
    true
}

fn change_plan(world: &mut World, subscription: &str, price: &str) -> bool {
    let price = world.prices.get(price).filter(|price| catalog::is_recurring(price)).cloned();
    price.map(|price| world.change_price(subscription, &price)).is_some()
}

/// The part of a configuration that an action needs.
fn feature_of(action: &str) -> Option<&'static str> {
    match action {
        "update_card" => Some("payment_method_update"),
        "change_plan" => Some("subscription_update"),
        "cancel" | "resume" => Some("subscription_cancel"),
        _ => None,
    }
}

fn configuration<'a>(world: &'a World, session: &Value) -> &'a Value {
    // A session outlives the configuration that it was made with; then it offers nothing.
    world.configurations.get(text(session, "configuration")).unwrap_or(&Value::Null)
}

fn offers(world: &World, session: &Value, feature: &str) -> bool {
    allows(configuration(world, session), feature)
}

fn cancels_at_once(world: &World, session: &Value) -> bool {
    configuration(world, session)["features"]["subscription_cancel"]["mode"] == "immediately"
}

/// Only the action that the session was made for.
fn flow(world: &World, session: &Value) -> String {
    let flow = &session["flow"];
    let kind = text(flow, "type");
    let subscription = world.subscriptions.get(text(&flow[kind], "subscription"));
    let action = match (kind, subscription) {
        ("subscription_cancel", Some(subscription)) => cancel_form(subscription),
        ("subscription_update", Some(subscription)) => plan_form(world, subscription),
        _ => card_form(),
    };
    let heading = subscription.map(|subscription| summary(world, subscription)).unwrap_or_default();
    format!("<section>\n{heading}{action}</section>\n")
}

fn home(world: &World, session: &Value) -> String {
    let theirs = world.subscriptions_of(text(session, "customer"));
    let sections: Vec<String> = theirs.map(|subscription| section(world, session, subscription)).collect();
    let subscriptions = if sections.is_empty() {
        "<section><p>There is no subscription.</p></section>\n".to_owned()
    } else {
        sections.concat()
    };
    let card = if offers(world, session, "payment_method_update") {
        format!("<section>\n<h2>Card</h2>\n{}</section>\n", card_form())
    } else {
        String::new()
    };
    subscriptions + &card
}

fn section(world: &World, session: &Value, subscription: &Value) -> String {
    let mut forms = String::new();
    if !is_final(subscription) {
        if offers(world, session, "subscription_update") {
            forms.push_str(&plan_form(world, subscription));
        }
        if offers(world, session, "subscription_cancel") {
            forms.push_str(&cancel_form(subscription));
        }
    }
    format!("<section>\n{}{forms}</section>\n", summary(world, subscription))
}

fn summary(world: &World, subscription: &Value) -> String {
    let offers: Vec<String> = items(subscription).iter().map(|item| world.offer(&item["price"])).collect();
    let end = period_end(subscription).map(clock::readable).unwrap_or_default();
    let next = if is_final(subscription) {
        "Ended".to_owned()
    } else if let Some(at) = subscription["cancel_at"].as_i64() {
        format!("Ends on {}", clock::readable(at))
    } else {
        format!("Renews on {end}")
    };
    format!(
        "<h2>{}</h2>\n<p>{}. Status: {}.</p>\n",
        escape(&offers.join(", ")),
        escape(&next),
        escape(text(subscription, "status"))
    )
}

fn card_form() -> String {
    format!("<form method=\"post\">\n{}</form>\n", button("update_card", "Update card"))
}

fn plan_form(world: &World, subscription: &Value) -> String {
    let id = escape(text(subscription, "id"));
    let current = items(subscription).first().map_or("", |item| text(&item["price"], "id"));
    let recurring = world.prices.values().filter(|price| catalog::is_recurring(price));
    let options: String = recurring.map(|price| plan_option(world, price, current)).collect();
    format!(
        "<form method=\"post\">\n<input type=\"hidden\" name=\"subscription\" value=\"{id}\">\n\
         <label>Plan\n<select name=\"price\">\n{options}</select></label>\n{}</form>\n",
        primary_button("change_plan", "Change plan")
    )
}

fn plan_option(world: &World, price: &Value, current: &str) -> String {
    let id = text(price, "id");
    let selected = if id == current { " selected" } else { "" };
    format!("<option value=\"{}\"{selected}>{}</option>\n", escape(id), escape(&world.offer(price)))
}

fn cancel_form(subscription: &Value) -> String {
    let id = escape(text(subscription, "id"));
    let action = if ends_by_itself(subscription) {
        primary_button("resume", "Resume")
    } else {
        button("cancel", "Cancel")
    };
    format!(
        "<form method=\"post\">\n<input type=\"hidden\" name=\"subscription\" value=\"{id}\">\n{action}</form>\n"
    )
}

fn told(done: &str) -> String {
    match done {
        "update_card" => notice("The card was updated."),
        "change_plan" => notice("The plan was changed."),
        "cancel" => notice("The subscription was canceled."),
        "resume" => notice("The subscription goes on."),
        _ => String::new(),
    }
}

fn way_back(session: &Value) -> String {
    match session["return_url"].as_str() {
        Some(return_url) => format!("<p><a href=\"{}\">Return to the shop</a></p>", escape(return_url)),
        None => String::new(),
    }
}

fn unknown() -> Response {
    message(StatusCode::NOT_FOUND, "Billing", "There is no such portal session, or it is over.")
}
