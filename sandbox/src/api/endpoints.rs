//! `/v1/webhook_endpoints`

use serde_json::{Value, json};

use super::ApiResult;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::ids;
use crate::state::State;
use crate::state::endpoint::{Endpoint, EndpointFields};

pub(super) fn create(state: &mut State, mut form: Form) -> ApiResult {
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
    let mut created = state.create_endpoint(&fields, secret.clone());
    // The only response that contains the secret.
    created["secret"] = secret.into();
    Ok(created)
}

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    find(state, id).map(|endpoint| endpoint.object.clone())
}

pub(super) fn update(state: &mut State, id: &str, mut form: Form) -> ApiResult {
    let mut object = find(state, id)?.object.clone();
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
    if let Some(endpoint) = state.endpoints.get_mut(id) {
        endpoint.object = object.clone();
    }
    Ok(object)
}

pub(super) fn delete(state: &mut State, id: &str, form: Form) -> ApiResult {
    find(state, id)?;
    form.finish()?;
    state.delete_endpoint(id);
    Ok(json!({"id": id, "object": "webhook_endpoint", "deleted": true}))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    form.finish()?;
    page.paginate("/v1/webhook_endpoints", state.endpoints.values().map(|endpoint| &endpoint.object), |_| {
        true
    })
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a Endpoint, StripeError> {
    state.endpoints.get(id).ok_or_else(|| StripeError::no_such("webhook_endpoint", id))
}
