//! `trial_will_end` and `pending_update_*`: what they announce is true, what they show can be old.

use super::*;
use crate::domain::subscription::PaymentProblem;

#[test]
fn an_old_snapshot_takes_back_neither_plan_nor_end() {
    let mut stage = Stage::with_acme();
    let to_end = Draft::updated("trialing").at(2).at_price("price_team");
    stage
        .applies([Draft::created("trialing").at(1), to_end.on_state(|state| state.cancel_at = Some(10_000))]);
    assert_eq!(stage.hears(Draft::trial_will_end("trialing").at(3)), (Outcome::Stale, Some("announcement")));
    let entitlement = stage.entitlement(&["sub_1"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));
    assert!(entitlement.scheduled_cancel);
}

#[test]
fn an_old_snapshot_does_not_compete_within_its_second() {
    for [first, second] in [
        [Draft::updated("active").named("evt_a"), Draft::trial_will_end("trialing").named("evt_z")],
        [Draft::trial_will_end("trialing").named("evt_z"), Draft::updated("active").named("evt_a")],
    ] {
        let mut stage = Stage::with_acme();
        stage.applies([Draft::created("trialing").at(1)]);
        stage.plays(first);
        stage.plays(second);
        assert_eq!(stage.status("sub_1"), "active");
    }
}

#[test]
fn of_two_announcements_without_anything_real_the_first_stands_for_now() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::trial_will_end("trialing").at(5)]);
    let another = Draft::trial_will_end("past_due").at(9);
    assert_eq!(stage.hears(another), (Outcome::Stale, Some("announcement")));
    stage.applies([Draft::created("active").at(1)]);
    assert_eq!((stage.status("sub_1"), stage.subscription("sub_1").as_of), ("active", 1));
}

#[test]
fn an_end_that_an_announcement_shows_is_an_end() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::trial_will_end("canceled").at(9)]);
    assert_eq!(stage.status("sub_1"), "canceled");
    assert_eq!(stage.hears(Draft::updated("active").at(20)), (Outcome::Stale, Some("already_final")));
}

#[test]
fn what_a_row_that_was_announced_has_noted_outlives_the_real_snapshot() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::session_completed().unpaid().at(2),
        Draft::trial_will_end("active").at(5),
        Draft::invoice_payment_failed().at(4),
        Draft::created("active").at(1),
        Draft::updated("past_due").at(4),
    ]);
    assert!(!stage.grants("sub_1"), "the money is still on its way");
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}
