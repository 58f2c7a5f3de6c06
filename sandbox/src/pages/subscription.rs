//! A subscription in the portal, with the forms that change it.

use serde_json::Value;

use super::html::{Button, details, escape, form, section};
use crate::clock;
use crate::state::subscription::{is_final, is_set_to_cancel, items, period_end};
use crate::state::{State, catalog, text};

/// The actions that the portal offers for a subscription.
#[derive(Clone, Copy)]
pub(super) struct AllowedActions {
    pub(super) change_plan: bool,
    pub(super) update_card: bool,
    pub(super) cancel: Option<CancelMode>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelMode {
    AtPeriodEnd,
    Immediately,
}

/// The product names of the subscription.
pub(super) fn name(state: &State, subscription: &Value) -> String {
    let names: Vec<&str> =
        items(subscription).iter().map(|item| state.product_name(&item["price"])).collect();
    names.join(", ")
}

pub(super) fn show(state: &State, subscription: &Value, heading: &str, allowed: AllowedActions) -> String {
    let has_ended = is_final(subscription);
    let mut content = details(&rows(subscription));
    if !has_ended && allowed.change_plan {
        content.push_str(&plan_form(state, subscription));
    }
    if !has_ended && allowed.update_card {
        content.push_str(&card_form(subscription));
    }
    if let Some(mode) = allowed.cancel.filter(|_| !has_ended) {
        content.push_str(&cancel_form(subscription, mode));
    }
    section(text(subscription, "id"), heading, &content)
}

fn rows(subscription: &Value) -> Vec<(&'static str, String)> {
    let prices: Vec<String> = items(subscription).iter().map(item_price).collect();
    let mut rows = vec![("Price", prices.join(", ")), ("Status", text(subscription, "status").to_owned())];
    let date = |seconds: Option<i64>| seconds.map(clock::format_date).unwrap_or_default();
    rows.push(if is_final(subscription) {
        ("Ended on", date(subscription["ended_at"].as_i64()))
    } else if is_set_to_cancel(subscription) {
        ("Ends on", date(subscription["cancel_at"].as_i64()))
    } else if text(subscription, "status") == "trialing" {
        ("Trial ends on", date(period_end(subscription)))
    } else {
        ("Renews on", date(period_end(subscription)))
    });
    rows
}

fn item_price(item: &Value) -> String {
    let price = catalog::price_label(&item["price"]);
    match item["quantity"].as_i64() {
        None | Some(1) => price,
        Some(quantity) => format!("{quantity} × {price}"),
    }
}

/// Offers all recurring prices except the current one.
fn plan_form(state: &State, subscription: &Value) -> String {
    let id = escape(text(subscription, "id"));
    let current = items(subscription).first().map_or("", |item| text(&item["price"], "id"));
    let others =
        state.prices.values().filter(|price| catalog::is_recurring(price) && text(price, "id") != current);
    let options: String = others.map(|price| option(state, price)).collect();
    let fields = format!(
        "{}<div class=\"field\">\n<label for=\"{id}-plan\">New plan</label>\n\
         <select id=\"{id}-plan\" name=\"price\" aria-describedby=\"{id}\">\n{options}</select>\n</div>\n",
        hidden_id(subscription)
    );
    form(&fields, &Button::plain("change_plan", "Change plan").described_by(&id))
}

fn option(state: &State, price: &Value) -> String {
    let (id, offer) = (escape(text(price, "id")), escape(&state.offer_label(price)));
    format!("<option value=\"{id}\">{offer}</option>\n")
}

/// Replaces the card of this subscription only.
fn card_form(subscription: &Value) -> String {
    let button = Button::plain("update_subscription_card", "Update payment method");
    form(&hidden_id(subscription), &button.described_by(text(subscription, "id")))
}

/// Cancels the subscription, or resumes it if it is set to cancel.
fn cancel_form(subscription: &Value, mode: CancelMode) -> String {
    let id = text(subscription, "id");
    if is_set_to_cancel(subscription) {
        return form(
            &hidden_id(subscription),
            &Button::primary("resume", "Resume subscription").described_by(id),
        );
    }
    let effect = match period_end(subscription).filter(|_| mode == CancelMode::AtPeriodEnd) {
        Some(end) => {
            format!("If you cancel, it ends on {}. You can resume it until then.", clock::format_date(end))
        }
        None => "If you cancel, it ends immediately.".to_owned(),
    };
    let fields = format!(
        "{}<p class=\"small\" id=\"{}-end\">{}</p>\n",
        hidden_id(subscription),
        escape(id),
        escape(&effect)
    );
    let described_by = format!("{id} {id}-end");
    form(&fields, &Button::plain("cancel", "Cancel subscription").described_by(&described_by))
}

fn hidden_id(subscription: &Value) -> String {
    format!("<input type=\"hidden\" name=\"subscription\" value=\"{}\">\n", escape(text(subscription, "id")))
}
