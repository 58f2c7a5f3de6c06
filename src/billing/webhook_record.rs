//! When webhooks were last verified and rejected. The service uses it to warn about a wrong secret,
//! and stores it for `billhook doctor`, which runs in another process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::jobs::schedule::{DueTime, Step, run_forever};
use super::{Billing, BillingError};
use crate::domain::ids::SecretName;
use crate::domain::signature::RejectionReason;
use crate::domain::webhook_secret::SecretFingerprint;

/// How often changes are stored. The next write makes up for a failed one.
const SAVE_INTERVAL_MS: i64 = 60_000;

/// For how long after a verified webhook rejected ones are blamed on third parties: by then a busy
/// account has sent another.
pub const TRUSTED_AFTER_VERIFIED_MS: i64 = 60 * 60 * 1000;

/// Since the service started.
#[derive(Debug, Default)]
pub struct WebhookRecord(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    last_verified_ms: Option<i64>,
    verified: BTreeMap<SecretFingerprint, Verified>,
    /// Keyed by [`RejectionReason::as_str`].
    rejected: BTreeMap<&'static str, Rejected>,
}

#[derive(Debug, Clone)]
struct Verified {
    name: SecretName,
    first_at_ms: i64,
    last_at_ms: i64,
    saving: Saving,
}

#[derive(Debug, Clone, Copy)]
struct Rejected {
    last_at_ms: i64,
    saving: Saving,
}

/// Whether an entry has to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saving {
    /// Not stored yet. Stored at once, because an operator who rotates a secret waits for it.
    New,
    /// Only its latest time is not stored.
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
    pub fn note_verified(&self, name: &SecretName, fingerprint: SecretFingerprint, now_ms: i64) {
        let mut record = self.record();
        record.last_verified_ms = Some(now_ms);
        let new =
            || Verified { name: name.clone(), first_at_ms: now_ms, last_at_ms: now_ms, saving: Saving::New };
        let verified = record.verified.entry(fingerprint).or_insert_with(new);
        verified.last_at_ms = now_ms;
        verified.saving.change();
    }

    pub fn note_rejected(&self, reason: RejectionReason, now_ms: i64) {
        let mut record = self.record();
        let new = Rejected { last_at_ms: now_ms, saving: Saving::New };
        let rejected = record.rejected.entry(reason.as_str()).or_insert(new);
        rejected.last_at_ms = now_ms;
        rejected.saving.change();
    }

    /// True before the first verified webhook since the start, and an hour after the last one.
    pub fn has_no_recent_verification(&self, now_ms: i64) -> bool {
        self.record().last_verified_ms.is_none_or(|last| now_ms - last >= TRUSTED_AFTER_VERIFIED_MS)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn has_new(&self) -> bool {
        let verified = self.verified.values().map(|verified| verified.saving);
        let rejected = self.rejected.values().map(|rejected| rejected.saving);
        verified.chain(rejected).any(|saving| saving == Saving::New)
    }
}

/// Stores new entries at once and changes once a minute.
pub(super) async fn run(billing: &Billing) {
    let due = DueTime::now();
    run_forever("storing the webhook record", None, || step(billing, &due)).await;
}

async fn step(billing: &Billing, due: &DueTime) -> Result<Step, BillingError> {
    let steady_ms = billing.clock.steady_ms();
    let (verified, rejected) = {
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
        let rejected: Vec<(&'static str, Rejected)> = record
            .rejected
            .iter_mut()
            .filter_map(|(reason, rejected)| unsaved(&mut rejected.saving).then_some((*reason, *rejected)))
            .collect();
        (verified, rejected)
    };
    for (fingerprint, Verified { name, first_at_ms, last_at_ms, .. }) in verified {
        billing.store.record_verified_webhooks(fingerprint, &name, first_at_ms, last_at_ms).await?;
    }
    for (reason, Rejected { last_at_ms, .. }) in rejected {
        billing.store.record_rejected_webhooks(reason, last_at_ms).await?;
    }
    Ok(Step::Idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::webhook_secret::WebhookSecrets;

    #[test]
    fn verification_is_recent_for_an_hour() {
        let record = WebhookRecord::default();
        assert!(record.has_no_recent_verification(0));
        let secrets = WebhookSecrets::parse("whsec_a").expect("a valid secret");
        let name = SecretName::from_position(1);
        record.note_verified(
            &name,
            secrets.fingerprint(&name).expect("the fingerprint of a known name"),
            1000,
        );
        record.note_rejected(RejectionReason::NoMatch, 2000);
        assert!(!record.has_no_recent_verification(1000 + TRUSTED_AFTER_VERIFIED_MS - 1));
        assert!(record.has_no_recent_verification(1000 + TRUSTED_AFTER_VERIFIED_MS));
    }
}
