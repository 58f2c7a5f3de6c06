//! One webhook, verified, read or applied as often as is asked, for whoever counts the instructions of that:
//!
//!     instructions verify 100
//!
//! It is done once more than that, so that what only the first time costs is in every count, and in no difference of two.

use std::env;
use std::hint::black_box;
use std::mem;
use std::process::ExitCode;

use domain::event::Event;
use domain::outcome::Outcome;
use domain::signature;
use domain::unit_of_work::UnitOfWork;
use domain::webhook_secret::WebhookSecrets;

#[path = "../../../src/domain/mod.rs"]
pub mod domain;

mod renewal;

/// The most that can be asked for. Rows are made ready for so many whatever is asked, so that it is in no difference.
const MOST: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, times] = arguments.as_slice() else { return usage() };
    let Some(times) = times.parse().ok().filter(|times| *times <= MOST) else { return usage() };
    match what.as_str() {
        "verify" => verify(times),
        "parse" => parse(times),
        "decide" => decide(times),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("instructions verify|parse|decide TIMES, of which there are {MOST} at most");
    ExitCode::FAILURE
}

/// A body that the one secret signed.
fn verify(times: usize) {
    let body = renewal::body(renewal::AT);
    let header = renewal::signature(&body);
    let secrets = WebhookSecrets::parse(renewal::SECRET).expect("a secret");
    for _ in 0..=times {
        let (body, header) = black_box((body.as_bytes(), header.as_str()));
        let verified = signature::verify(body, Some(header), &secrets, renewal::AT).expect("our signature");
        black_box(verified);
    }
}

/// From the bytes to the event, and the end of both.
fn parse(times: usize) {
    let body = renewal::body(renewal::AT);
    for _ in 0..=times {
        let event = Event::read(black_box(body.as_bytes())).expect("an event");
        black_box(event);
    }
}

/// A renewal of a subscription that is held, each on rows of its own.
fn decide(times: usize) {
    let (rows, policy) = (renewal::Rows::before(), renewal::policy());
    let event = Event::read(renewal::body(renewal::AT).as_bytes()).expect("an event");
    let mut units: Vec<UnitOfWork> = (0..=MOST).map(|_| rows.begin()).collect();
    for unit in units.iter_mut().take(times + 1) {
        let effect = unit.apply(black_box(&event), Some(renewal::journey()), &policy);
        assert_eq!((effect.outcome, effect.reason), (Outcome::Applied, None), "the renewal is news");
        black_box(effect);
    }
    // A unit that was changed costs more to drop, and that is no part of the decision.
    mem::forget(units);
}
