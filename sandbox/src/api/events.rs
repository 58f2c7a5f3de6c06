//! `/v1/events`

use serde_json::Value;

use super::Reply;
use super::created::Created;
use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use crate::world::{World, text};

const MAX_TYPES: usize = 20;

pub(super) fn retrieve(world: &World, id: &str, form: Form) -> Reply {
    form.finish()?;
    world.kept_event(id).cloned().ok_or_else(|| StripeError::no_such("event", id))
}

pub(super) fn list(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    let wanted = Wanted::read(&mut form)?;
    form.finish()?;
    page.cut("/v1/events", world.listed_events().into_iter(), |event| wanted.has(event))
}

/// Which events are asked for.
struct Wanted {
    types: Vec<String>,
    created: Created,
    delivered: Option<bool>,
}

impl Wanted {
    fn read(form: &mut Form) -> Result<Wanted, StripeError> {
        Ok(Wanted {
            types: read_types(form)?,
            created: Created::read(form)?,
            delivered: form.flag("delivery_success")?,
        })
    }

    fn has(&self, event: &Value) -> bool {
        let kind = text(event, "type");
        let is_delivered = event["pending_webhooks"] == 0;
        (self.types.is_empty() || self.types.iter().any(|wanted| matches(wanted, kind)))
            && self.created.has(event)
            && self.delivered.is_none_or(|delivered| delivered == is_delivered)
    }
}

/// `customer.*` stands for all that begins so.
fn matches(wanted: &str, kind: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == kind, |prefix| kind.starts_with(prefix))
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
