//! `/v1/invoices`

use super::ApiResult;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::state::{State, text};

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.invoices.get(id).cloned().ok_or_else(|| StripeError::no_such("invoice", id))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let customer = form.text("customer")?;
    let subscription = form.text("subscription")?;
    let status = form.one_of("status", &["draft", "open", "paid", "uncollectible", "void"])?;
    form.finish()?;
    page.paginate("/v1/invoices", state.invoices.values(), |invoice| {
        let of_subscription = text(&invoice["parent"]["subscription_details"], "subscription");
        customer.as_ref().is_none_or(|customer| text(invoice, "customer") == customer)
            && subscription.as_ref().is_none_or(|subscription| of_subscription == subscription)
            && status.as_ref().is_none_or(|status| text(invoice, "status") == status)
    })
}

/// Does not change the invoice's subscription (<https://docs.stripe.com/api/invoices/void>).
pub(super) fn void(state: &mut State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    let invoice = state.invoices.get(id).ok_or_else(|| StripeError::no_such("invoice", id))?;
    if !matches!(text(invoice, "status"), "open" | "uncollectible") {
        return Err(StripeError::invalid("You can only pass in open or uncollectible invoices."));
    }
    Ok(state.void_invoice(id))
}
