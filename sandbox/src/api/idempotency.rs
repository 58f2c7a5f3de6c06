//! Keys that make a call safe to repeat.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use poem::http::Method;
use serde_json::Value;

use super::error::StripeError;

const MAX_KEY_CHARACTERS: usize = 255;

/// What a key was used for.
#[derive(Clone, PartialEq)]
struct Call {
    path: String,
    params: Value,
}

enum Entry {
    InFlight(Call),
    Done(Call, Outcome),
}

/// What came of the first call with a key. Stripe keeps failures, too, once the call is being carried out
/// (<https://docs.stripe.com/api/idempotent_requests>).
#[derive(Clone)]
pub(crate) enum Outcome {
    Answer(Value),
    ServerError(String),
}

/// The keys that were used.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<String, Entry>>);

/// What a call may do with its key.
pub(crate) enum Claim<'a> {
    /// Carry on; there is no key, or it is new.
    Fresh(Option<Hold<'a>>),
    /// Answer what was answered before.
    Replay(Outcome),
}

/// A key in flight. Unless an outcome is kept, it is free again when this goes: a call that was refused, or whose
/// caller hung up before it was carried out, leaves nothing behind.
pub(crate) struct Hold<'a> {
    ledger: &'a Ledger,
    key: String,
}

impl Ledger {
    /// Takes the key for this call.
    pub(crate) fn claim(
        &self,
        key: Option<&str>,
        method: &Method,
        path: &str,
        params: &Value,
    ) -> Result<Claim<'_>, StripeError> {
        let Some(key) = key.filter(|_| method == Method::POST) else { return Ok(Claim::Fresh(None)) };
        if key.chars().count() > MAX_KEY_CHARACTERS {
            let message = format!("Idempotency keys can be up to {MAX_KEY_CHARACTERS} characters long.");
            return Err(StripeError::invalid(message));
        }
        let call = Call { path: path.to_owned(), params: params.clone() };
        let mut entries = self.entries();
        match entries.get(key) {
            None => {
                entries.insert(key.to_owned(), Entry::InFlight(call));
                Ok(Claim::Fresh(Some(Hold { ledger: self, key: key.to_owned() })))
            }
            Some(Entry::InFlight(first) | Entry::Done(first, _)) if *first != call => Err(misused(key)),
            Some(Entry::InFlight(_)) => Err(StripeError::key_in_use(key)),
            Some(Entry::Done(_, outcome)) => Ok(Claim::Replay(outcome.clone())),
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold<'_> {
    /// The call was carried out, or failed on the way: from now on the key answers this.
    pub(crate) fn keep(self, outcome: Outcome) {
        let mut entries = self.ledger.entries();
        if let Some(entry) = entries.get_mut(&self.key)
            && let Entry::InFlight(call) = entry
        {
            *entry = Entry::Done(call.clone(), outcome);
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut entries = self.ledger.entries();
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
