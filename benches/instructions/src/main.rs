//! Verifies, parses or applies one webhook several times, so that its CPU instructions can be
//! counted:
//!
//!     instructions verify 100
//!
//! It does so once more than requested. The cost of the first time is then in every count, and
//! cancels out in a difference.

use std::env;
use std::hint::black_box;
use std::mem;
use std::process::ExitCode;

use domain::batch::Batch;
use domain::event::Event;
use domain::outcome::Outcome;
use domain::signature;
use domain::webhook_secret::WebhookSecrets;

#[allow(dead_code, reason = "only the service uses all of it")]
#[path = "../../../src/domain/mod.rs"]
pub mod domain;

mod renewal;

/// Batches are always prepared for this many, so that their cost cancels out in a difference.
const MAX_TIMES: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, times] = arguments.as_slice() else { return usage() };
    let Some(times) = times.parse().ok().filter(|times| *times <= MAX_TIMES) else { return usage() };
    match what.as_str() {
        "verify" => verify(times),
        "parse" => parse(times),
        "decide" => decide(times),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions verify|parse|decide TIMES, with TIMES from 0 to {MAX_TIMES}");
    ExitCode::FAILURE
}

fn verify(times: usize) {
    let body = renewal::body(renewal::CREATED);
    let header = renewal::signature(&body);
    let secrets = WebhookSecrets::parse(renewal::SECRET).expect("a secret");
    for _ in 0..=times {
        let (body, header) = black_box((body.as_bytes(), header.as_str()));
        let verified = signature::verify(body, Some(header), &secrets, renewal::CREATED).expect("a valid signature");
        black_box(verified);
    }
}

/// Includes dropping the event.
fn parse(times: usize) {
    let body = renewal::body(renewal::CREATED);
    for _ in 0..=times {
        let event = Event::read(black_box(body.as_bytes())).expect("an event");
        black_box(event);
    }
}

/// Applies the renewal of a stored subscription, each time to new rows.
fn decide(times: usize) {
    let (rows, policy) = (renewal::Rows::before_renewal(), renewal::policy());
    let event = Event::read(renewal::body(renewal::CREATED).as_bytes()).expect("an event");
    let mut batches: Vec<Batch> = (0..=MAX_TIMES).map(|_| rows.to_batch()).collect();
    for batch in batches.iter_mut().take(times + 1) {
        let effect = batch.apply(black_box(&event), Some(renewal::journey()), &policy);
        assert_eq!((effect.outcome, effect.reason), (Outcome::Applied, None), "the renewal is applied");
        black_box(effect);
    }
    // Not measured: dropping a changed batch costs more.
    mem::forget(batches);
}
