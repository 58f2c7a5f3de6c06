//! Objects of JSON, and nothing that only looks like one to serde.

use serde::Deserialize;

/// Reads an object. An array of the same values in the same order is not one, though serde would take it.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    let is_object = json.trim_start().starts_with('{');
    is_object.then(|| serde_json::from_str(json).ok()).flatten()
}
