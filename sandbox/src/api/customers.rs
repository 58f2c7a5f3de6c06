//! `/v1/customers`

use serde_json::{Map, Value};

use super::ApiResult;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::state::State;
use crate::state::customer::CustomerFields;

pub(super) fn create(state: &mut State, mut form: Form) -> ApiResult {
    let fields = fields(&mut form, &Value::Null)?;
    form.finish()?;
    Ok(state.create_customer(fields))
}

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.customers.get(id).cloned().ok_or_else(|| StripeError::no_such("customer", id))
}

pub(super) fn update(state: &mut State, id: &str, mut form: Form) -> ApiResult {
    let customer = existing(state, id)?;
    let fields = fields(&mut form, &customer["metadata"])?;
    form.finish()?;
    Ok(state.update_customer(id, fields))
}

pub(super) fn delete(state: &mut State, id: &str, form: Form) -> ApiResult {
    existing(state, id)?;
    form.finish()?;
    Ok(state.delete_customer(id))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let email = form.text("email")?;
    form.finish()?;
    page.paginate("/v1/customers", state.customers.values(), |customer| {
        let email_matches = email.as_ref().is_none_or(|email| customer["email"] == **email);
        customer["deleted"] != true && email_matches
    })
}

fn existing<'a>(state: &'a State, id: &str) -> Result<&'a Value, StripeError> {
    state.existing_customer(id).ok_or_else(|| StripeError::no_such("customer", id))
}

fn fields(form: &mut Form, metadata_before: &Value) -> Result<CustomerFields, StripeError> {
    let mut texts = Map::new();
    for name in ["email", "name", "description", "phone"] {
        if let Some(text) = form.clearable(name)? {
            let value = if text.is_empty() { Value::Null } else { text.into() };
            texts.insert(name.to_owned(), value);
        }
    }
    Ok(CustomerFields { texts, metadata: form.metadata(metadata_before)? })
}
