//! The portal: a customer's subscriptions, and what may be done about them.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path, Query};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::html::{Button, Notice, Page, escape, form, link, section, see_other};
use super::subscription::{self, Allowed, End};
use crate::double::Double;
use crate::world::portal::allows;
use crate::world::subscription::{ends_by_itself, is_final, last_period_end, schedule_end};
use crate::world::{Cause, World, catalog, text};

/// What was done just before the page is shown.
#[derive(Deserialize)]
pub(super) struct Shown {
    done: Option<String>,
}

/// What was pressed, and beside what.
#[derive(Deserialize)]
struct Pressed {
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
    let Some(session) = session_at(&world, &opaque) else { return over() };
    match shown.done.as_deref() {
        None if !session["flow"].is_null() => flow(&world, session).answer(),
        done => home(&world, session).after(done.and_then(told)).answer(),
    }
}

/// One of its buttons.
#[handler]
pub(super) fn act(
    Path(opaque): Path<String>,
    Form(pressed): Form<Pressed>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut world = double.world(Cause::default());
    let Some(session) = session_at(&world, &opaque).cloned() else { return over() };
    if !carry_out(&mut world, &session, &pressed) {
        return impossible(&opaque);
    }
    let after = &session["flow"]["after_completion"]["redirect"]["return_url"];
    match after.as_str() {
        Some(return_url) => see_other(return_url),
        None => see_other(&format!("/p/session/{opaque}?done={}", pressed.action)),
    }
}

/// The session, while there is a customer for it to be of.
fn session_at<'a>(world: &'a World, opaque: &str) -> Option<&'a Value> {
    let session = world.portal_session_at(opaque)?;
    world.living_customer(text(session, "customer")).map(|_| session)
}

/// Does what the button says, if this customer may do it in this portal.
fn carry_out(world: &mut World, session: &Value, pressed: &Pressed) -> bool {
    let action = pressed.action.as_str();
    let customer = text(session, "customer");
    if !feature_of(action).is_some_and(|feature| offers(world, session, feature)) {
        return false;
    }
    if action == "update_card" {
        world.update_card(customer);
        return true;
    }
    let id = pressed.subscription.as_str();
    let theirs = world.subscriptions_of(customer).find(|subscription| text(subscription, "id") == id);
    let Some(subscription) = theirs.filter(|subscription| !is_final(subscription)) else { return false };
    // With flexible billing the portal lets all that is paid run out
    // (<https://docs.stripe.com/billing/subscriptions/billing-mode/compare>).
    let (end, now) = (last_period_end(subscription), world.now());
    match action {
        "update_subscription_card" => {
            world.update_card_of(id);
            return true;
        }
        "change_plan" => return change_plan(world, id, &pressed.price),
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
        "update_card" | "update_subscription_card" => Some("payment_method_update"),
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

fn end(world: &World, session: &Value) -> End {
    if cancels_at_once(world, session) { End::AtOnce } else { End::WithPeriod }
}

/// Only the action that the session was made for.
fn flow(world: &World, session: &Value) -> Page {
    let flow = &session["flow"];
    let kind = text(flow, "type");
    if kind == "payment_method_update" {
        return portal(world, session, "Update your card", &card());
    }
    let is_update = kind == "subscription_update";
    let Some(subscription) = world.subscriptions.get(text(&flow[kind], "subscription")) else {
        return portal(world, session, "Your subscription", NOTHING);
    };
    let heading = match kind {
        "subscription_update" => "Change your plan",
        _ if ends_by_itself(subscription) => "Resume your subscription",
        _ => "Cancel your subscription",
    };
    let cancel = (!is_update).then(|| end(world, session));
    let only = Allowed { change_plan: is_update, update_card: false, cancel };
    let name = subscription::name(world, subscription);
    portal(world, session, heading, &subscription::show(world, subscription, &name, only))
}

fn home(world: &World, session: &Value) -> Page {
    let allowed = Allowed {
        change_plan: offers(world, session, "subscription_update"),
        update_card: offers(world, session, "payment_method_update"),
        cancel: offers(world, session, "subscription_cancel").then(|| end(world, session)),
    };
    let theirs: Vec<&Value> = world.subscriptions_of(text(session, "customer")).collect();
    let heading = if theirs.len() > 1 { "Your subscriptions" } else { "Your subscription" };
    let mut content = subscriptions(world, &theirs, allowed);
    if offers(world, session, "payment_method_update") {
        content.push_str(&card());
    }
    if offers(world, session, "invoice_history") {
        content.push_str(&open_invoices(world, text(session, "customer")));
    }
    portal(world, session, heading, &content)
}

/// Of several each says which it is, since two may well be of one plan.
fn subscriptions(world: &World, theirs: &[&Value], allowed: Allowed) -> String {
    if theirs.is_empty() {
        return NOTHING.to_owned();
    }
    let mut content = String::new();
    for (index, subscription) in theirs.iter().enumerate() {
        let name = subscription::name(world, subscription);
        let heading = match theirs.len() {
            1 => name,
            several => format!("{name} ({} of {several})", index + 1),
        };
        content.push_str(&subscription::show(world, subscription, &heading, allowed));
    }
    content
}

/// What is owed, each with the way to the page where it is paid.
fn open_invoices(world: &World, customer: &str) -> String {
    let open = world
        .invoices
        .values()
        .filter(|invoice| text(invoice, "customer") == customer && text(invoice, "status") == "open");
    let links: String = open
        .map(|invoice| {
            let label = format!("Invoice {}: pay {}", text(invoice, "number"), amount_due(invoice));
            link(invoice["hosted_invoice_url"].as_str(), &label)
        })
        .collect();
    if links.is_empty() { links } else { section("invoices", "Open invoices", &links) }
}

fn amount_due(invoice: &Value) -> String {
    catalog::dollars(invoice["amount_due"].as_i64().unwrap_or_default())
}

const NOTHING: &str = "<p>There is no subscription.</p>\n";

/// Whose it is, and the way back, around this content.
fn portal(world: &World, session: &Value, heading: &str, content: &str) -> Page {
    let customer = escape(&world.customer_words(text(session, "customer")));
    let way_back = link(session["return_url"].as_str(), "Return to the application");
    Page::new(heading, format!("<p class=\"small\">Customer: {customer}</p>\n{content}{way_back}"))
}

fn card() -> String {
    let hint = "<p class=\"small\">There is no real card. This makes up another one.</p>\n";
    section("card", "Card", &form(hint, &Button::plain("update_card", "Update card")))
}

fn told(done: &str) -> Option<Notice> {
    match done {
        "update_card" => Some(Notice::done(
            "The card was updated",
            "Invoices are paid with it, but for those of subscriptions that have a card of their own.",
        )),
        "update_subscription_card" => {
            Some(Notice::done("The payment method was updated", "The subscription is paid with it."))
        }
        "change_plan" => Some(Notice::done("The plan was changed", "It is the new one from now on.")),
        "cancel" => Some(Notice::done("The subscription was canceled", "You see below when it ends.")),
        "resume" => Some(Notice::done("The subscription goes on", "It renews as it did before.")),
        _ => None,
    }
}

fn over() -> Response {
    let page = Page::message(
        "There is no such portal session",
        "It is over, or the sandbox was stopped since, and forgot it. Open another one in the application.",
        "",
    );
    page.with_status(StatusCode::NOT_FOUND).answer()
}

fn impossible(opaque: &str) -> Response {
    let page = Page::message(
        "That cannot be done here",
        "Nothing was changed. The subscription may be over, or the portal does not offer this.",
        &link(Some(&format!("/p/session/{opaque}")), "Back to the portal"),
    );
    page.with_status(StatusCode::BAD_REQUEST).answer()
}
