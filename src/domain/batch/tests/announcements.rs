//! `trial_will_end` and `pending_update_*`: their snapshots can be old.

use super::*;
use crate::domain::subscription::PaymentProblem;

#[test]
fn announcement_with_old_snapshot_keeps_plan_and_cancel_at() {
    let mut scenario = Scenario::with_acme();
    let to_end = TestEvent::updated("trialing").at(2).with_price("price_team");
    scenario.apply_all([
        TestEvent::created("trialing").at(1),
        to_end.edit_state(|state| state.cancel_at = Some(10_000)),
    ]);
    assert_eq!(
        scenario.outcome_of(TestEvent::trial_will_end("trialing").at(3)),
        (Outcome::Stale, Some("announcement"))
    );
    let entitlement = scenario.entitlement(&["sub_1"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));
    assert!(entitlement.scheduled_cancel);
}

#[test]
fn announcement_is_not_compared_within_its_second() {
    for [first, second] in [
        [TestEvent::updated("active").id("evt_a"), TestEvent::trial_will_end("trialing").id("evt_z")],
        [TestEvent::trial_will_end("trialing").id("evt_z"), TestEvent::updated("active").id("evt_a")],
    ] {
        let mut scenario = Scenario::with_acme();
        scenario.apply_all([TestEvent::created("trialing").at(1)]);
        scenario.apply(first);
        scenario.apply(second);
        assert_eq!(scenario.status("sub_1"), "active");
    }
}

#[test]
fn first_announcement_stays_until_another_event_arrives() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::trial_will_end("trialing").at(5)]);
    let another = TestEvent::trial_will_end("past_due").at(9);
    assert_eq!(scenario.outcome_of(another), (Outcome::Stale, Some("announcement")));
    scenario.apply_all([TestEvent::created("active").at(1)]);
    assert_eq!((scenario.status("sub_1"), scenario.subscription("sub_1").as_of), ("active", 1));
}

#[test]
fn announcement_with_final_status_ends_the_subscription() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::trial_will_end("canceled").at(9)]);
    assert_eq!(scenario.status("sub_1"), "canceled");
    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(20)),
        (Outcome::Stale, Some("already_final"))
    );
}

#[test]
fn payment_notes_outlive_the_state_from_an_announcement() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::session_completed().unpaid().at(2),
        TestEvent::trial_will_end("active").at(5),
        TestEvent::invoice_payment_failed().at(4),
        TestEvent::created("active").at(1),
        TestEvent::updated("past_due").at(4),
    ]);
    assert!(!scenario.grants("sub_1"), "the first payment is pending");
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}
