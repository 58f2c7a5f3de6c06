//! The `previous_attributes` of `*.updated` events.

use serde_json::{Map, Value};

/// The old values of all fields that differ. Hashes are compared field by field, lists are included
/// as a whole, and the old value of a new field is null.
pub(crate) fn previous_attributes(before: &Value, after: &Value) -> Map<String, Value> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Map::new() };
    let mut previous = Map::new();
    for (name, new) in after {
        let old = before.get(name).unwrap_or(&Value::Null);
        if old.is_object() && new.is_object() {
            let inner = previous_attributes(old, new);
            if !inner.is_empty() {
                previous.insert(name.clone(), inner.into());
            }
        } else if old != new {
            previous.insert(name.clone(), old.clone());
        }
    }
    for (name, old) in before {
        if !after.contains_key(name) {
            previous.insert(name.clone(), old.clone());
        }
    }
    previous
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn previous_attributes_have_changed_fields_and_whole_lists() {
        let before =
            json!({"same": 1, "status": "active", "items": {"object": "list", "data": [1, 2]}, "gone": 3});
        let after =
            json!({"same": 1, "status": "canceled", "items": {"object": "list", "data": [1]}, "new": 4});
        assert_eq!(
            Value::from(previous_attributes(&before, &after)),
            json!({"status": "active", "items": {"data": [1, 2]}, "gone": 3, "new": null})
        );
    }
}
