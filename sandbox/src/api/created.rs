//! Lists by time.

use serde_json::Value;

use super::error::StripeError;
use super::form::Form;

/// When what is listed was made: the parameter `created` of all lists.
#[derive(Default)]
pub(super) struct Created {
    exactly: Option<i64>,
    gt: Option<i64>,
    gte: Option<i64>,
    lt: Option<i64>,
    lte: Option<i64>,
}

impl Created {
    /// Either a second or bounds.
    pub(super) fn read(form: &mut Form) -> Result<Created, StripeError> {
        if form.is_text("created") {
            return Ok(Created { exactly: form.integer("created")?, ..Created::default() });
        }
        let bounds = form.hash("created", |bounds| {
            Ok(Created {
                exactly: None,
                gt: bounds.integer("gt")?,
                gte: bounds.integer("gte")?,
                lt: bounds.integer("lt")?,
                lte: bounds.integer("lte")?,
            })
        })?;
        Ok(bounds.unwrap_or_default())
    }

    pub(super) fn has(&self, object: &Value) -> bool {
        let created = object["created"].as_i64().unwrap_or_default();
        self.exactly.is_none_or(|exactly| created == exactly)
            && self.gt.is_none_or(|gt| created > gt)
            && self.gte.is_none_or(|gte| created >= gte)
            && self.lt.is_none_or(|lt| created < lt)
            && self.lte.is_none_or(|lte| created <= lte)
    }
}
