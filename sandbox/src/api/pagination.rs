//! Pagination of lists, newest first, by `limit`, `starting_after` and `ending_before`.

use serde_json::{Value, json};

use super::ApiResult;
use super::error::StripeError;
use super::form::Form;
use crate::state::text;

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: i64 = 100;

pub(crate) struct Pagination {
    limit: usize,
    starting_after: Option<String>,
    ending_before: Option<String>,
}

impl Pagination {
    pub(crate) fn read(form: &mut Form) -> Result<Pagination, StripeError> {
        let limit = match form.integer("limit")? {
            None => DEFAULT_LIMIT,
            Some(limit @ 1..=MAX_LIMIT) => usize::try_from(limit).unwrap_or(DEFAULT_LIMIT),
            Some(_) => {
                let message = format!("Invalid limit: must be from 1 to {MAX_LIMIT}");
                return Err(StripeError::invalid_param("limit", message));
            }
        };
        let page = Pagination {
            limit,
            starting_after: form.text("starting_after")?,
            ending_before: form.text("ending_before")?,
        };
        if page.starting_after.is_some() && page.ending_before.is_some() {
            let message = "Give either starting_after or ending_before, not both.";
            return Err(StripeError::invalid_param("starting_after", message));
        }
        Ok(page)
    }

    /// Returns the requested page of the objects that match. The object of `starting_after` or
    /// `ending_before` must exist but need not match.
    pub(crate) fn paginate<'a>(
        &self,
        url: &str,
        oldest_first: impl DoubleEndedIterator<Item = &'a Value>,
        matches: impl Fn(&Value) -> bool,
    ) -> ApiResult {
        let all: Vec<&Value> = oldest_first.rev().collect();
        let (from, to) = self.bounds(&all)?;
        let found: Vec<&Value> = all[from..to].iter().copied().filter(|object| matches(object)).collect();
        let has_more = found.len() > self.limit;
        let page: Vec<&Value> = if self.ending_before.is_some() {
            found[found.len().saturating_sub(self.limit)..].to_vec()
        } else {
            found.into_iter().take(self.limit).collect()
        };
        Ok(json!({"object": "list", "data": page, "has_more": has_more, "url": url}))
    }

    fn bounds(&self, all: &[&Value]) -> Result<(usize, usize), StripeError> {
        let position = |id: &str, param: &str| {
            let kind = all.first().map_or("object", |object| text(object, "object"));
            let found = all.iter().position(|object| text(object, "id") == id);
            found.ok_or_else(|| StripeError::no_such_referenced(kind, id, param))
        };
        let from = match &self.starting_after {
            Some(id) => position(id, "starting_after")? + 1,
            None => 0,
        };
        let to = match &self.ending_before {
            Some(id) => position(id, "ending_before")?,
            None => all.len(),
        };
        Ok((from, to))
    }
}
