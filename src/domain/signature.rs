//! The `Stripe-Signature` header: who signed these bytes, and when.
//!
//! The rules are those of <https://docs.stripe.com/webhooks#verify-manually>: the signed text is the header's
//! timestamp, a full stop and the raw body; the key is the whole `whsec_...` string; only the `v1` scheme counts;
//! while a secret is being rolled there is one `v1` for each secret, and any match is enough.

use hmac::Hmac;
use hmac::digest::CtOutput;
use sha2::Sha256;

use super::ids::SecretName;
use super::webhook_secret::WebhookSecrets;

/// How old a signature may be. Exactly this age is still accepted, as in Stripe's own SDKs.
pub const TOLERANCE_SECONDS: i64 = 300;

/// The longest header that is read: as long as the whole head of a request may be. Each live secret adds a `v1` of 64
/// characters, and Stripe may add items of other schemes, so a shorter bound could reject a good signature. The work is
/// bounded by it too: fewer than 500 signatures fit, and each costs one comparison per secret.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

/// A body that one of our secrets signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Which of the configured secrets it was.
    pub secret: SecretName,
    /// Our clock less the header's timestamp. Negative when the header comes from our future.
    pub skew_seconds: i64,
}

/// A body that cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The class of the refusal.
    pub reason: RefusalReason,
    /// Our clock less the header's timestamp, where one could be read.
    pub skew_seconds: Option<i64>,
}

/// The classes of refusal that are logged and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// No `Stripe-Signature` header.
    Missing,
    /// No timestamp, two timestamps, or no `v1` in the header.
    Malformed,
    /// No `v1` fits any secret.
    NoMatch,
    /// By the header's own timestamp longer ago than [`TOLERANCE_SECONDS`], whoever signed it: a replay, or a clock that
    /// is wrong.
    TooOld,
}

impl RefusalReason {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::NoMatch => "no_match",
            Self::TooOld => "too_old",
        }
    }
}

/// Refuses a header that no body can save: it is missing, malformed or too old, or has nothing that could match. Whoever
/// asks this first need not read the body of such a request.
pub fn check_header(header: Option<&str>, now_seconds: i64) -> Result<(), Refusal> {
    Header::read(header, now_seconds).map(|_| ())
}

/// Checks the timestamp against the clock, and every `v1` of the header against every secret, in constant time.
///
/// A timestamp from the future is accepted, as Stripe's SDKs do; the caller sees it in the skew.
pub fn verify(
    body: &[u8],
    header: Option<&str>,
    secrets: &WebhookSecrets,
    now_seconds: i64,
) -> Result<Verified, Refusal> {
    let (header, skew_seconds) = Header::read(header, now_seconds)?;
    let no_match = Refusal { reason: RefusalReason::NoMatch, skew_seconds: Some(skew_seconds) };
    let secret = header.matching(secrets, body).ok_or(no_match)?;
    Ok(Verified { secret, skew_seconds })
}

/// The header's parts that count. `v1` items that are not 32 bytes of hex are dropped: they can match nothing.
struct Header<'a> {
    timestamp: &'a str,
    timestamp_seconds: i64,
    signatures: Vec<[u8; 32]>,
}

impl<'a> Header<'a> {
    /// The header, unless it cannot be good, and how old it is.
    fn read(text: Option<&'a str>, now_seconds: i64) -> Result<(Self, i64), Refusal> {
        let refuse = |reason, skew_seconds| Err(Refusal { reason, skew_seconds });
        let Some(text) = text else { return refuse(RefusalReason::Missing, None) };
        let Some(header) = Self::parse(text) else { return refuse(RefusalReason::Malformed, None) };
        let skew_seconds = now_seconds.saturating_sub(header.timestamp_seconds);
        if skew_seconds > TOLERANCE_SECONDS {
            return refuse(RefusalReason::TooOld, Some(skew_seconds));
        }
        if header.signatures.is_empty() {
            return refuse(RefusalReason::NoMatch, Some(skew_seconds));
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
        let signatures = v1.filter_map(decode).collect();
        Some(Self { timestamp, timestamp_seconds: timestamp.parse().ok()?, signatures })
    }

    /// The last secret that any signature fits. No early exit: the time taken tells nothing about which one fits.
    fn matching(&self, secrets: &WebhookSecrets, body: &[u8]) -> Option<SecretName> {
        let mut found = None;
        for (name, expected) in secrets.sign(self.timestamp, body) {
            for signature in &self.signatures {
                if equal_in_constant_time(&expected, signature) {
                    found = Some(name.clone());
                }
            }
        }
        found
    }
}

fn decode(hex_text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hex_text, &mut bytes).ok()?;
    Some(bytes)
}

fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    CtOutput::<Hmac<Sha256>>::new((*a).into()) == CtOutput::new((*b).into())
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

    fn reason(header: Option<&str>) -> RefusalReason {
        verify(BODY, header, &secrets("whsec_a"), NOW).expect_err("refused").reason
    }

    #[test]
    fn a_good_signature_names_its_secret_and_skew() {
        let secrets = secrets("old=whsec_old,new=whsec_new");
        let verified = verify(BODY, Some(&signed("whsec_new", NOW - 7)), &secrets, NOW);
        let new = SecretName::parse("new").expect("a name");
        assert_eq!(verified, Ok(Verified { secret: new, skew_seconds: 7 }));
    }

    #[test]
    fn any_v1_of_a_roll_is_enough_wherever_it_stands() {
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

    /// A header as long as it may be: the good signature among as many other items as fit.
    #[test]
    fn a_long_header_is_verified_wherever_its_good_v1_stands() {
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
            assert_eq!(reason(Some(&forged)), RefusalReason::NoMatch, "{other}");
        }
    }

    #[test]
    fn exactly_the_tolerance_passes_and_a_second_more_does_not() {
        let secrets = secrets("whsec_a");
        assert!(verify(BODY, Some(&signed("whsec_a", NOW - 300)), &secrets, NOW).is_ok());
        let refusal = verify(BODY, Some(&signed("whsec_a", NOW - 301)), &secrets, NOW);
        assert_eq!(refusal, Err(Refusal { reason: RefusalReason::TooOld, skew_seconds: Some(301) }));
    }

    #[test]
    fn a_future_timestamp_is_accepted_and_shows_in_the_skew() {
        let verified = verify(BODY, Some(&signed("whsec_a", NOW + 3600)), &secrets("whsec_a"), NOW);
        assert_eq!(verified.map(|v| v.skew_seconds), Ok(-3600));
    }

    #[test]
    fn refusals_are_classified() {
        let good = v1("whsec_a", NOW, BODY);
        assert_eq!(reason(None), RefusalReason::Missing);
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
            assert_eq!(reason(Some(&malformed)), RefusalReason::Malformed, "{malformed}");
        }
        for no_match in [signed("whsec_b", NOW), format!("t={},{good}", NOW - 1), format!("t={NOW},v1=00")] {
            assert_eq!(reason(Some(&no_match)), RefusalReason::NoMatch, "{no_match}");
        }
    }

    #[test]
    fn what_no_body_can_save_is_known_from_the_header() {
        let good = signed("whsec_a", NOW);
        let forged = signed("whsec_b", NOW);
        for (header, refused) in [
            (None, Some(RefusalReason::Missing)),
            (Some("garbage"), Some(RefusalReason::Malformed)),
            (Some(&*signed("whsec_b", NOW - 301)), Some(RefusalReason::TooOld)),
            (Some(&*format!("t={NOW},v1=nothex")), Some(RefusalReason::NoMatch)),
            (Some(&*forged), None),
            (Some(&*good), None),
        ] {
            assert_eq!(check_header(header, NOW).err().map(|refusal| refusal.reason), refused, "{header:?}");
        }
    }

    #[test]
    fn one_flipped_bit_of_the_body_is_seen() {
        let header = signed("whsec_a", NOW);
        for index in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[index] ^= 1;
            assert!(verify(&body, Some(&header), &secrets("whsec_a"), NOW).is_err(), "byte {index}");
        }
    }

    #[test]
    fn without_secrets_nothing_is_trusted() {
        let refusal = verify(BODY, Some(&signed("whsec_a", NOW)), &WebhookSecrets::none(), NOW);
        assert_eq!(refusal.map_err(|r| r.reason), Err(RefusalReason::NoMatch));
    }
}
