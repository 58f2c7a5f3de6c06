//! `/v1/prices`

use super::ApiResult;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::ids;
use crate::state::{State, catalog, text};

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.prices.get(id).cloned().ok_or_else(|| StripeError::no_such("price", id))
}

pub(super) fn create(state: &mut State, mut form: Form) -> ApiResult {
    let product = form.text("product")?;
    let product = form.required("product", product)?;
    let currency = form.text("currency")?;
    form.required("currency", currency)?;
    let amount = form.integer("unit_amount")?;
    let amount = form.required("unit_amount", amount)?;
    let recurring = form.hash("recurring", read_recurring)?;
    let (lookup_key, transfer) = (form.text("lookup_key")?, form.flag("transfer_lookup_key")?);
    form.finish()?;
    if !state.products.contains_key(&product) {
        return Err(StripeError::no_such_referenced("product", &product, "product"));
    }
    check_lookup_key(state, "", lookup_key.as_deref(), transfer)?;
    let (interval, meter) = recurring.unzip();
    let mut price =
        catalog::price(&ids::long("price"), &product, None, amount, interval.as_deref(), state.now());
    if let Some(meter) = meter.flatten() {
        price["recurring"]["usage_type"] = "metered".into();
        price["recurring"]["meter"] = meter.into();
    }
    Ok(state.create_price(&price, lookup_key.as_deref()))
}

/// Returns the interval, and the meter of a metered price, which is required since API version
/// basil
/// (<https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-legacy-usage-based-billing>).
fn read_recurring(recurring: &mut Form) -> Result<(String, Option<String>), StripeError> {
    let interval = recurring.one_of("interval", &["month", "year"])?;
    let interval = recurring.required("interval", interval)?;
    let usage_type = recurring.one_of("usage_type", &["licensed", "metered"])?;
    let meter = recurring.text("meter")?;
    if usage_type.as_deref() == Some("metered") {
        return Ok((interval, Some(recurring.required("meter", meter)?)));
    }
    match meter {
        None => Ok((interval, None)),
        Some(_) => Err(StripeError::invalid_param(
            recurring.name("meter"),
            "A meter requires `usage_type` to be `metered`.",
        )),
    }
}

pub(super) fn update(state: &mut State, id: &str, mut form: Form) -> ApiResult {
    let active = form.flag("active")?;
    let (lookup_key, transfer) = (form.clearable("lookup_key")?, form.flag("transfer_lookup_key")?);
    form.finish()?;
    if !state.prices.contains_key(id) {
        return Err(StripeError::no_such("price", id));
    }
    check_lookup_key(state, id, lookup_key.as_deref(), transfer)?;
    if let Some(lookup_key) = &lookup_key {
        state.set_lookup_key(id, Some(lookup_key.as_str()).filter(|key| !key.is_empty()));
    }
    Ok(state.edit_price(id, |price| {
        if let Some(active) = active {
            price["active"] = active.into();
        }
    }))
}

/// Fails if another price has the lookup key, unless `transfer_lookup_key` moves it
/// (<https://docs.stripe.com/api/prices/update#update_price-transfer_lookup_key>).
fn check_lookup_key(
    state: &State,
    id: &str,
    lookup_key: Option<&str>,
    transfer: Option<bool>,
) -> Result<(), StripeError> {
    let Some(lookup_key) = lookup_key.filter(|_| transfer != Some(true)) else { return Ok(()) };
    match state.price_with_key(lookup_key) {
        Some(holder) if holder != id => {
            let message = format!("A price (`{holder}`) already uses that lookup key.");
            Err(StripeError::invalid_param("lookup_key", message))
        }
        _ => Ok(()),
    }
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let lookup_keys = form.texts("lookup_keys")?;
    let active = form.flag("active")?;
    let product = form.text("product")?;
    let kind = form.one_of("type", &["one_time", "recurring"])?;
    form.finish()?;
    page.paginate("/v1/prices", state.prices.values(), |price| {
        let key_matches =
            lookup_keys.is_empty() || lookup_keys.iter().any(|key| price["lookup_key"] == **key);
        key_matches
            && active.is_none_or(|active| price["active"] == active)
            && product.as_ref().is_none_or(|product| text(price, "product") == product)
            && kind.as_ref().is_none_or(|kind| text(price, "type") == kind)
    })
}
