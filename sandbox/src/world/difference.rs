//! What an update changed: the `previous_attributes` of a `*.updated` event.

use serde_json::{Map, Value};

/// The old values of everything that differs. Hashes are compared field by field, lists come whole, a field that was
/// not there before is null.
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
    fn only_what_differs_is_told_and_lists_come_whole() {
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
