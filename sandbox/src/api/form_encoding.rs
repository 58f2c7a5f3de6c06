//! Decodes form bodies and query strings as Stripe does: `a[b]=1` is a hash, `a[0]=1` and `a[]=1`
//! are lists.

use serde_json::{Map, Value};

use super::error::StripeError;

/// Stripe's calls have only a few levels.
const MAX_DEPTH: usize = 12;

/// Returns the parameters as nested objects and arrays. All leaves are strings.
pub(crate) fn decode(encoded: &str) -> Result<Value, StripeError> {
    let mut root = Map::new();
    for (name, value) in form_urlencoded::parse(encoded.as_bytes()) {
        let path = segments(&name);
        if path.len() > MAX_DEPTH {
            return Err(StripeError::invalid_param(name, "Invalid hash"));
        }
        insert(&mut root, &path, value.into_owned())
            .map_err(|()| StripeError::invalid_param(name.as_ref(), "Invalid hash"))?;
    }
    Ok(with_lists(root.into(), false))
}

/// Splits `a[b][c]` into `a`, `b`, `c`. A name with unmatched brackets is not split.
fn segments(name: &str) -> Vec<&str> {
    let Some((head, rest)) = name.split_once('[') else { return vec![name] };
    let Some(inner) = rest.strip_suffix(']').filter(|_| !head.is_empty()) else { return vec![name] };
    std::iter::once(head).chain(inner.split("][")).collect()
}

fn insert(hash: &mut Map<String, Value>, path: &[&str], value: String) -> Result<(), ()> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    let key = if first.is_empty() { next_index(hash, rest) } else { (*first).to_owned() };
    if rest.is_empty() {
        hash.insert(key, value.into());
        return Ok(());
    }
    match hash.entry(key).or_insert_with(|| Map::new().into()) {
        Value::Object(inner) => insert(inner, rest, value),
        _ => Err(()),
    }
}

/// The index for `[]`. `a[][b]=1&a[][c]=2&a[][b]=3` are two hashes: a repeated name starts a new
/// one.
fn next_index(hash: &Map<String, Value>, rest: &[&str]) -> String {
    let last = hash.len().checked_sub(1).and_then(|last| hash.get(&last.to_string()));
    let continues_last = match (last.and_then(Value::as_object), rest.first()) {
        (Some(last), Some(name)) => !last.contains_key(*name),
        _ => false,
    };
    let index = if continues_last { hash.len().saturating_sub(1) } else { hash.len() };
    index.to_string()
}

/// Converts hashes with only numeric keys to lists. Metadata stays a hash: its keys are free text.
fn with_lists(value: Value, is_metadata: bool) -> Value {
    let Value::Object(hash) = value else { return value };
    let indices: Option<Vec<usize>> = hash.keys().map(|key| key.parse().ok()).collect();
    let mut entries: Vec<(String, Value)> = hash
        .into_iter()
        .map(|(name, value)| {
            let value = with_lists(value, name == "metadata");
            (name, value)
        })
        .collect();
    match indices {
        Some(indices) if !indices.is_empty() && !is_metadata => {
            entries.sort_by_key(|(name, _)| name.parse().unwrap_or(usize::MAX));
            entries.into_iter().map(|(_, value)| value).collect()
        }
        _ => Value::Object(entries.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(encoded: &str) -> Value {
        decode(encoded).expect("valid form")
    }

    #[test]
    fn nested_hashes_and_lists_are_decoded() {
        assert_eq!(
            decoded("a=1&b[c][d]=2&e[1][f]=4&e[0][f]=3&g[]=5&g[]=6"),
            json!({"a": "1", "b": {"c": {"d": "2"}}, "e": [{"f": "3"}, {"f": "4"}], "g": ["5", "6"]})
        );
    }

    #[test]
    fn repeated_name_in_list_of_hashes_starts_new_hash() {
        assert_eq!(decoded("a[][b]=1&a[][c]=2&a[][b]=3"), json!({"a": [{"b": "1", "c": "2"}, {"b": "3"}]}));
    }

    #[test]
    fn names_and_values_are_percent_decoded() {
        assert_eq!(
            decoded("a%5Bb%5D=x%26y+z&metadata[0]=q"),
            json!({"a": {"b": "x&y z"}, "metadata": {"0": "q"}})
        );
    }

    #[test]
    fn list_entries_are_in_numeric_order() {
        assert_eq!(decoded("a[10]=c&a[2]=b&a[1]=a"), json!({"a": ["a", "b", "c"]}));
    }

    #[test]
    fn name_as_value_and_hash_is_error() {
        assert!(decode("a=1&a[b]=2").is_err());
    }

    #[test]
    fn unmatched_brackets_are_part_of_the_name() {
        assert_eq!(decoded("a[b=1&[c]=2"), json!({"a[b": "1", "[c]": "2"}));
    }
}
