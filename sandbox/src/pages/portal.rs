//! The customer portal page.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Form, Path, Query};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::ActionForm;
use super::html::{Button, Notice, Page, escape, form, link, section, see_other};
use super::subscription::{self, AllowedActions, CancelMode};
use crate::double::Double;
use crate::state::portal::is_feature_enabled;
use crate::state::subscription::{is_final, is_set_to_cancel, last_period_end, schedule_cancel};
use crate::state::{Cause, State, catalog, text};

#[derive(Deserialize)]
pub(super) struct PortalQuery {
    /// The action that redirected here.
    done: Option<String>,
}

#[handler]
pub(super) fn show(
    Path(token): Path<String>,
    Query(query): Query<PortalQuery>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let state = double.state(Cause::default());
    let Some(session) = session_at(&state, &token) else { return not_found() };
    match query.done.as_deref() {
        None if !session["flow"].is_null() => flow(&state, session).into_response(),
        done => overview(&state, session).with_notice(done.and_then(success_notice)).into_response(),
    }
}

#[handler]
pub(super) fn act(
    Path(token): Path<String>,
    Form(form): Form<ActionForm>,
    Data(double): Data<&Arc<Double>>,
) -> Response {
    let mut state = double.state(Cause::default());
    let Some(session) = session_at(&state, &token).cloned() else { return not_found() };
    if !perform(&mut state, &session, &form) {
        return not_available(&token);
    }
    let return_url = &session["flow"]["after_completion"]["redirect"]["return_url"];
    match return_url.as_str() {
        Some(return_url) => see_other(return_url),
        None => see_other(&format!("/p/session/{token}?done={}", form.action)),
    }
}

/// `None` if the session or its customer does not exist.
fn session_at<'a>(state: &'a State, token: &str) -> Option<&'a Value> {
    let session = state.portal_session_at(token)?;
    state.existing_customer(text(session, "customer")).map(|_| session)
}

/// Performs the action if the portal offers it to this customer. Returns whether it did.
fn perform(state: &mut State, session: &Value, form: &ActionForm) -> bool {
    let action = form.action.as_str();
    let customer = text(session, "customer");
    if !feature_of(action).is_some_and(|feature| offers(state, session, feature)) {
        return false;
    }
    if action == "update_card" {
        state.update_customer_card(customer);
        return true;
    }
    let id = form.subscription.as_str();
    let owned = state.subscriptions_of(customer).find(|subscription| text(subscription, "id") == id);
    let Some(subscription) = owned.filter(|subscription| !is_final(subscription)) else { return false };
    // With flexible billing the portal cancels at the end of the last paid period
    // (<https://docs.stripe.com/billing/subscriptions/billing-mode/compare>).
    let (end, now) = (last_period_end(subscription), state.now());
    match action {
        "update_subscription_card" => {
            state.update_subscription_card(id);
            return true;
        }
        "change_plan" => return change_plan(state, id, &form.price),
        "cancel" if cancel_mode(state, session) == CancelMode::Immediately => state.cancel_subscription(id),
        "cancel" => state.edit_subscription(id, |subscription| schedule_cancel(subscription, end, now)),
        _ => state.edit_subscription(id, |subscription| schedule_cancel(subscription, None, now)),
    };
    true
}

fn change_plan(state: &mut State, subscription: &str, price: &str) -> bool {
    let price = state.prices.get(price).filter(|price| catalog::is_recurring(price)).cloned();
    price.map(|price| state.change_price(subscription, &price)).is_some()
}

/// The portal feature that an action requires.
fn feature_of(action: &str) -> Option<&'static str> {
    match action {
        "update_card" | "update_subscription_card" => Some("payment_method_update"),
        "change_plan" => Some("subscription_update"),
        "cancel" | "resume" => Some("subscription_cancel"),
        _ => None,
    }
}

fn configuration<'a>(state: &'a State, session: &Value) -> &'a Value {
    // A session without its configuration offers nothing.
    state.configurations.get(text(session, "configuration")).unwrap_or(&Value::Null)
}

fn offers(state: &State, session: &Value, feature: &str) -> bool {
    is_feature_enabled(configuration(state, session), feature)
}

fn cancel_mode(state: &State, session: &Value) -> CancelMode {
    if configuration(state, session)["features"]["subscription_cancel"]["mode"] == "immediately" {
        CancelMode::Immediately
    } else {
        CancelMode::AtPeriodEnd
    }
}

/// The page of a session with a flow, which offers a single action.
fn flow(state: &State, session: &Value) -> Page {
    let flow = &session["flow"];
    let kind = text(flow, "type");
    if kind == "payment_method_update" {
        return portal(state, session, "Update your card", &card());
    }
    let is_update = kind == "subscription_update";
    let Some(subscription) = state.subscriptions.get(text(&flow[kind], "subscription")) else {
        return portal(state, session, "Your subscription", NO_SUBSCRIPTION);
    };
    let heading = match kind {
        "subscription_update" => "Change your plan",
        _ if is_set_to_cancel(subscription) => "Resume your subscription",
        _ => "Cancel your subscription",
    };
    let cancel = (!is_update).then(|| cancel_mode(state, session));
    let allowed = AllowedActions { change_plan: is_update, update_card: false, cancel };
    let name = subscription::name(state, subscription);
    portal(state, session, heading, &subscription::show(state, subscription, &name, allowed))
}

fn overview(state: &State, session: &Value) -> Page {
    let allowed = AllowedActions {
        change_plan: offers(state, session, "subscription_update"),
        update_card: offers(state, session, "payment_method_update"),
        cancel: offers(state, session, "subscription_cancel").then(|| cancel_mode(state, session)),
    };
    let owned: Vec<&Value> = state.subscriptions_of(text(session, "customer")).collect();
    let heading = if owned.len() > 1 { "Your subscriptions" } else { "Your subscription" };
    let mut content = subscriptions(state, &owned, allowed);
    if offers(state, session, "payment_method_update") {
        content.push_str(&card());
    }
    if offers(state, session, "invoice_history") {
        content.push_str(&open_invoices(state, text(session, "customer")));
    }
    portal(state, session, heading, &content)
}

/// Numbers several subscriptions, because two of them can have the same plan.
fn subscriptions(state: &State, owned: &[&Value], allowed: AllowedActions) -> String {
    if owned.is_empty() {
        return NO_SUBSCRIPTION.to_owned();
    }
    let mut content = String::new();
    for (index, subscription) in owned.iter().enumerate() {
        let name = subscription::name(state, subscription);
        let heading = match owned.len() {
            1 => name,
            several => format!("{name} ({} of {several})", index + 1),
        };
        content.push_str(&subscription::show(state, subscription, &heading, allowed));
    }
    content
}

/// Links to the pages of the customer's open invoices, or an empty string.
fn open_invoices(state: &State, customer: &str) -> String {
    let open = state
        .invoices
        .values()
        .filter(|invoice| text(invoice, "customer") == customer && text(invoice, "status") == "open");
    let links: String = open
        .map(|invoice| {
            let amount = catalog::dollars(invoice["amount_due"].as_i64().unwrap_or_default());
            let label = format!("Invoice {}: pay {amount}", text(invoice, "number"));
            link(invoice["hosted_invoice_url"].as_str(), &label)
        })
        .collect();
    if links.is_empty() { links } else { section("invoices", "Open invoices", &links) }
}

const NO_SUBSCRIPTION: &str = "<p>There is no subscription.</p>\n";

/// Adds the customer and the return link to `content`, which is HTML.
fn portal(state: &State, session: &Value, heading: &str, content: &str) -> Page {
    let customer = escape(&state.customer_label(text(session, "customer")));
    let return_link = link(session["return_url"].as_str(), "Return to the application");
    Page::new(heading, format!("<p class=\"small\">Customer: {customer}</p>\n{content}{return_link}"))
}

fn card() -> String {
    let hint = "<p class=\"small\">No real card is used. This creates a new test card.</p>\n";
    section("card", "Card", &form(hint, &Button::plain("update_card", "Update card")))
}

fn success_notice(action: &str) -> Option<Notice> {
    let (title, text) = match action {
        "update_card" => ("The card was updated", "It pays for all subscriptions without their own card."),
        "update_subscription_card" => {
            ("The payment method was updated", "It now pays for this subscription.")
        }
        "change_plan" => ("The plan was changed", "The new plan is active now."),
        "cancel" => ("The subscription was canceled", "The end date is shown below."),
        "resume" => ("The subscription was resumed", "It renews as before."),
        _ => return None,
    };
    Some(Notice::success(title, text))
}

fn not_found() -> Response {
    let page = Page::message(
        "Portal session not found",
        "The session has ended, or the sandbox was restarted. Open the portal again from the application.",
        "",
    );
    page.with_status(StatusCode::NOT_FOUND).into_response()
}

fn not_available(token: &str) -> Response {
    let page = Page::message(
        "This action is not available",
        "Nothing was changed. The subscription may have ended, or the portal does not offer this action.",
        &link(Some(&format!("/p/session/{token}")), "Back to the portal"),
    );
    page.with_status(StatusCode::BAD_REQUEST).into_response()
}
