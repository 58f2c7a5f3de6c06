//! `/v1/invoices`

use super::Reply;
use super::error::StripeError;
use super::form::Form;
use crate::world::{World, text};

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    world.invoices.get(id).cloned().ok_or_else(|| StripeError::no_such("invoice", id))
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
