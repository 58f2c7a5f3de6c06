//! `/v1/checkout/sessions`

use serde_json::Value;

use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use super::{ApiResult, locale};
use crate::state::checkout::{NewSession, visible};
use crate::state::{Metadata, State, catalog, text};

const MAX_CLIENT_REFERENCE_CHARACTERS: usize = 200;
const MAX_LINE_ITEMS: usize = 20;
const MAX_TRIAL_DAYS: i64 = 730;
const HOUR_SECONDS: i64 = 60 * 60;

pub(super) fn create(state: &mut State, mut form: Form) -> ApiResult {
    let new = read(state, &mut form)?;
    form.finish()?;
    Ok(state.create_session(&new))
}

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.sessions.get(id).map(visible).ok_or_else(|| StripeError::no_such("checkout.session", id))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let customer = form.text("customer")?;
    let subscription = form.text("subscription")?;
    form.finish()?;
    let sessions: Vec<Value> = state.sessions.values().map(visible).collect();
    page.paginate("/v1/checkout/sessions", sessions.iter(), |session| {
        customer.as_ref().is_none_or(|customer| text(session, "customer") == customer)
            && subscription.as_ref().is_none_or(|subscription| text(session, "subscription") == subscription)
    })
}

pub(super) fn expire(state: &mut State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    let session = state.sessions.get(id).ok_or_else(|| StripeError::no_such("checkout.session", id))?;
    let status = text(session, "status").to_owned();
    state.expire_session(id).map_err(|_| {
        StripeError::invalid(format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of {status}."
        ))
    })
}

fn read(state: &State, form: &mut Form) -> Result<NewSession, StripeError> {
    require_subscription_mode(form)?;
    let success_url = form.url("success_url")?;
    let (trial_days, subscription_metadata) =
        form.hash("subscription_data", subscription_data)?.unwrap_or_default();
    Ok(NewSession {
        customer: customer(state, form)?,
        client_reference_id: client_reference_id(form)?,
        metadata: form.metadata(&Value::Null)?.unwrap_or_default(),
        subscription_metadata,
        trial_days,
        items: line_items(state, form)?,
        success_url: form.required("success_url", success_url)?,
        cancel_url: form.url("cancel_url")?,
        locale: form.one_of("locale", locale::CHECKOUT)?,
        allow_promotion_codes: form.flag("allow_promotion_codes")?,
        expires_at: expires_at(form, state.now())?,
        payment_method_collection: form
            .one_of("payment_method_collection", &["always", "if_required"])?
            .unwrap_or_else(|| "always".to_owned()),
    })
}

fn require_subscription_mode(form: &mut Form) -> Result<(), StripeError> {
    match form.one_of("mode", &["payment", "setup", "subscription"])?.as_deref() {
        None => Err(StripeError::missing_parameter("mode")),
        Some("subscription") => Ok(()),
        Some(other) => {
            let message = format!("The sandbox supports only mode=subscription, not mode={other}.");
            Err(StripeError::invalid_param("mode", message))
        }
    }
}

fn customer(state: &State, form: &mut Form) -> Result<Option<String>, StripeError> {
    let Some(id) = form.text("customer")? else { return Ok(None) };
    if state.existing_customer(&id).is_none() {
        return Err(StripeError::no_such_referenced("customer", &id, "customer"));
    }
    Ok(Some(id))
}

fn client_reference_id(form: &mut Form) -> Result<Option<String>, StripeError> {
    let reference = form.text("client_reference_id")?;
    if reference.as_ref().is_some_and(|text| text.chars().count() > MAX_CLIENT_REFERENCE_CHARACTERS) {
        let message = format!("Invalid string: at most {MAX_CLIENT_REFERENCE_CHARACTERS} characters.");
        return Err(StripeError::invalid_param("client_reference_id", message));
    }
    Ok(reference)
}

fn subscription_data(form: &mut Form) -> Result<(Option<i64>, Metadata), StripeError> {
    let trial_days = form.integer("trial_period_days")?;
    if trial_days.is_some_and(|days| !(1..=MAX_TRIAL_DAYS).contains(&days)) {
        let message = format!("Invalid trial_period_days: must be from 1 to {MAX_TRIAL_DAYS}");
        return Err(StripeError::invalid_param(form.name("trial_period_days"), message));
    }
    Ok((trial_days, form.metadata(&Value::Null)?.unwrap_or_default()))
}

fn line_items(state: &State, form: &mut Form) -> Result<Vec<(String, Option<i64>)>, StripeError> {
    let items = form.hashes("line_items", |item| line_item(state, item))?;
    match items.len() {
        0 => Err(StripeError::missing_parameter("line_items")),
        1..=MAX_LINE_ITEMS => Ok(items),
        _ => {
            let message = format!("At most {MAX_LINE_ITEMS} line items with recurring prices.");
            Err(StripeError::invalid_param("line_items", message))
        }
    }
}

fn line_item(state: &State, item: &mut Form) -> Result<(String, Option<i64>), StripeError> {
    let id = item.text("price")?;
    let id = item.required("price", id)?;
    let at = item.name("price");
    let Some(price) = state.prices.get(&id) else {
        return Err(StripeError::no_such_referenced("price", &id, at));
    };
    if !catalog::is_recurring(price) {
        let message =
            "You must provide at least one recurring price in `subscription` mode when using prices.";
        return Err(StripeError::invalid_param("line_items", message));
    }
    let quantity = item.integer("quantity")?;
    if catalog::is_metered(price) {
        return match quantity {
            None => Ok((id, None)),
            Some(_) => Err(StripeError::metered_quantity(item.name("quantity"))),
        };
    }
    let quantity = item.required("quantity", quantity)?;
    if quantity < 1 {
        return Err(StripeError::invalid_param(
            item.name("quantity"),
            "Invalid quantity: must be at least 1",
        ));
    }
    Ok((id, Some(quantity)))
}

fn expires_at(form: &mut Form, now: i64) -> Result<i64, StripeError> {
    let Some(expires_at) = form.integer("expires_at")? else { return Ok(now + 24 * HOUR_SECONDS) };
    // The client computes the time before it is checked here, so the lower bound has a minute of
    // tolerance.
    if (now + HOUR_SECONDS / 2 - 60..=now + 24 * HOUR_SECONDS).contains(&expires_at) {
        return Ok(expires_at);
    }
    let message = "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from now.";
    Err(StripeError::invalid_param("expires_at", message))
}
