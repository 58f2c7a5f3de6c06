//! Form bodies and query strings, read as Stripe reads them: `a[b]=1` is a hash, `a[0]=1` and `a[]=1` are lists.

use serde_json::{Map, Value};

use super::error::StripeError;

/// No call nests deeper than a handful of levels.
const MAX_DEPTH: usize = 12;

/// The parameters as a tree. Leaves are text: what they mean is for the resource to say.
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

/// `a[b][c]` is `a`, `b`, `c`. A name whose brackets do not match is just a name.
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

/// `a[][b]=1&a[][c]=2&a[][b]=3` are two hashes: a name that the last one has already begins a new one.
fn next_index(hash: &Map<String, Value>, rest: &[&str]) -> String {
    let last = hash.len().checked_sub(1).and_then(|last| hash.get(&last.to_string()));
    let goes_on = match (last.and_then(Value::as_object), rest.first()) {
        (Some(last), Some(name)) => !last.contains_key(*name),
        _ => false,
    };
    let index = if goes_on { hash.len().saturating_sub(1) } else { hash.len() };
    index.to_string()
}

/// Hashes whose names are all numbers become lists, except metadata, whose names are the integration's own.
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
        decode(encoded).expect("a form that can be read")
    }

    #[test]
    fn hashes_and_lists_nest() {
        assert_eq!(
            decoded("a=1&b[c][d]=2&e[1][f]=4&e[0][f]=3&g[]=5&g[]=6"),
            json!({"a": "1", "b": {"c": {"d": "2"}}, "e": [{"f": "3"}, {"f": "4"}], "g": ["5", "6"]})
        );
    }

    #[test]
    fn a_list_of_hashes_without_indices_begins_a_hash_when_a_name_comes_again() {
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
    fn the_tenth_entry_of_a_list_comes_after_the_second() {
        assert_eq!(decoded("a[10]=c&a[2]=b&a[1]=a"), json!({"a": ["a", "b", "c"]}));
    }

    #[test]
    fn a_name_cannot_be_a_value_and_a_hash() {
        assert!(decode("a=1&a[b]=2").is_err());
    }

    #[test]
    fn unmatched_brackets_are_part_of_the_name() {
        assert_eq!(decoded("a[b=1&[c]=2"), json!({"a[b": "1", "[c]": "2"}));
    }
}
