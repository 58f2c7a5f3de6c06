//! `/v1/subscriptions`

use serde_json::{Value, json};

use super::ApiResult;
use super::created_filter::CreatedFilter;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::state::subscription::{self, is_final, items};
use crate::state::{State, catalog, text};

const STATUSES: &[&str] = &[
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
];

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.subscriptions.get(id).cloned().ok_or_else(|| StripeError::no_such("subscription", id))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let customer = form.text("customer")?;
    let price = form.text("price")?;
    let created = CreatedFilter::read(&mut form)?;
    let status = form.one_of("status", STATUSES)?;
    form.finish()?;
    // The ended subscriptions of a deleted customer are still listed.
    if let Some(customer) = customer.as_ref().filter(|customer| !state.customers.contains_key(*customer)) {
        return Err(StripeError::no_such_referenced("customer", customer, "customer"));
    }
    page.paginate("/v1/subscriptions", state.subscriptions.values(), |subscription| {
        customer.as_ref().is_none_or(|customer| text(subscription, "customer") == customer)
            && price.as_ref().is_none_or(|price| {
                items(subscription).iter().any(|item| text(&item["price"], "id") == price)
            })
            && has_status(subscription, status.as_deref())
            && created.matches(subscription)
    })
}

/// `/v1/subscription_items`, in the same order as in the subscription.
pub(super) fn list_items(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let id = form.text("subscription")?;
    let id = form.required("subscription", id)?;
    form.finish()?;
    let subscription = state.subscriptions.get(&id);
    let subscription =
        subscription.ok_or_else(|| StripeError::no_such_referenced("subscription", &id, "subscription"))?;
    page.paginate("/v1/subscription_items", items(subscription).iter().rev(), |_| true)
}

pub(super) fn cancel(state: &mut State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    let subscription = state.subscriptions.get(id).filter(|subscription| !is_final(subscription));
    subscription.ok_or_else(|| StripeError::no_such("subscription", id))?;
    Ok(state.cancel_subscription(id))
}

pub(super) fn update(state: &mut State, id: &str, mut form: Form) -> ApiResult {
    let before = state.subscriptions.get(id).ok_or_else(|| StripeError::no_such("subscription", id))?;
    let mut after = before.clone();
    let changed = [
        read_items(state, &mut form, &mut after)?,
        read_cancellation(&mut form, &mut after, state.now())?,
        read_pause(&mut form, &mut after)?,
    ];
    if let Some(metadata) = form.metadata(&before["metadata"])? {
        after["metadata"] = metadata.into();
    }
    form.finish()?;
    if is_final(before) && changed.contains(&true) {
        let message = "A canceled subscription can only update its cancellation_details and metadata.";
        return Err(StripeError::invalid(message));
    }
    Ok(state.edit_subscription(id, |subscription| *subscription = after))
}

fn has_status(subscription: &Value, status: Option<&str>) -> bool {
    match status {
        None => !is_final(subscription),
        Some("all") => true,
        Some("ended") => is_final(subscription),
        Some(status) => text(subscription, "status") == status,
    }
}

/// Applies `cancel_at` and `cancel_at_period_end`. Returns whether the call has one of them.
fn read_cancellation(form: &mut Form, subscription: &mut Value, now: i64) -> Result<bool, StripeError> {
    let at_period_end = form.flag("cancel_at_period_end")?;
    let at = form.clearable("cancel_at")?;
    if at_period_end == Some(true) && at.as_ref().is_some_and(|at| !at.is_empty()) {
        let message = "Give either cancel_at or cancel_at_period_end, not both.";
        return Err(StripeError::invalid_param("cancel_at", message));
    }
    match (at_period_end, at.as_deref()) {
        (None, None) => return Ok(false),
        (Some(true), _) => subscription::cancel_at_period_end(subscription, now),
        (_, Some("min_period_end")) => {
            subscription::schedule_cancel(subscription, subscription::period_end(subscription), now);
        }
        (_, Some("max_period_end")) => {
            subscription::schedule_cancel(subscription, subscription::last_period_end(subscription), now);
        }
        (_, Some(at)) if !at.is_empty() => {
            subscription::schedule_cancel(subscription, Some(timestamp(at, now)?), now);
        }
        _ => subscription::schedule_cancel(subscription, None, now),
    }
    Ok(true)
}

fn timestamp(text: &str, now: i64) -> Result<i64, StripeError> {
    let at: i64 = text
        .parse()
        .map_err(|_| StripeError::invalid_param("cancel_at", format!("Invalid timestamp: {text}")))?;
    if at <= now {
        return Err(StripeError::invalid_param("cancel_at", "The timestamp must be in the future."));
    }
    Ok(at)
}

fn read_pause(form: &mut Form, subscription: &mut Value) -> Result<bool, StripeError> {
    let behaviors = &["keep_as_draft", "mark_uncollectible", "void"];
    // An empty value ends the pause, and a hash starts one.
    if form.is_cleared("pause_collection") {
        subscription["pause_collection"] = Value::Null;
        return Ok(true);
    }
    let pause = form.hash("pause_collection", |pause| {
        let behavior = pause.one_of("behavior", behaviors)?;
        Ok(json!({
            "behavior": pause.required("behavior", behavior)?,
            "resumes_at": pause.integer("resumes_at")?,
        }))
    })?;
    let is_changed = pause.is_some();
    if let Some(pause) = pause {
        subscription["pause_collection"] = pause;
    }
    Ok(is_changed)
}

fn read_items(state: &State, form: &mut Form, subscription: &mut Value) -> Result<bool, StripeError> {
    let changes = form.hashes("items", |item| {
        let price = item.text("price")?;
        let price = price.map(|id| recurring_price(state, &id, item.name("price"))).transpose()?;
        Ok(ItemChange {
            id_param: item.name("id"),
            quantity_param: item.name("quantity"),
            id: item.text("id")?,
            price,
            quantity: item.integer("quantity")?,
        })
    })?;
    let is_changed = !changes.is_empty();
    for change in changes {
        change.apply(subscription, state.now())?;
    }
    Ok(is_changed)
}

fn recurring_price<'a>(state: &'a State, id: &str, param: String) -> Result<&'a Value, StripeError> {
    let price = state.prices.get(id).filter(|price| catalog::is_recurring(price));
    price.ok_or_else(|| StripeError::no_such_referenced("price", id, param))
}

struct ItemChange<'a> {
    /// The full parameter names for error messages.
    id_param: String,
    quantity_param: String,
    id: Option<String>,
    price: Option<&'a Value>,
    quantity: Option<i64>,
}

impl ItemChange<'_> {
    fn apply(self, subscription: &mut Value, now: i64) -> Result<(), StripeError> {
        match self.id.clone() {
            Some(id) => self.change(&id, subscription),
            None => self.add(subscription, now),
        }
    }

    fn change(self, id: &str, subscription: &mut Value) -> Result<(), StripeError> {
        let items = subscription["items"]["data"].as_array_mut().into_iter().flatten();
        let Some(item) = items.into_iter().find(|item| text(item, "id") == id) else {
            return Err(StripeError::no_such_referenced("subscription_item", id, self.id_param));
        };
        if let Some(price) = self.price {
            subscription::set_price(item, price);
        }
        if let Some(quantity) = self.quantity {
            if catalog::is_metered(&item["price"]) {
                return Err(StripeError::metered_quantity(self.quantity_param));
            }
            item["quantity"] = quantity.into();
        }
        Ok(())
    }

    fn add(self, subscription: &mut Value, now: i64) -> Result<(), StripeError> {
        let Some(price) = self.price else { return Err(StripeError::missing_parameter(self.id_param)) };
        let period = (now, catalog::period_end(price, now));
        let quantity = match (catalog::is_metered(price), self.quantity) {
            (true, Some(_)) => return Err(StripeError::metered_quantity(self.quantity_param)),
            (true, None) => None,
            (false, quantity) => quantity.or(Some(1)),
        };
        let item = subscription::item(text(subscription, "id"), price, quantity, period);
        let total = items(subscription).len() + 1;
        if let Some(items) = subscription["items"]["data"].as_array_mut() {
            items.push(item);
        }
        subscription["items"]["total_count"] = total.into();
        Ok(())
    }
}
