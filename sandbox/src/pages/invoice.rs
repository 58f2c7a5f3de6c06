//! The invoice page. Anyone with its URL can pay the invoice there.

use std::sync::Arc;

use poem::http::{StatusCode, Uri};
use poem::web::{Data, Form};
use poem::{Response, handler};
use serde_json::Value;

use super::ActionForm;
use super::html::{Button, Notice, Page, details, form, section, see_other};
use crate::double::Double;
use crate::state::{Cause, State, catalog, text};

#[handler]
pub(super) fn show(uri: &Uri, Data(double): Data<&Arc<Double>>) -> Response {
    page(&double.state(Cause::default()), uri.path()).into_response()
}

/// Pays with a card for this invoice only: the cards of customer and subscription do not change.
#[handler]
pub(super) fn act(uri: &Uri, Form(form): Form<ActionForm>, Data(double): Data<&Arc<Double>>) -> Response {
    let mut state = double.state(Cause::default());
    let Some(invoice) = state.invoice_at(uri.path()).filter(|invoice| is_open(invoice)) else {
        return page(&state, uri.path()).into_response();
    };
    let id = text(invoice, "id").to_owned();
    match form.action.as_str() {
        "pay" => {
            state.pay_invoice(&id);
            see_other(uri.path())
        }
        _ => page(&state, uri.path()).with_notice(Some(Notice::card_declined())).into_response(),
    }
}

fn is_open(invoice: &Value) -> bool {
    text(invoice, "status") == "open"
}

fn page(state: &State, path: &str) -> Page {
    let Some(invoice) = state.invoice_at(path) else {
        let page = Page::message(
            "Invoice not found",
            "The sandbox loses all data when it stops. Open the invoice again from the application.",
            "",
        );
        return page.with_status(StatusCode::NOT_FOUND);
    };
    let rows = details(&[
        ("Number", text(invoice, "number").to_owned()),
        ("Amount due", catalog::dollars(invoice["amount_due"].as_i64().unwrap_or_default())),
        ("Status", text(invoice, "status").to_owned()),
        ("Customer", state.customer_label(text(invoice, "customer"))),
    ]);
    let buttons = if is_open(invoice) {
        let pay = form("", &Button::primary("pay", "Pay"));
        let decline = form("", &Button::plain("decline", "Pay with a declined card"));
        format!("<div class=\"actions\">\n{pay}{decline}</div>\n")
    } else {
        String::new()
    };
    Page::new("Invoice", section("invoice", "Invoice details", &format!("{rows}{buttons}")))
}
