//! `/v1/prices`

use super::Reply;
use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use crate::world::{World, text};

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    world.prices.get(id).cloned().ok_or_else(|| StripeError::no_such("price", id))
}

pub(super) fn update(world: &mut World, id: &str, mut form: Form) -> Reply {
    let active = form.flag("active")?;
    form.finish()?;
    let price = world.prices.get_mut(id).ok_or_else(|| StripeError::no_such("price", id))?;
    if let Some(active) = active {
        price["active"] = active.into();
    }
    Ok(price.clone())
}

pub(super) fn list(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    let lookup_keys = form.texts("lookup_keys")?;
    let active = form.flag("active")?;
    let product = form.text("product")?;
    let kind = form.one_of("type", &["one_time", "recurring"])?;
    form.finish()?;
    page.cut("/v1/prices", world.prices.values(), |price| {
        let key_matches =
            lookup_keys.is_empty() || lookup_keys.iter().any(|key| price["lookup_key"] == **key);
        key_matches
            && active.is_none_or(|active| price["active"] == active)
            && product.as_ref().is_none_or(|product| text(price, "product") == product)
            && kind.as_ref().is_none_or(|kind| text(price, "type") == kind)
    })
}
