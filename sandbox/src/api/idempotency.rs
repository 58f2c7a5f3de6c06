//! Idempotency keys.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use poem::http::Method;
use serde_json::Value;

use super::error::StripeError;

const MAX_KEY_CHARACTERS: usize = 255;

#[derive(Clone, PartialEq)]
struct Call {
    path: String,
    params: Value,
}

enum Entry {
    InFlight(Call),
    Done(Call, SavedResponse),
}

/// The response to the first call with a key. Stripe also saves failures once a call is being
/// executed (<https://docs.stripe.com/api/idempotent_requests>).
#[derive(Clone)]
pub(crate) enum SavedResponse {
    Success(Value),
    ServerError(String),
}

#[derive(Default)]
pub(crate) struct IdempotencyKeys(Mutex<HashMap<String, Entry>>);

pub(crate) enum KeyCheck<'a> {
    /// Execute the call: it has no key, or the key is new and now locked.
    New(Option<KeyLock<'a>>),
    /// Return the saved response.
    Replay(SavedResponse),
}

/// The lock on a key in use. Dropping it without saving a response frees the key: a rejected call,
/// or one whose client disconnected before it was executed, leaves no trace.
pub(crate) struct KeyLock<'a> {
    keys: &'a IdempotencyKeys,
    key: String,
}

impl IdempotencyKeys {
    /// Looks the key up and locks it if it is new. Fails if another call holds it or used it with
    /// other parameters.
    pub(crate) fn check(
        &self,
        key: Option<&str>,
        method: &Method,
        path: &str,
        params: &Value,
    ) -> Result<KeyCheck<'_>, StripeError> {
        let Some(key) = key.filter(|_| method == Method::POST) else { return Ok(KeyCheck::New(None)) };
        if key.chars().count() > MAX_KEY_CHARACTERS {
            let message = format!("Idempotency keys can be up to {MAX_KEY_CHARACTERS} characters long.");
            return Err(StripeError::invalid(message));
        }
        let call = Call { path: path.to_owned(), params: params.clone() };
        let mut entries = self.entries();
        match entries.get(key) {
            None => {
                entries.insert(key.to_owned(), Entry::InFlight(call));
                Ok(KeyCheck::New(Some(KeyLock { keys: self, key: key.to_owned() })))
            }
            Some(Entry::InFlight(first) | Entry::Done(first, _)) if *first != call => Err(misused(key)),
            Some(Entry::InFlight(_)) => Err(StripeError::key_in_use(key)),
            Some(Entry::Done(_, saved)) => Ok(KeyCheck::Replay(saved.clone())),
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyLock<'_> {
    /// Later calls with this key get this response.
    pub(crate) fn save(self, response: SavedResponse) {
        let mut entries = self.keys.entries();
        if let Some(entry) = entries.get_mut(&self.key)
            && let Entry::InFlight(call) = entry
        {
            *entry = Entry::Done(call.clone(), response);
        }
    }
}

impl Drop for KeyLock<'_> {
    fn drop(&mut self) {
        let mut entries = self.keys.entries();
        if matches!(entries.get(&self.key), Some(Entry::InFlight(_))) {
            entries.remove(&self.key);
        }
    }
}

fn misused(key: &str) -> StripeError {
    StripeError::idempotency(format!(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try \
         using a key other than '{key}' if you meant to execute a different request."
    ))
}
