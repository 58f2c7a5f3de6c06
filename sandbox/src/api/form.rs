//! Reads and validates the parameters of a call. Each read removes a parameter, so parameters that
//! remain at the end are unknown.

use poem::http::Uri;
use serde_json::{Map, Value};

use super::error::StripeError;

type FormResult<T> = Result<T, StripeError>;

const MAX_METADATA_KEYS: usize = 50;
const MAX_METADATA_KEY_CHARACTERS: usize = 40;
const MAX_METADATA_VALUE_CHARACTERS: usize = 500;

/// A hash of parameters.
pub(crate) struct Form {
    /// The full name of the hash, or empty for the whole call.
    path: String,
    fields: Map<String, Value>,
}

impl Form {
    pub(crate) fn new(tree: Value) -> Form {
        let fields = if let Value::Object(fields) = tree { fields } else { Map::new() };
        Form { path: String::new(), fields }
    }

    /// The full name of a parameter, such as `items[0][price]`.
    pub(crate) fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}[{field}]", self.path) }
    }

    /// A string that must not be empty.
    pub(crate) fn text(&mut self, field: &str) -> FormResult<Option<String>> {
        let Some(text) = self.clearable(field)? else { return Ok(None) };
        if text.is_empty() {
            let message = format!("You passed an empty string for '{}'.", self.name(field));
            return Err(StripeError::invalid_param(self.name(field), message).code("parameter_invalid_empty"));
        }
        Ok(Some(text))
    }

    /// A string. An empty one clears the field.
    pub(crate) fn clearable(&mut self, field: &str) -> FormResult<Option<String>> {
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(field, "Invalid string")),
        }
    }

    /// Whether the parameter is a string and not a hash.
    pub(crate) fn is_text(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(Value::is_string)
    }

    /// Whether the parameter is an empty string. If so, it is removed as read.
    pub(crate) fn is_cleared(&mut self, field: &str) -> bool {
        let cleared = self.fields.get(field).is_some_and(|value| value == "");
        if cleared {
            self.fields.remove(field);
        }
        cleared
    }

    pub(crate) fn required<T>(&self, field: &str, value: Option<T>) -> FormResult<T> {
        value.ok_or_else(|| StripeError::missing_parameter(self.name(field)))
    }

    pub(crate) fn flag(&mut self, field: &str) -> FormResult<Option<bool>> {
        match self.text(field)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.bad(field, &format!("Invalid boolean: {other}"))),
        }
    }

    pub(crate) fn integer(&mut self, field: &str) -> FormResult<Option<i64>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            self.bad(field, &format!("Invalid integer: {text}")).code("parameter_invalid_integer")
        })?;
        Ok(Some(number))
    }

    pub(crate) fn one_of(&mut self, field: &str, allowed: &[&str]) -> FormResult<Option<String>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if allowed.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        Err(self.bad(field, &format!("Invalid {field}: must be one of {}", allowed.join(", "))))
    }

    /// An absolute HTTP URL.
    pub(crate) fn url(&mut self, field: &str) -> FormResult<Option<String>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if is_absolute_url(&text) {
            return Ok(Some(text));
        }
        let message = "Not a valid URL: it must be absolute and start with http:// or https://";
        Err(self.bad(field, message).code("url_invalid"))
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, field: &str) -> FormResult<Vec<String>> {
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

    /// A nested hash. Parameters that `read` does not read are errors.
    pub(crate) fn hash<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Form) -> FormResult<T>,
    ) -> FormResult<Option<T>> {
        let path = self.name(field);
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Form { path, fields }.read_all(read).map(Some),
            Some(_) => Err(StripeError::invalid_param(path, "Invalid hash")),
        }
    }

    /// A list of nested hashes, each read as by [`Form::hash`].
    pub(crate) fn hashes<T>(
        &mut self,
        field: &str,
        mut read: impl FnMut(&mut Form) -> FormResult<T>,
    ) -> FormResult<Vec<T>> {
        let path = self.name(field);
        let entries = match self.fields.remove(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(StripeError::invalid_param(path, "Invalid array")),
        };
        let mut values = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Value::Object(fields) = entry else {
                return Err(StripeError::invalid_param(path, "Invalid hash"));
            };
            values.push(Form { path, fields }.read_all(&mut read)?);
        }
        Ok(values)
    }

    /// Returns the metadata after this call: keys are added or replaced, an empty value removes a
    /// key, and an empty `metadata` removes all. `None` if the call has no metadata.
    pub(crate) fn metadata(&mut self, before: &Value) -> FormResult<Option<Map<String, Value>>> {
        let path = self.name("metadata");
        let changes = match self.fields.remove("metadata") {
            None => return Ok(None),
            Some(Value::String(empty)) if empty.is_empty() => return Ok(Some(Map::new())),
            Some(Value::Object(changes)) => changes,
            Some(_) => return Err(StripeError::invalid_param(path, "Invalid hash")),
        };
        let mut after = before.as_object().cloned().unwrap_or_default();
        for (key, value) in changes {
            check_metadata_entry(&path, &key, &value)?;
            if value == "" {
                after.remove(&key);
            } else {
                after.insert(key, value);
            }
        }
        if after.len() > MAX_METADATA_KEYS {
            let message = format!("You can only have up to {MAX_METADATA_KEYS} metadata keys.");
            return Err(StripeError::invalid_param(path, message));
        }
        Ok(Some(after))
    }

    /// Fails if a parameter was not read.
    pub(crate) fn finish(self) -> FormResult<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(unread) => Err(StripeError::unknown_parameter(self.name(unread))),
        }
    }

    fn read_all<T>(mut self, read: impl FnOnce(&mut Form) -> FormResult<T>) -> FormResult<T> {
        let value = read(&mut self)?;
        self.finish()?;
        Ok(value)
    }

    fn bad(&self, field: &str, message: &str) -> StripeError {
        StripeError::invalid_param(self.name(field), message)
    }
}

fn is_absolute_url(text: &str) -> bool {
    // Checkout replaces this placeholder, which is not valid in a URL.
    let text = text.replace("{CHECKOUT_SESSION_ID}", "id");
    // `Uri` does not parse fragments.
    let without_fragment = text.split('#').next().unwrap_or_default();
    let Ok(uri) = without_fragment.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn check_metadata_entry(path: &str, key: &str, value: &Value) -> FormResult<()> {
    let param = format!("{path}[{key}]");
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
