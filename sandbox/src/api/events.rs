//! `/v1/events`

use serde_json::Value;

use super::ApiResult;
use super::created_filter::CreatedFilter;
use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use crate::state::{State, text};

const MAX_TYPES: usize = 20;

pub(super) fn retrieve(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.retained_event(id).cloned().ok_or_else(|| StripeError::no_such("event", id))
}

pub(super) fn list(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let filter = EventFilter::read(&mut form)?;
    form.finish()?;
    page.paginate("/v1/events", state.listed_events().into_iter(), |event| filter.matches(event))
}

struct EventFilter {
    types: Vec<String>,
    created: CreatedFilter,
    delivered: Option<bool>,
}

impl EventFilter {
    fn read(form: &mut Form) -> Result<EventFilter, StripeError> {
        Ok(EventFilter {
            types: read_types(form)?,
            created: CreatedFilter::read(form)?,
            delivered: form.flag("delivery_success")?,
        })
    }

    fn matches(&self, event: &Value) -> bool {
        let kind = text(event, "type");
        let is_delivered = event["pending_webhooks"] == 0;
        (self.types.is_empty() || self.types.iter().any(|pattern| matches_type(pattern, kind)))
            && self.created.matches(event)
            && self.delivered.is_none_or(|delivered| delivered == is_delivered)
    }
}

/// A pattern like `customer.*` matches every type with that prefix.
fn matches_type(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |prefix| kind.starts_with(prefix))
}

fn read_types(form: &mut Form) -> Result<Vec<String>, StripeError> {
    let mut types = form.texts("types")?;
    let single = form.text("type")?;
    if single.is_some() && !types.is_empty() {
        return Err(StripeError::invalid_param(
            "types",
            "You may only specify one of these parameters: type, types.",
        ));
    }
    types.extend(single);
    if types.len() > MAX_TYPES {
        return Err(StripeError::invalid_param("types", format!("Give at most {MAX_TYPES} types.")));
    }
    Ok(types)
}
