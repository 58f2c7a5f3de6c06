//! Truncation of lists inside objects.

use serde_json::{Map, Value};

/// The length of a list inside an object: the default page size
/// (<https://docs.stripe.com/api/pagination>). Longer lists in events and responses have the first
/// entries and `has_more`.
const MAX_ENTRIES: usize = 10;

/// Truncates the lists inside an object at any depth.
pub(crate) fn truncated(object: &Value) -> Value {
    match object {
        Value::Object(fields) => Value::Object(fields.iter().map(truncated_field).collect()),
        Value::Array(values) => values.iter().map(truncated).collect(),
        other => other.clone(),
    }
}

/// Truncates the lists inside the objects of a page, but not the page itself.
pub(crate) fn truncated_page(page: &Value) -> Value {
    let mut page = page.clone();
    for object in page["data"].as_array_mut().into_iter().flatten() {
        *object = truncated(object);
    }
    page
}

fn truncated_field((name, value): (&String, &Value)) -> (String, Value) {
    let mut value = truncated(value);
    if value["object"] == "list"
        && let Some(entries) = value["data"].as_array_mut().filter(|entries| entries.len() > MAX_ENTRIES)
    {
        entries.truncate(MAX_ENTRIES);
        value["has_more"] = true.into();
    }
    (name.clone(), value)
}

/// Truncates the lists in `previous_attributes`, where a list has no `object` field.
pub(crate) fn truncated_previous(previous: &Map<String, Value>) -> Map<String, Value> {
    let truncate = |(name, value): (&String, &Value)| {
        let mut value = value.clone();
        let entries = value.get_mut("data").and_then(Value::as_array_mut);
        if let Some(entries) = entries.filter(|entries| entries.len() > MAX_ENTRIES) {
            entries.truncate(MAX_ENTRIES);
        }
        (name.clone(), value)
    };
    previous.iter().map(truncate).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn list_in_object_has_ten_entries_and_has_more() {
        let list = |length: usize| json!({ "object": "list", "data": vec![1; length], "has_more": false });
        let object =
            truncated(&json!({ "items": list(11), "few": list(10), "inner": { "items": list(12) } }));
        assert_eq!(object["items"]["data"].as_array().map(Vec::len), Some(10));
        assert_eq!((&object["items"]["has_more"], &object["few"]["has_more"]), (&json!(true), &json!(false)));
        assert_eq!(object["inner"]["items"]["has_more"], true);
        let page =
            truncated_page(&json!({ "object": "list", "data": vec![json!({ "items": list(11) }); 11] }));
        assert_eq!(page["data"].as_array().map(Vec::len), Some(11));
        assert_eq!(page["data"][10]["items"]["has_more"], true);
    }
}
