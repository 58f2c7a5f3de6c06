//! Reading a call's parameters: each is taken out by name and checked; what is left over at the end was unknown.

use poem::http::Uri;
use serde_json::{Map, Value};

use super::error::StripeError;

type Read<T> = Result<T, StripeError>;

const MAX_METADATA_KEYS: usize = 50;
const MAX_METADATA_KEY_CHARACTERS: usize = 40;
const MAX_METADATA_VALUE_CHARACTERS: usize = 500;

/// A hash of parameters, and where in the call it stands.
pub(crate) struct Form {
    at: String,
    fields: Map<String, Value>,
}

impl Form {
    pub(crate) fn new(tree: Value) -> Form {
        let fields = if let Value::Object(fields) = tree { fields } else { Map::new() };
        Form { at: String::new(), fields }
    }

    /// The full name of a parameter, as an error names it.
    pub(crate) fn name(&self, field: &str) -> String {
        if self.at.is_empty() { field.to_owned() } else { format!("{}[{field}]", self.at) }
    }

    /// Text that, if it is there, says something.
    pub(crate) fn text(&mut self, field: &str) -> Read<Option<String>> {
        let Some(text) = self.clearable(field)? else { return Ok(None) };
        if text.is_empty() {
            let message = format!("You passed an empty string for '{}'.", self.name(field));
            return Err(StripeError::invalid_param(self.name(field), message).code("parameter_invalid_empty"));
        }
        Ok(Some(text))
    }

    /// Text that may be empty, which clears what was there.
    pub(crate) fn clearable(&mut self, field: &str) -> Read<Option<String>> {
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(field, "Invalid string")),
        }
    }

    /// Whether a parameter that may be a hash is a plain value here.
    pub(crate) fn is_text(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(Value::is_string)
    }

    /// Whether the call empties this parameter; if it does, that is all there is to read of it.
    pub(crate) fn is_cleared(&mut self, field: &str) -> bool {
        let cleared = self.fields.get(field).is_some_and(|value| value == "");
        if cleared {
            self.fields.remove(field);
        }
        cleared
    }

    pub(crate) fn required<T>(&self, field: &str, value: Option<T>) -> Read<T> {
        value.ok_or_else(|| StripeError::missing_parameter(self.name(field)))
    }

    pub(crate) fn flag(&mut self, field: &str) -> Read<Option<bool>> {
        match self.text(field)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.bad(field, &format!("Invalid boolean: {other}"))),
        }
    }

    pub(crate) fn integer(&mut self, field: &str) -> Read<Option<i64>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            self.bad(field, &format!("Invalid integer: {text}")).code("parameter_invalid_integer")
        })?;
        Ok(Some(number))
    }

    pub(crate) fn one_of(&mut self, field: &str, allowed: &[&str]) -> Read<Option<String>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if allowed.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        Err(self.bad(field, &format!("Invalid {field}: must be one of {}", allowed.join(", "))))
    }

    /// An absolute address of a page.
    pub(crate) fn url(&mut self, field: &str) -> Read<Option<String>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if is_absolute_url(&text) {
            return Ok(Some(text));
        }
        let message = "Not a valid URL: it must be absolute and begin with http:// or https://";
        Err(self.bad(field, message).code("url_invalid"))
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, field: &str) -> Read<Vec<String>> {
        match self.fields.remove(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(entries)) => {
                let texts: Option<Vec<String>> =
                    entries.iter().map(|entry| entry.as_str().map(str::to_owned)).collect();
                texts.ok_or_else(|| self.bad(field, "Invalid array"))
            }
            Some(_) => Err(self.bad(field, "Invalid array")),
        }
    }

    /// A hash within the hash, read whole.
    pub(crate) fn hash<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Form) -> Read<T>,
    ) -> Read<Option<T>> {
        let at = self.name(field);
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Form { at, fields }.read_whole(read).map(Some),
            Some(_) => Err(StripeError::invalid_param(at, "Invalid hash")),
        }
    }

    /// A list of hashes, each read whole.
    pub(crate) fn hashes<T>(
        &mut self,
        field: &str,
        mut read: impl FnMut(&mut Form) -> Read<T>,
    ) -> Read<Vec<T>> {
        let at = self.name(field);
        let entries = match self.fields.remove(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(StripeError::invalid_param(at, "Invalid array")),
        };
        let mut whole = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let at = format!("{at}[{index}]");
            let Value::Object(fields) = entry else {
                return Err(StripeError::invalid_param(at, "Invalid hash"));
            };
            whole.push(Form { at, fields }.read_whole(&mut read)?);
        }
        Ok(whole)
    }

    /// The metadata after this call, given what it was: names are added and replaced, an empty value removes one, an
    /// empty `metadata` removes all. None if the call says nothing about it.
    pub(crate) fn metadata(&mut self, before: &Value) -> Read<Option<Map<String, Value>>> {
        let at = self.name("metadata");
        let given = match self.fields.remove("metadata") {
            None => return Ok(None),
            Some(Value::String(empty)) if empty.is_empty() => return Ok(Some(Map::new())),
            Some(Value::Object(given)) => given,
            Some(_) => return Err(StripeError::invalid_param(at, "Invalid hash")),
        };
        let mut after = before.as_object().cloned().unwrap_or_default();
        for (key, value) in given {
            check_metadata_entry(&at, &key, &value)?;
            if value == "" {
                after.remove(&key);
            } else {
                after.insert(key, value);
            }
        }
        if after.len() > MAX_METADATA_KEYS {
            let message = format!("You can only have up to {MAX_METADATA_KEYS} metadata keys.");
            return Err(StripeError::invalid_param(at, message));
        }
        Ok(Some(after))
    }

    /// Everything has been read: what is left is unknown.
    pub(crate) fn finish(self) -> Read<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(left) => Err(StripeError::unknown_parameter(self.name(left))),
        }
    }

    fn read_whole<T>(mut self, read: impl FnOnce(&mut Form) -> Read<T>) -> Read<T> {
        let value = read(&mut self)?;
        self.finish()?;
        Ok(value)
    }

    fn bad(&self, field: &str, message: &str) -> StripeError {
        StripeError::invalid_param(self.name(field), message)
    }
}

fn is_absolute_url(text: &str) -> bool {
    // The placeholder that Checkout fills in is not itself allowed in an address.
    let text = text.replace("{CHECKOUT_SESSION_ID}", "id");
    // What follows the # never travels, so the parser does not know it.
    let without_fragment = text.split('#').next().unwrap_or_default();
    let Ok(uri) = without_fragment.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn check_metadata_entry(at: &str, key: &str, value: &Value) -> Read<()> {
    let param = format!("{at}[{key}]");
    let Some(value) = value.as_str() else {
        return Err(StripeError::invalid_param(param, "Metadata values must be strings."));
    };
    if key.chars().count() > MAX_METADATA_KEY_CHARACTERS {
        let message = format!("Metadata keys can be up to {MAX_METADATA_KEY_CHARACTERS} characters long.");
        return Err(StripeError::invalid_param(param, message));
    }
    if value.chars().count() > MAX_METADATA_VALUE_CHARACTERS {
        let message =
            format!("Metadata values can be up to {MAX_METADATA_VALUE_CHARACTERS} characters long.");
        return Err(StripeError::invalid_param(param, message));
    }
    Ok(())
}
