//! Lists inside objects.

use serde_json::{Map, Value};

/// How many entries a list inside an object shows: as many as a page that is asked for without a limit
/// (<https://docs.stripe.com/api/pagination>). Events and answers alike show the first of them, and `has_more`.
const SHOWN: usize = 10;

/// The object as events and answers show it: its lists are cut, however deep they are.
pub(crate) fn shown(object: &Value) -> Value {
    match object {
        Value::Object(fields) => Value::Object(fields.iter().map(shown_field).collect()),
        Value::Array(values) => values.iter().map(shown).collect(),
        other => other.clone(),
    }
}

/// A page of objects as an answer shows it: the page is as long as it was asked for, and the lists of its objects are cut.
pub(crate) fn shown_page(page: &Value) -> Value {
    let mut shown_page = page.clone();
    if let Some(objects) = shown_page["data"].as_array_mut() {
        for object in objects {
            *object = shown(object);
        }
    }
    shown_page
}

fn shown_field((name, value): (&String, &Value)) -> (String, Value) {
    let mut value = shown(value);
    if value["object"] == "list"
        && let Some(entries) = value["data"].as_array_mut().filter(|entries| entries.len() > SHOWN)
    {
        entries.truncate(SHOWN);
        value["has_more"] = true.into();
    }
    (name.clone(), value)
}

/// What an update replaced, as its event shows it. A list that was replaced is there without its type.
pub(crate) fn shown_previous(previous: &Map<String, Value>) -> Map<String, Value> {
    let cut = |(name, value): (&String, &Value)| {
        let mut value = value.clone();
        let entries = value.get_mut("data").and_then(Value::as_array_mut);
        if let Some(entries) = entries.filter(|entries| entries.len() > SHOWN) {
            entries.truncate(SHOWN);
        }
        (name.clone(), value)
    };
    previous.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn list_in_an_object_shows_ten_and_says_that_there_are_more() {
        let list = |length: usize| json!({ "object": "list", "data": vec![1; length], "has_more": false });
        let object = shown(&json!({ "items": list(11), "few": list(10), "inner": { "items": list(12) } }));
        assert_eq!(object["items"]["data"].as_array().map(Vec::len), Some(10));
        assert_eq!((&object["items"]["has_more"], &object["few"]["has_more"]), (&json!(true), &json!(false)));
        assert_eq!(object["inner"]["items"]["has_more"], true);
        let page = shown_page(&json!({ "object": "list", "data": vec![json!({ "items": list(11) }); 11] }));
        assert_eq!(page["data"].as_array().map(Vec::len), Some(11));
        assert_eq!(page["data"][10]["items"]["has_more"], true);
    }
}
