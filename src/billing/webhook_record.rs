//! When webhooks were last verified and refused: for the warning about a wrong secret, and stored now and then for
//! `billhook doctor`, which runs in another process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::jobs::schedule::{DueTime, Step, forever};
use super::{Billing, BillingError};
use crate::domain::ids::SecretName;
use crate::domain::signature::RefusalReason;
use crate::domain::webhook_secret::SecretFingerprint;

/// How often the record is stored, in milliseconds, if anything came. What a failed write loses, the next one brings.
const SAVE_INTERVAL_MS: i64 = 60_000;

/// For how long after a verified webhook refused ones are taken for a stranger's: by then a busy account has sent more.
pub const TRUSTED_AFTER_VERIFIED_MS: i64 = 60 * 60 * 1000;

/// When webhooks were verified and refused since the service started.
#[derive(Debug, Default)]
pub struct WebhookRecord(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    last_verified_ms: Option<i64>,
    verified: BTreeMap<SecretFingerprint, Verified>,
    /// By the word for the reason.
    refused: BTreeMap<&'static str, Refused>,
}

#[derive(Debug, Clone)]
struct Verified {
    name: SecretName,
    first_at_ms: i64,
    last_at_ms: i64,
    saving: Saving,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    last_at_ms: i64,
    saving: Saving,
}

/// How far something is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saving {
    /// Not at all: it is stored at once, since an operator who rotates a secret waits for it.
    New,
    /// But for its latest time.
    Changed,
    Saved,
}

impl Saving {
    fn change(&mut self) {
        if *self == Self::Saved {
            *self = Self::Changed;
        }
    }
}

impl WebhookRecord {
    /// Notes a webhook that a secret verified.
    pub fn note_verified(&self, name: &SecretName, fingerprint: SecretFingerprint, now_ms: i64) {
        let mut record = self.record();
        record.last_verified_ms = Some(now_ms);
        let new =
            || Verified { name: name.clone(), first_at_ms: now_ms, last_at_ms: now_ms, saving: Saving::New };
        let verified = record.verified.entry(fingerprint).or_insert_with(new);
        verified.last_at_ms = now_ms;
        verified.saving.change();
    }

    /// Notes a webhook whose signature was refused.
    pub fn note_refused(&self, reason: RefusalReason, now_ms: i64) {
        let mut record = self.record();
        let new = Refused { last_at_ms: now_ms, saving: Saving::New };
        let refused = record.refused.entry(reason.as_str()).or_insert(new);
        refused.last_at_ms = now_ms;
        refused.saving.change();
    }

    /// Whether no webhook was verified since the start, or for an hour.
    pub fn has_long_verified_none(&self, now_ms: i64) -> bool {
        self.record().last_verified_ms.is_none_or(|last| now_ms - last >= TRUSTED_AFTER_VERIFIED_MS)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn has_new(&self) -> bool {
        let verified = self.verified.values().map(|verified| verified.saving);
        let refused = self.refused.values().map(|refused| refused.saving);
        verified.chain(refused).any(|saving| saving == Saving::New)
    }
}

/// Stores the record once a minute, and what is new in it at once.
pub(super) async fn run(billing: &Billing) {
    let due = DueTime::now();
    forever("storing when webhooks came", None, || step(billing, &due)).await;
}

async fn step(billing: &Billing, due: &DueTime) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    let (verified, refused) = {
        let mut record = billing.webhook_record.record();
        if !due.has_come(steady_ms) && !record.has_new() {
            return Ok(Step::Idle);
        }
        due.set(steady_ms + SAVE_INTERVAL_MS);
        let unsaved = |saving: &mut Saving| std::mem::replace(saving, Saving::Saved) != Saving::Saved;
        let verified: Vec<(SecretFingerprint, Verified)> = record
            .verified
            .iter_mut()
            .filter_map(|(by, verified)| unsaved(&mut verified.saving).then(|| (*by, verified.clone())))
            .collect();
        let refused: Vec<(&'static str, Refused)> = record
            .refused
            .iter_mut()
            .filter_map(|(reason, refused)| unsaved(&mut refused.saving).then_some((*reason, *refused)))
            .collect();
        (verified, refused)
    };
    for (fingerprint, Verified { name, first_at_ms, last_at_ms, .. }) in verified {
        billing.store.note_verified_webhooks(fingerprint, &name, first_at_ms, last_at_ms).await?;
    }
    for (reason, Refused { last_at_ms, .. }) in refused {
        billing.store.note_refused_webhooks(reason, last_at_ms).await?;
    }
    Ok(Step::Idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::webhook_secret::WebhookSecrets;

    #[test]
    fn none_is_verified_long_before_the_first_and_an_hour_after() {
        let record = WebhookRecord::default();
        assert!(record.has_long_verified_none(0));
        let secrets = WebhookSecrets::parse("whsec_a").expect("a secret");
        let name = SecretName::of_place(1);
        record.note_verified(&name, secrets.fingerprint(&name).expect("its fingerprint"), 1000);
        record.note_refused(RefusalReason::NoMatch, 2000);
        assert!(!record.has_long_verified_none(1000 + TRUSTED_AFTER_VERIFIED_MS - 1));
        assert!(record.has_long_verified_none(1000 + TRUSTED_AFTER_VERIFIED_MS));
    }
}
