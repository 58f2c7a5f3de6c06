//! `/v1/webhook_endpoints`

use serde_json::{Value, json};

use super::Reply;
use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use crate::ids;
use crate::world::World;
use crate::world::endpoint::{Endpoint, EndpointFields};

pub(super) fn create(world: &mut World, mut form: Form) -> Reply {
    let url = form.url("url")?;
    let enabled_events = form.texts("enabled_events")?;
    let fields = EndpointFields {
        url: form.required("url", url)?,
        enabled_events: form
            .required("enabled_events", Some(enabled_events).filter(|events| !events.is_empty()))?,
        api_version: form.text("api_version")?,
        description: form.text("description")?,
        metadata: form.metadata(&Value::Null)?.unwrap_or_default(),
    };
    form.finish()?;
    let secret = format!("whsec_{}", ids::random(32));
    let mut created = world.create_endpoint(&fields, secret.clone());
    // The only time that anybody sees it.
    created["secret"] = secret.into();
    Ok(created)
}

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    find(world, id).map(|endpoint| endpoint.object.clone())
}

pub(super) fn update(world: &mut World, id: &str, mut form: Form) -> Reply {
    let mut object = find(world, id)?.object.clone();
    if let Some(url) = form.url("url")? {
        object["url"] = url.into();
    }
    let enabled_events = form.texts("enabled_events")?;
    if !enabled_events.is_empty() {
        object["enabled_events"] = enabled_events.into();
    }
    if let Some(description) = form.clearable("description")? {
        object["description"] = description.into();
    }
    if let Some(disabled) = form.flag("disabled")? {
        object["status"] = if disabled { "disabled" } else { "enabled" }.into();
    }
    if let Some(metadata) = form.metadata(&object["metadata"])? {
        object["metadata"] = metadata.into();
    }
    form.finish()?;
    if let Some(endpoint) = world.endpoints.get_mut(id) {
        endpoint.object = object.clone();
    }
    Ok(object)
}

pub(super) fn delete(world: &mut World, id: &str, form: Form) -> Reply {
    find(world, id)?;
    form.finish()?;
    world.delete_endpoint(id);
    Ok(json!({"id": id, "object": "webhook_endpoint", "deleted": true}))
}

pub(super) fn list(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    form.finish()?;
    page.cut("/v1/webhook_endpoints", world.endpoints.values().map(|endpoint| &endpoint.object), |_| true)
}

fn find<'a>(world: &'a World, id: &str) -> Result<&'a Endpoint, StripeError> {
    world.endpoints.get(id).ok_or_else(|| StripeError::no_such("webhook_endpoint", id))
}
