//! A subscription as its customer sees it in the portal, and the forms that change it.

use serde_json::Value;

use super::html::{Button, escape, facts, form, section};
use crate::clock;
use crate::world::subscription::{ends_by_itself, is_final, items, period_end};
use crate::world::{World, catalog, text};

/// What the portal's configuration lets customers do with their subscriptions.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) change_plan: bool,
    pub(super) update_card: bool,
    pub(super) cancel: Option<End>,
}

/// When what is canceled ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    WithPeriod,
    AtOnce,
}

/// The names of what it is for.
pub(super) fn name(world: &World, subscription: &Value) -> String {
    let names: Vec<&str> =
        items(subscription).iter().map(|item| world.product_name(&item["price"])).collect();
    names.join(", ")
}

/// The subscription under this heading, with a form for each thing that may be done.
pub(super) fn show(world: &World, subscription: &Value, heading: &str, allowed: Allowed) -> String {
    let is_living = !is_final(subscription);
    let mut content = facts(&known(subscription));
    if is_living && allowed.change_plan {
        content.push_str(&plan_form(world, subscription));
    }
    if is_living && allowed.update_card {
        content.push_str(&card_form(subscription));
    }
    if let Some(end) = allowed.cancel.filter(|_| is_living) {
        content.push_str(&end_form(subscription, end));
    }
    section(text(subscription, "id"), heading, &content)
}

fn known(subscription: &Value) -> Vec<(&'static str, String)> {
    let costs: Vec<String> = items(subscription).iter().map(cost).collect();
    let mut known = vec![("Price", costs.join(", ")), ("Status", text(subscription, "status").to_owned())];
    let date = |seconds: Option<i64>| seconds.map(clock::readable).unwrap_or_default();
    known.push(if is_final(subscription) {
        ("Ended on", date(subscription["ended_at"].as_i64()))
    } else if ends_by_itself(subscription) {
        ("Ends on", date(subscription["cancel_at"].as_i64()))
    } else if text(subscription, "status") == "trialing" {
        ("Trial ends on", date(period_end(subscription)))
    } else {
        ("Renews on", date(period_end(subscription)))
    });
    known
}

fn cost(item: &Value) -> String {
    let cost = catalog::cost(&item["price"]);
    match item["quantity"].as_i64() {
        None | Some(1) => cost,
        Some(quantity) => format!("{quantity} times {cost}"),
    }
}

/// The plans to change to: all but the present one.
fn plan_form(world: &World, subscription: &Value) -> String {
    let id = escape(text(subscription, "id"));
    let present = items(subscription).first().map_or("", |item| text(&item["price"], "id"));
    let others =
        world.prices.values().filter(|price| catalog::is_recurring(price) && text(price, "id") != present);
    let options: String = others.map(|price| option(world, price)).collect();
    let fields = format!(
        "{}<div class=\"field\">\n<label for=\"{id}-plan\">New plan</label>\n\
         <select id=\"{id}-plan\" name=\"price\" aria-describedby=\"{id}\">\n{options}</select>\n</div>\n",
        its_id(subscription)
    );
    form(&fields, &Button::plain("change_plan", "Change plan").described_by(&id))
}

fn option(world: &World, price: &Value) -> String {
    let (id, offer) = (escape(text(price, "id")), escape(&world.offer(price)));
    format!("<option value=\"{id}\">{offer}</option>\n")
}

/// Another card for this subscription alone.
fn card_form(subscription: &Value) -> String {
    let button = Button::plain("update_subscription_card", "Update payment method");
    form(&its_id(subscription), &button.described_by(text(subscription, "id")))
}

/// Ends it, or calls the end off.
fn end_form(subscription: &Value, end: End) -> String {
    let id = text(subscription, "id");
    if ends_by_itself(subscription) {
        return form(
            &its_id(subscription),
            &Button::primary("resume", "Resume subscription").described_by(id),
        );
    }
    let when = match period_end(subscription).filter(|_| end == End::WithPeriod) {
        Some(end) => {
            format!("If canceled, it ends on {}, and can be resumed until then.", clock::readable(end))
        }
        None => "If canceled, it ends at once.".to_owned(),
    };
    let fields = format!(
        "{}<p class=\"small\" id=\"{}-end\">{}</p>\n",
        its_id(subscription),
        escape(id),
        escape(&when)
    );
    let described_by = format!("{id} {id}-end");
    form(&fields, &Button::plain("cancel", "Cancel subscription").described_by(&described_by))
}

fn its_id(subscription: &Value) -> String {
    format!("<input type=\"hidden\" name=\"subscription\" value=\"{}\">\n", escape(text(subscription, "id")))
}
