//! Stripe's event for a renewed subscription: the whole object, indented as in Stripe's bodies,
//! about 5 KB. Only the placeholders in a template are filled in, so that creating an event costs
//! the load generator little.

use std::sync::LazyLock;

use billhook::clock::{Clock, SystemClock};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Subscriptions, each of another tenant: more than there are concurrent events, so that no two
/// events of one subscription overtake each other.
pub const SUBSCRIPTIONS: u64 = 2000;

/// The number of the first subscription. All have the same number of digits.
pub const FIRST_SUBSCRIPTION: u64 = 1_000_000_000_000_000;

/// Its placeholders are as long as their values.
const TEMPLATE: &str = include_str!("event.json");

/// How far in the past the first event is, so that a long run does not reach the future.
const AGE_SECONDS: i64 = 10_000_000;

/// When the first event of each subscription was created. Each next event is a second newer.
static FIRST_CREATED: LazyLock<i64> = LazyLock::new(|| SystemClock.now_seconds() - AGE_SECONDS);

const PERIOD_SECONDS: i64 = 2_592_000;

#[derive(Clone, Copy)]
enum Placeholder {
    Number,
    Subscription,
    Created,
    PeriodEnd,
    PreviousPeriodEnd,
}

/// Positions in the template.
static PLACEHOLDERS: LazyLock<Vec<(usize, Placeholder)>> = LazyLock::new(|| {
    let words = [
        ("@NUMBER____@", Placeholder::Number),
        ("@SUBSCRIPTION__@", Placeholder::Subscription),
        ("@CREATED_@", Placeholder::Created),
        ("@RENEWED_@", Placeholder::PeriodEnd),
        ("@ENDED___@", Placeholder::PreviousPeriodEnd),
    ];
    words
        .into_iter()
        .flat_map(|(word, placeholder)| TEMPLATE.match_indices(word).map(move |(at, _)| (at, placeholder)))
        .collect()
});

/// `created` rises with the number, so that each event is newer than the stored state.
pub fn body(number: u64) -> String {
    let (subscription, round) = (FIRST_SUBSCRIPTION + number % SUBSCRIPTIONS, number / SUBSCRIPTIONS);
    let created = *FIRST_CREATED + i64::try_from(round).expect("a small number");
    let mut body = TEMPLATE.to_owned();
    for (at, placeholder) in PLACEHOLDERS.iter() {
        let value = match placeholder {
            Placeholder::Number => format!("{number:012}"),
            Placeholder::Subscription => subscription.to_string(),
            Placeholder::Created => created.to_string(),
            Placeholder::PeriodEnd => (created + PERIOD_SECONDS).to_string(),
            // Matches the previous event, so that the service needs no refresh.
            Placeholder::PreviousPeriodEnd => (created + PERIOD_SECONDS - 1).to_string(),
        };
        body.replace_range(*at..at + value.len(), &value);
    }
    body
}

/// The value of `Stripe-Signature`.
pub fn signature(secret: &str, body: &str) -> String {
    let now = SystemClock.now_seconds();
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC accepts a key of any length");
    mac.update(format!("{now}.").as_bytes());
    mac.update(body.as_bytes());
    format!("t={now},v1={}", hex::encode(mac.finalize().into_bytes()))
}
