//! The `Stripe-Signature` header. What is believed must have been signed, with a secret of ours and not too long ago; and
//! what was, must be believed. An independent reading of Stripe's rules says which.

use std::fmt::Write;

use arbitrary::{Arbitrary, Unstructured};
use sha2::{Digest, Sha256};

use crate::domain::signature::{RefusalReason, TOLERANCE_SECONDS, verify};
use crate::domain::webhook_secret::WebhookSecrets;

/// The names and the secrets that may be configured: also one longer than the hash's block, and one with an `=` in it.
const SECRETS: [(&str, &str); 4] = [
    ("new", "whsec_new"),
    ("old", "whsec_old"),
    ("long", "whsec_0123456789012345678901234567890123456789012345678901234567890123456789"),
    ("2", "whsec_a=b"),
];

/// The longest header that is read.
const HEADER_LENGTH: usize = 32 * 1024;

/// What the clock says, or says nearly.
const NOW: i64 = 1_700_000_000;

/// A webhook on its way.
#[derive(Debug, Arbitrary)]
struct Delivery<'a> {
    configured: u8,
    now: Moment,
    header: Vec<Item<'a>>,
    body: &'a [u8],
}

/// A time near [`NOW`], or any.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Moment {
    Near(i16),
    Any(i64),
}

/// What stands between two commas.
#[derive(Debug, Arbitrary)]
enum Item<'a> {
    Timestamp(Moment),
    Signature { scheme: Scheme, by: u8, at: Moment, over: Over, upper_case: bool, spoiled: Option<u8> },
    Text(&'a str),
}

#[derive(Debug, Arbitrary)]
enum Scheme {
    V1,
    V0,
    V10,
}

/// Which bytes were signed.
#[derive(Debug, Arbitrary)]
enum Over {
    TheBody,
    AnotherBody,
}

impl Moment {
    fn seconds(self) -> i64 {
        match self {
            Self::Near(offset) => NOW + i64::from(offset),
            Self::Any(seconds) => seconds,
        }
    }
}

impl Item<'_> {
    fn text(&self, body: &[u8]) -> String {
        match self {
            Self::Timestamp(moment) => format!("t={}", moment.seconds()),
            Self::Text(text) => (*text).to_owned(),
            Self::Signature { scheme, by, at, over, upper_case, spoiled } => {
                let scheme = match scheme {
                    Scheme::V1 => "v1",
                    Scheme::V0 => "v0",
                    Scheme::V10 => "v10",
                };
                let (_, secret) = SECRETS[usize::from(*by) % SECRETS.len()];
                let body = match over {
                    Over::TheBody => body,
                    Over::AnotherBody => b"another body",
                };
                let mut signature = signature(secret, &at.seconds().to_string(), body);
                if let Some(at) = spoiled {
                    signature[usize::from(*at) % 32] ^= 1;
                }
                let digits = hex::encode(signature);
                format!("{scheme}={}", if *upper_case { digits.to_uppercase() } else { digits })
            }
        }
    }
}

/// A webhook with some of our secrets configured, and with a header of parts that were signed or look like it.
pub fn delivery(data: &[u8]) {
    let Ok(delivery) = Delivery::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let header: Vec<String> = delivery.header.iter().map(|item| item.text(delivery.body)).collect();
    let configured = (0..SECRETS.len()).filter(|index| delivery.configured >> index & 1 == 1);
    let configured: Vec<_> = configured.map(|index| SECRETS[index]).collect();
    holds(delivery.body, &header.join(","), &configured, delivery.now.seconds());
}

/// A header of any bytes, over a body that is always the same.
pub fn header(data: &[u8]) {
    if let Ok(header) = str::from_utf8(data) {
        holds(b"{}", header, &SECRETS, NOW);
    }
}

fn holds(body: &[u8], header: &str, configured: &[(&str, &str)], now: i64) {
    let secrets = parsed(configured);
    let verdict = |body, header: &str, now| {
        let verified = verify(body, Some(header), &secrets, now);
        verified.map(|verified| (verified.secret.to_string(), verified.skew_seconds)).map_err(|r| r.reason)
    };
    let expected = expected(body, header, configured, now);
    let verified = verdict(body, header, now);
    assert_eq!(verified, expected, "{header:?}");

    let back_to_front: Vec<&str> = header.rsplit(',').collect();
    assert_eq!(verdict(body, &back_to_front.join(","), now), expected, "whatever the order");
    let with_news = format!("{header},v2=00,x");
    if with_news.len() <= HEADER_LENGTH {
        assert_eq!(verdict(body, &with_news, now), expected, "whatever schemes there will be");
    }

    let Ok((name, skew)) = verified else { return };
    assert!(skew <= TOLERANCE_SECONDS, "no replay");
    let signed_at = now.saturating_sub(skew);
    let last = signed_at.saturating_add(TOLERANCE_SECONDS);
    assert_eq!(verdict(body, header, last), Ok((name.clone(), last.saturating_sub(signed_at))));
    if let Some(too_late) = last.checked_add(1) {
        assert_eq!(verdict(body, header, too_late), Err(RefusalReason::TooOld));
    }
    let longer = [body, b" "].concat();
    assert_eq!(verdict(&longer, header, now), Err(RefusalReason::NoMatch), "not one byte more");
}

fn parsed(secrets: &[(&str, &str)]) -> WebhookSecrets {
    if secrets.is_empty() {
        return WebhookSecrets::none();
    }
    let mut list = String::new();
    for (index, (name, secret)) in secrets.iter().enumerate() {
        let _ = write!(list, "{}{name}={secret}", if index == 0 { "" } else { "," });
    }
    WebhookSecrets::parse(&list).expect("secrets")
}

/// What Stripe's rules say of it (<https://docs.stripe.com/webhooks#verify-manually>), read from the page and not from
/// the service's code.
fn expected(
    body: &[u8],
    header: &str,
    secrets: &[(&str, &str)],
    now: i64,
) -> Result<(String, i64), RefusalReason> {
    if header.len() > HEADER_LENGTH {
        return Err(RefusalReason::Malformed);
    }
    let items: Vec<(&str, &str)> = header.split(',').filter_map(|item| item.trim().split_once('=')).collect();
    let of_scheme = |scheme: &str| -> Vec<&str> {
        items.iter().filter(|(name, _)| *name == scheme).map(|(_, value)| *value).collect()
    };
    let (timestamps, signatures) = (of_scheme("t"), of_scheme("v1"));
    let [timestamp] = timestamps[..] else {
        return Err(RefusalReason::Malformed);
    };
    let seconds =
        timestamp.parse::<i64>().ok().filter(|_| timestamp.starts_with(|c: char| c.is_ascii_digit()));
    let Some(seconds) = seconds else {
        return Err(RefusalReason::Malformed);
    };
    if signatures.is_empty() {
        return Err(RefusalReason::Malformed);
    }
    // Before any secret is asked: an old one is refused whoever signed it.
    let skew = now.saturating_sub(seconds);
    if skew > TOLERANCE_SECONDS {
        return Err(RefusalReason::TooOld);
    }
    let signer = secrets.iter().rev().find(|(_, secret)| {
        let digits = hex::encode(signature(secret, timestamp, body));
        signatures.iter().any(|signature| signature.eq_ignore_ascii_case(&digits))
    });
    match signer {
        Some((name, _)) => Ok(((*name).to_owned(), skew)),
        None => Err(RefusalReason::NoMatch),
    }
}

/// What a secret signs.
pub(crate) fn signature(secret: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    hmac(secret.as_bytes(), &[timestamp.as_bytes(), b".", body])
}

/// HMAC-SHA256, as RFC 2104 writes it down.
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
