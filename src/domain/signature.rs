//! Verification of the `Stripe-Signature` header.
//!
//! The rules are those of <https://docs.stripe.com/webhooks#verify-manually>. The signed payload is
//! the header's timestamp, a full stop and the raw body. The key is the whole `whsec_...` string.
//! Only the `v1` scheme counts. During a roll there is one `v1` per secret, and one match is
//! enough.

use hex::FromHex;
use hmac::Hmac;
use hmac::digest::CtOutput;
use sha2::Sha256;

use super::ids::SecretName;
use super::webhook_secret::WebhookSecrets;

/// The maximum age of a signature, inclusive as in Stripe's SDKs.
pub const TOLERANCE_SECONDS: i64 = 300;

/// Equal to the limit of all request headers together. Stripe sends a `v1` of 64 characters per
/// live secret and may add other schemes, so a lower limit could reject a valid signature. It also
/// bounds the work: fewer than 500 signatures fit, each compared once per secret.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The secret that signed the body.
    pub secret: SecretName,
    /// Our clock minus the header's timestamp. Negative if the timestamp is in the future.
    pub skew_seconds: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureError {
    pub reason: RejectionReason,
    /// Our clock minus the header's timestamp. `None` if the header has no valid timestamp.
    pub skew_seconds: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionReason {
    /// No `Stripe-Signature` header.
    Missing,
    /// No timestamp, two timestamps, no `v1`, or too long.
    Malformed,
    /// No `v1` matches any secret.
    NoMatch,
    /// The header's timestamp is older than [`TOLERANCE_SECONDS`], whether or not a `v1` matches: a
    /// replay, or a wrong clock.
    TooOld,
}

impl RejectionReason {
    /// The value in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::NoMatch => "no_match",
            Self::TooOld => "too_old",
        }
    }
}

/// Rejects a header that cannot match any body: missing, malformed, too old, or without a
/// well-formed `v1`. The caller can skip reading the body of such a request.
pub fn check_header(header: Option<&str>, now_seconds: i64) -> Result<(), SignatureError> {
    Header::read(header, now_seconds).map(|_| ())
}

/// Checks the timestamp, and compares every `v1` with every secret's signature in constant time. A
/// future timestamp is accepted, as in Stripe's SDKs, and shows in the skew.
pub fn verify(
    body: &[u8],
    header: Option<&str>,
    secrets: &WebhookSecrets,
    now_seconds: i64,
) -> Result<Verified, SignatureError> {
    let (header, skew_seconds) = Header::read(header, now_seconds)?;
    let no_match = SignatureError { reason: RejectionReason::NoMatch, skew_seconds: Some(skew_seconds) };
    let secret = header.matching_secret(secrets, body).ok_or(no_match)?;
    Ok(Verified { secret, skew_seconds })
}

struct Header<'a> {
    timestamp: &'a str,
    timestamp_seconds: i64,
    /// Without `v1` items that are not 32 bytes in hex.
    signatures: Vec<[u8; 32]>,
}

impl<'a> Header<'a> {
    /// Returns the header and the skew in seconds.
    fn read(text: Option<&'a str>, now_seconds: i64) -> Result<(Self, i64), SignatureError> {
        let reject = |reason, skew_seconds| Err(SignatureError { reason, skew_seconds });
        let Some(text) = text else { return reject(RejectionReason::Missing, None) };
        let Some(header) = Self::parse(text) else { return reject(RejectionReason::Malformed, None) };
        let skew_seconds = now_seconds.saturating_sub(header.timestamp_seconds);
        if skew_seconds > TOLERANCE_SECONDS {
            return reject(RejectionReason::TooOld, Some(skew_seconds));
        }
        if header.signatures.is_empty() {
            return reject(RejectionReason::NoMatch, Some(skew_seconds));
        }
        Ok((header, skew_seconds))
    }

    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_HEADER_BYTES {
            return None;
        }
        let items = || text.split(',').filter_map(|item| item.trim().split_once('='));

        let mut timestamps = items().filter(|(scheme, _)| *scheme == "t").map(|(_, value)| value);
        let timestamp = timestamps.next()?;
        if timestamps.next().is_some() || !timestamp.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut v1 = items().filter(|(scheme, _)| *scheme == "v1").map(|(_, value)| value).peekable();
        v1.peek()?;
        let signatures = v1.filter_map(|v1| <[u8; 32]>::from_hex(v1).ok()).collect();
        Some(Self { timestamp, timestamp_seconds: timestamp.parse().ok()?, signatures })
    }

    /// `CtOutput` compares in constant time. No early exit, so that the time taken does not reveal
    /// which secret or signature matched.
    fn matching_secret(&self, secrets: &WebhookSecrets, body: &[u8]) -> Option<SecretName> {
        let mut found = None;
        for (name, expected) in secrets.sign(self.timestamp, body) {
            for signature in &self.signatures {
                if CtOutput::<Hmac<Sha256>>::new(expected.into()) == CtOutput::new((*signature).into()) {
                    found = Some(name.clone());
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn secrets(text: &str) -> WebhookSecrets {
        WebhookSecrets::parse(text).expect("secrets")
    }

    fn v1(secret_text: &str, timestamp: i64, body: &[u8]) -> String {
        let secrets = secrets(secret_text);
        let timestamp = timestamp.to_string();
        let (_, signature) = secrets.sign(&timestamp, body).next().expect("one secret");
        format!("v1={}", hex::encode(signature))
    }

    fn signed(secret_text: &str, timestamp: i64) -> String {
        format!("t={timestamp},{}", v1(secret_text, timestamp, BODY))
    }

    fn reason(header: Option<&str>) -> RejectionReason {
        verify(BODY, header, &secrets("whsec_a"), NOW).expect_err("a rejection").reason
    }

    #[test]
    fn valid_signature_returns_secret_name_and_skew() {
        let secrets = secrets("old=whsec_old,new=whsec_new");
        let verified = verify(BODY, Some(&signed("whsec_new", NOW - 7)), &secrets, NOW);
        let new = SecretName::parse("new").expect("a name");
        assert_eq!(verified, Ok(Verified { secret: new, skew_seconds: 7 }));
    }

    #[test]
    fn one_matching_v1_is_enough_at_any_position() {
        let good = v1("whsec_a", NOW, BODY);
        let other = v1("whsec_b", NOW, BODY);
        for header in [
            format!("t={NOW},{good},{other}"),
            format!("t={NOW},{other},{good}"),
            format!("{good},t={NOW}"),
            format!("t={NOW}, {good}"),
            format!("t={NOW},,{good},v0=00,future=1"),
            format!("t={NOW},v1=nothex,{good}"),
        ] {
            assert!(verify(BODY, Some(&header), &secrets("whsec_a"), NOW).is_ok(), "{header}");
        }
    }

    #[test]
    fn longest_header_is_verified_with_v1_at_any_position() {
        let good = v1("whsec_a", NOW, BODY);
        let others = [v1("whsec_b", NOW, BODY), good.replace("v1", "v0"), "v1=nothex".into(), "v2=1".into()];
        for other in others {
            let fitting = (MAX_HEADER_BYTES - good.len() - 16) / (other.len() + 1);
            let many = vec![other.as_str(); fitting].join(",");
            let (some, more) = many.split_at((other.len() + 1) * (fitting / 2));
            for header in [
                format!("t={NOW},{good},{many}"),
                format!("t={NOW},{many},{good}"),
                format!("t={NOW},{some}{good},{more}"),
                format!("{many},{good},t={NOW}"),
            ] {
                assert!((32_000..=MAX_HEADER_BYTES).contains(&header.len()), "{}", header.len());
                assert!(verify(BODY, Some(&header), &secrets("whsec_b2,whsec_a"), NOW).is_ok(), "{other}");
            }
            let forged = format!("t={NOW},{many},{}", v1("whsec_c", NOW, BODY));
            assert_eq!(reason(Some(&forged)), RejectionReason::NoMatch, "{other}");
        }
    }

    #[test]
    fn signature_is_accepted_up_to_the_tolerance() {
        let secrets = secrets("whsec_a");
        assert!(verify(BODY, Some(&signed("whsec_a", NOW - 300)), &secrets, NOW).is_ok());
        let rejected = verify(BODY, Some(&signed("whsec_a", NOW - 301)), &secrets, NOW);
        assert_eq!(
            rejected,
            Err(SignatureError { reason: RejectionReason::TooOld, skew_seconds: Some(301) })
        );
    }

    #[test]
    fn future_timestamp_is_accepted_with_negative_skew() {
        let verified = verify(BODY, Some(&signed("whsec_a", NOW + 3600)), &secrets("whsec_a"), NOW);
        assert_eq!(verified.map(|v| v.skew_seconds), Ok(-3600));
    }

    #[test]
    fn signature_rejection_has_its_reason() {
        let good = v1("whsec_a", NOW, BODY);
        assert_eq!(reason(None), RejectionReason::Missing);
        for malformed in [
            String::new(),
            "garbage".into(),
            good.clone(),
            format!("t={NOW}"),
            format!("t=,{good}"),
            format!("t=-1,{good}"),
            format!("t=1e9,{good}"),
            format!("t=99999999999999999999,{good}"),
            format!("t={NOW},t={NOW},{good}"),
            format!("t={NOW},{}", good.replace("v1", "v0")),
            format!("t={NOW},{good},x={}", "y".repeat(MAX_HEADER_BYTES)),
        ] {
            assert_eq!(reason(Some(&malformed)), RejectionReason::Malformed, "{malformed}");
        }
        for no_match in [signed("whsec_b", NOW), format!("t={},{good}", NOW - 1), format!("t={NOW},v1=00")] {
            assert_eq!(reason(Some(&no_match)), RejectionReason::NoMatch, "{no_match}");
        }
    }

    #[test]
    fn hopeless_header_is_rejected_without_the_body() {
        let good = signed("whsec_a", NOW);
        let forged = signed("whsec_b", NOW);
        for (header, expected) in [
            (None, Some(RejectionReason::Missing)),
            (Some("garbage"), Some(RejectionReason::Malformed)),
            (Some(&*signed("whsec_b", NOW - 301)), Some(RejectionReason::TooOld)),
            (Some(&*format!("t={NOW},v1=nothex")), Some(RejectionReason::NoMatch)),
            (Some(&*forged), None),
            (Some(&*good), None),
        ] {
            assert_eq!(check_header(header, NOW).err().map(|error| error.reason), expected, "{header:?}");
        }
    }

    #[test]
    fn one_flipped_bit_of_the_body_is_rejected() {
        let header = signed("whsec_a", NOW);
        for index in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[index] ^= 1;
            assert!(verify(&body, Some(&header), &secrets("whsec_a"), NOW).is_err(), "byte {index}");
        }
    }

    #[test]
    fn no_signature_matches_without_secrets() {
        let rejected = verify(BODY, Some(&signed("whsec_a", NOW)), &WebhookSecrets::none(), NOW);
        assert_eq!(rejected.map_err(|error| error.reason), Err(RejectionReason::NoMatch));
    }
}
