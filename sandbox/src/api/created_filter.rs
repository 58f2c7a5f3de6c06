use serde_json::Value;

use super::error::StripeError;
use super::form::Form;

/// The parameter `created` of list calls.
#[derive(Default)]
pub(super) struct CreatedFilter {
    exactly: Option<i64>,
    gt: Option<i64>,
    gte: Option<i64>,
    lt: Option<i64>,
    lte: Option<i64>,
}

impl CreatedFilter {
    /// Accepts a single second or a hash of bounds.
    pub(super) fn read(form: &mut Form) -> Result<CreatedFilter, StripeError> {
        if form.is_text("created") {
            return Ok(CreatedFilter { exactly: form.integer("created")?, ..CreatedFilter::default() });
        }
        let bounds = form.hash("created", |bounds| {
            Ok(CreatedFilter {
                exactly: None,
                gt: bounds.integer("gt")?,
                gte: bounds.integer("gte")?,
                lt: bounds.integer("lt")?,
                lte: bounds.integer("lte")?,
            })
        })?;
        Ok(bounds.unwrap_or_default())
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let created = object["created"].as_i64().unwrap_or_default();
        self.exactly.is_none_or(|exactly| created == exactly)
            && self.gt.is_none_or(|gt| created > gt)
            && self.gte.is_none_or(|gte| created >= gte)
            && self.lt.is_none_or(|lt| created < lt)
            && self.lte.is_none_or(|lte| created <= lte)
    }
}
