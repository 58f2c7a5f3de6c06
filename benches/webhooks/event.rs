//! What Stripe posts when a subscription is renewed: the whole object, indented as Stripe's own bodies are, some 5 KB.
//! Written once; of each event only what differs is filled in, so that making it costs the generator little.

use std::sync::LazyLock;

use billhook::clock::{Clock, SystemClock};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Subscriptions that are renewed, each of a tenant of its own: more than there are events on their way at once, so that
/// no two of them are of one subscription and come in the wrong order.
pub const SUBSCRIPTIONS: u64 = 2000;

/// The number of the first of them: with as many digits as any.
pub const FIRST_SUBSCRIPTION: u64 = 1_000_000_000_000_000;

/// The body, with gaps as wide as what is filled in.
const EVENT: &str = include_str!("event.json");

/// How far back the first event lies, so that those of a long run are not from the future.
const BEFORE: i64 = 10_000_000;

/// When the first event of each subscription was created. Each later one is of a second later.
static FIRST_CREATED: LazyLock<i64> = LazyLock::new(|| SystemClock.now_seconds() - BEFORE);

/// How long a period is, in seconds.
const PERIOD: i64 = 2_592_000;

/// What is missing at a place.
#[derive(Clone, Copy)]
enum Gap {
    Number,
    Subscription,
    Created,
    PeriodEnd,
    PreviousPeriodEnd,
}

/// Where the gaps are.
static GAPS: LazyLock<Vec<(usize, Gap)>> = LazyLock::new(|| {
    let words = [
        ("@NUMBER____@", Gap::Number),
        ("@SUBSCRIPTION__@", Gap::Subscription),
        ("@CREATED_@", Gap::Created),
        ("@RENEWED_@", Gap::PeriodEnd),
        ("@ENDED___@", Gap::PreviousPeriodEnd),
    ];
    words
        .into_iter()
        .flat_map(|(word, gap)| EVENT.match_indices(word).map(move |(at, _)| (at, gap)))
        .collect()
});

/// The body of one event. The times go up with the numbers, so that each is newer than what is held.
pub fn body(number: u64) -> String {
    let (subscription, round) = (FIRST_SUBSCRIPTION + number % SUBSCRIPTIONS, number / SUBSCRIPTIONS);
    let created = *FIRST_CREATED + i64::try_from(round).expect("a small number");
    let mut body = EVENT.to_owned();
    for (at, gap) in GAPS.iter() {
        let word = match gap {
            Gap::Number => format!("{number:012}"),
            Gap::Subscription => subscription.to_string(),
            Gap::Created => created.to_string(),
            Gap::PeriodEnd => (created + PERIOD).to_string(),
            // That of the event before, so that the service holds what this one replaces.
            Gap::PreviousPeriodEnd => (created + PERIOD - 1).to_string(),
        };
        body.replace_range(*at..at + word.len(), &word);
    }
    body
}

/// `Stripe-Signature` for a body, as Stripe writes it.
pub fn signature(secret: &str, body: &str) -> String {
    let now = SystemClock.now_seconds();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{now}.").as_bytes());
    mac.update(body.as_bytes());
    format!("t={now},v1={}", hex::encode(mac.finalize().into_bytes()))
}
