//! The page of an invoice, on which whoever has its address can pay it.

use std::sync::Arc;

use poem::http::{StatusCode, Uri};
use poem::web::{Data, Form};
use poem::{Response, handler};
use serde::Deserialize;
use serde_json::Value;

use super::html::{Button, Notice, Page, facts, form, section, see_other};
use crate::double::Double;
use crate::world::{Cause, World, catalog, text};

#[derive(Deserialize)]
struct Pressed {
    action: String,
}

/// The page of an invoice.
#[handler]
pub(super) fn show(uri: &Uri, Data(double): Data<&Arc<Double>>) -> Response {
    page(&double.world(Cause::default()), uri.path()).answer()
}

/// One of its buttons. It is paid with the card that is entered there, which no other invoice is charged to.
#[handler]
pub(super) fn act(uri: &Uri, Form(pressed): Form<Pressed>, Data(double): Data<&Arc<Double>>) -> Response {
    let mut world = double.world(Cause::default());
    let Some(invoice) = world.invoice_at(uri.path()).filter(|invoice| is_open(invoice)) else {
        return page(&world, uri.path()).answer();
    };
    let id = text(invoice, "id").to_owned();
    match pressed.action.as_str() {
        "pay" => {
            world.pay_invoice(&id);
            see_other(uri.path())
        }
        _ => page(&world, uri.path()).after(Some(declined())).answer(),
    }
}

fn is_open(invoice: &Value) -> bool {
    text(invoice, "status") == "open"
}

fn declined() -> Notice {
    Notice::problem("The card was declined", "Nothing was charged. You can try again.")
}

fn page(world: &World, path: &str) -> Page {
    let Some(invoice) = world.invoice_at(path) else {
        let page = Page::message(
            "There is no such invoice",
            "The sandbox forgets everything when it stops. Open the invoice again in the application.",
            "",
        );
        return page.with_status(StatusCode::NOT_FOUND);
    };
    let known = facts(&[
        ("Number", text(invoice, "number").to_owned()),
        ("Amount due", catalog::dollars(invoice["amount_due"].as_i64().unwrap_or_default())),
        ("Status", text(invoice, "status").to_owned()),
        ("Customer", world.customer_words(text(invoice, "customer"))),
    ]);
    let buttons = if is_open(invoice) {
        let pay = form("", &Button::primary("pay", "Pay"));
        let decline = form("", &Button::plain("decline", "Pay with a card that is declined"));
        format!("<div class=\"actions\">\n{pay}{decline}</div>\n")
    } else {
        String::new()
    };
    Page::new("Invoice", section("invoice", "What is owed", &format!("{known}{buttons}")))
}
