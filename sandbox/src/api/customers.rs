//! `/v1/customers`

use serde_json::{Map, Value};

use super::Reply;
use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use crate::world::World;
use crate::world::customer::CustomerFields;

pub(super) fn create(world: &mut World, mut form: Form) -> Reply {
    let fields = fields(&mut form, &Value::Null)?;
    form.finish()?;
    Ok(world.create_customer(fields))
}

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    world.customers.get(id).cloned().ok_or_else(|| StripeError::no_such("customer", id))
}

pub(super) fn update(world: &mut World, id: &str, mut form: Form) -> Reply {
    let customer = living(world, id)?;
    let fields = fields(&mut form, &customer["metadata"])?;
    form.finish()?;
    Ok(world.update_customer(id, fields))
}

pub(super) fn delete(world: &mut World, id: &str, form: Form) -> Reply {
    living(world, id)?;
    form.finish()?;
    Ok(world.delete_customer(id))
}

pub(super) fn list(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    let email = form.text("email")?;
    form.finish()?;
    page.cut("/v1/customers", world.customers.values(), |customer| {
        let email_matches = email.as_ref().is_none_or(|email| customer["email"] == **email);
        customer["deleted"] != true && email_matches
    })
}

fn living<'a>(world: &'a World, id: &str) -> Result<&'a Value, StripeError> {
    world.living_customer(id).ok_or_else(|| StripeError::no_such("customer", id))
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
