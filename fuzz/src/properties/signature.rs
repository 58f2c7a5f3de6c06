//! The `Stripe-Signature` header. An independent implementation of Stripe's rules gives the same
//! result.

use std::fmt::Write;

use arbitrary::{Arbitrary, Unstructured};
use sha2::{Digest, Sha256};

use crate::domain::signature::{RejectionReason, TOLERANCE_SECONDS, verify};
use crate::domain::webhook_secret::WebhookSecrets;

/// Names and secrets. One is longer than the hash's block, and one contains `=`.
const SECRETS: [(&str, &str); 4] = [
    ("new", "whsec_new"),
    ("old", "whsec_old"),
    ("long", "whsec_0123456789012345678901234567890123456789012345678901234567890123456789"),
    ("2", "whsec_a=b"),
];

const MAX_HEADER_LENGTH: usize = 32 * 1024;

const NOW: i64 = 1_700_000_000;

#[derive(Debug, Arbitrary)]
struct Delivery<'a> {
    configured: u8,
    now: Time,
    header: Vec<Item<'a>>,
    body: &'a [u8],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Time {
    NearNow(i16),
    Any(i64),
}

/// The text between two commas.
#[derive(Debug, Arbitrary)]
enum Item<'a> {
    Timestamp(Time),
    Signature {
        scheme: Scheme,
        by: u8,
        at: Time,
        body: SignedBody,
        upper_case: bool,
        flipped_bit: Option<u8>,
    },
    Text(&'a str),
}

#[derive(Debug, Arbitrary)]
enum Scheme {
    V1,
    V0,
    V10,
}

#[derive(Debug, Arbitrary)]
enum SignedBody {
    Same,
    Another,
}

impl Time {
    fn seconds(self) -> i64 {
        match self {
            Self::NearNow(offset) => NOW + i64::from(offset),
            Self::Any(seconds) => seconds,
        }
    }
}

impl Item<'_> {
    fn text(&self, body: &[u8]) -> String {
        match self {
            Self::Timestamp(time) => format!("t={}", time.seconds()),
            Self::Text(text) => (*text).to_owned(),
            Self::Signature { scheme, by, at, body: signed_body, upper_case, flipped_bit } => {
                let scheme = match scheme {
                    Scheme::V1 => "v1",
                    Scheme::V0 => "v0",
                    Scheme::V10 => "v10",
                };
                let (_, secret) = SECRETS[usize::from(*by) % SECRETS.len()];
                let body = match signed_body {
                    SignedBody::Same => body,
                    SignedBody::Another => b"another body",
                };
                let mut signature = signature(secret, &at.seconds().to_string(), body);
                if let Some(at) = flipped_bit {
                    signature[usize::from(*at) % 32] ^= 1;
                }
                let digits = hex::encode(signature);
                format!("{scheme}={}", if *upper_case { digits.to_uppercase() } else { digits })
            }
        }
    }
}

/// A webhook for some configured secrets, with a header of valid, invalid and random parts.
pub fn delivery(data: &[u8]) {
    let Ok(delivery) = Delivery::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let header: Vec<String> = delivery.header.iter().map(|item| item.text(delivery.body)).collect();
    let configured = (0..SECRETS.len()).filter(|index| delivery.configured >> index & 1 == 1);
    let configured: Vec<_> = configured.map(|index| SECRETS[index]).collect();
    check_webhook(delivery.body, &header.join(","), &configured, delivery.now.seconds());
}

/// Random bytes as a header, with a fixed body.
pub fn header(data: &[u8]) {
    if let Ok(header) = str::from_utf8(data) {
        check_webhook(b"{}", header, &SECRETS, NOW);
    }
}

fn check_webhook(body: &[u8], header: &str, configured: &[(&str, &str)], now: i64) {
    let secrets = parse_secrets(configured);
    let verdict = |body, header: &str, now| {
        let verified = verify(body, Some(header), &secrets, now);
        verified.map(|verified| (verified.secret.to_string(), verified.skew_seconds)).map_err(|r| r.reason)
    };
    let expected = expected(body, header, configured, now);
    let verified = verdict(body, header, now);
    assert_eq!(verified, expected, "{header:?}");

    let reversed: Vec<&str> = header.rsplit(',').collect();
    assert_eq!(verdict(body, &reversed.join(","), now), expected, "the order does not matter");
    let with_unknown = format!("{header},v2=00,x");
    if with_unknown.len() <= MAX_HEADER_LENGTH {
        assert_eq!(verdict(body, &with_unknown, now), expected, "unknown schemes do not matter");
    }

    let Ok((name, skew)) = verified else { return };
    assert!(skew <= TOLERANCE_SECONDS, "older signatures are refused");
    let signed_at = now.saturating_sub(skew);
    let last = signed_at.saturating_add(TOLERANCE_SECONDS);
    assert_eq!(verdict(body, header, last), Ok((name.clone(), last.saturating_sub(signed_at))));
    if let Some(too_late) = last.checked_add(1) {
        assert_eq!(verdict(body, header, too_late), Err(RejectionReason::TooOld));
    }
    let longer = [body, b" "].concat();
    assert_eq!(verdict(&longer, header, now), Err(RejectionReason::NoMatch), "no byte can be appended");
}

fn parse_secrets(secrets: &[(&str, &str)]) -> WebhookSecrets {
    if secrets.is_empty() {
        return WebhookSecrets::none();
    }
    let mut list = String::new();
    for (index, (name, secret)) in secrets.iter().enumerate() {
        let _ = write!(list, "{}{name}={secret}", if index == 0 { "" } else { "," });
    }
    WebhookSecrets::parse(&list).expect("secrets")
}

/// The result by Stripe's rules (<https://docs.stripe.com/webhooks#verify-manually>), independent
/// of the service's code.
fn expected(
    body: &[u8],
    header: &str,
    secrets: &[(&str, &str)],
    now: i64,
) -> Result<(String, i64), RejectionReason> {
    if header.len() > MAX_HEADER_LENGTH {
        return Err(RejectionReason::Malformed);
    }
    let items: Vec<(&str, &str)> = header.split(',').filter_map(|item| item.trim().split_once('=')).collect();
    let of_scheme = |scheme: &str| -> Vec<&str> {
        items.iter().filter(|(name, _)| *name == scheme).map(|(_, value)| *value).collect()
    };
    let (timestamps, signatures) = (of_scheme("t"), of_scheme("v1"));
    let [timestamp] = timestamps[..] else {
        return Err(RejectionReason::Malformed);
    };
    let seconds =
        timestamp.parse::<i64>().ok().filter(|_| timestamp.starts_with(|c: char| c.is_ascii_digit()));
    let Some(seconds) = seconds else {
        return Err(RejectionReason::Malformed);
    };
    if signatures.is_empty() {
        return Err(RejectionReason::Malformed);
    }
    // The age is checked before the signatures.
    let skew = now.saturating_sub(seconds);
    if skew > TOLERANCE_SECONDS {
        return Err(RejectionReason::TooOld);
    }
    let signer = secrets.iter().rev().find(|(_, secret)| {
        let digits = hex::encode(signature(secret, timestamp, body));
        signatures.iter().any(|signature| signature.eq_ignore_ascii_case(&digits))
    });
    match signer {
        Some((name, _)) => Ok(((*name).to_owned(), skew)),
        None => Err(RejectionReason::NoMatch),
    }
}

pub(crate) fn signature(secret: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    hmac(secret.as_bytes(), &[timestamp.as_bytes(), b".", body])
}

/// HMAC-SHA256 (RFC 2104)
pub(crate) fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
    let inner = message.iter().fold(padded(0x36), Digest::chain_update).finalize();
    padded(0x5c).chain_update(inner).finalize().into()
}
