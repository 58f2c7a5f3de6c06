//! `/v1/invoices`

use super::Reply;
use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use crate::world::{World, text};

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    world.invoices.get(id).cloned().ok_or_else(|| StripeError::no_such("invoice", id))
}

pub(super) fn list(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    let customer = form.text("customer")?;
    let subscription = form.text("subscription")?;
    let status = form.one_of("status", &["draft", "open", "paid", "uncollectible", "void"])?;
    form.finish()?;
    page.cut("/v1/invoices", world.invoices.values(), |invoice| {
        let of_subscription = text(&invoice["parent"]["subscription_details"], "subscription");
        customer.as_ref().is_none_or(|customer| text(invoice, "customer") == customer)
            && subscription.as_ref().is_none_or(|subscription| of_subscription == subscription)
            && status.as_ref().is_none_or(|status| text(invoice, "status") == status)
    })
}

/// Voids an open invoice. Its subscription stays as it is
/// (<https://docs.stripe.com/api/invoices/void>).
pub(super) fn void(world: &mut World, id: &str, form: Form) -> Reply {
    form.finish()?;
    let invoice = world.invoices.get(id).ok_or_else(|| StripeError::no_such("invoice", id))?;
    if !matches!(text(invoice, "status"), "open" | "uncollectible") {
        return Err(StripeError::invalid("You can only pass in open or uncollectible invoices."));
    }
    Ok(world.void_invoice(id))
}
