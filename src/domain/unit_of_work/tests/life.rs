//! A subscription from its beginning to its end, and the next one.

use super::*;
use crate::domain::subscription::PaymentProblem;

const APPLIED: (Outcome, Option<&str>) = (Outcome::Applied, None);

#[test]
fn a_life_in_order_is_followed_step_by_step() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("incomplete").at(1),
        Draft::updated("active").at(2),
        Draft::updated("past_due").at(3),
        Draft::updated("active").at(4),
        Draft::deleted("canceled").at(5),
    ]);
    assert_eq!(
        stage.journal(),
        [
            "sub_1: nothing -> incomplete",
            "sub_1: incomplete -> active",
            "sub_1: active -> past_due",
            "sub_1: past_due -> active",
            "sub_1: active -> canceled",
        ]
    );
    let held = stage.work.held(&subscription_id("sub_1")).expect("it is held");
    assert_eq!((held.tenant.as_str(), held.subscription.customer.as_str()), ("acme", "cus_acme"));
    assert_eq!((held.subscription.as_of, held.subscription.revision), (5, 5));
}

#[test]
fn a_journal_entry_says_for_whom_by_what_and_when() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(7).named("evt_first")]);
    let expected = JournalEntry {
        entry: Entry::Transition { subscription: subscription_id("sub_1"), from: None, to: Status::Active },
        tenant: tenant_id("acme"),
        customer: customer_id("cus_acme"),
        cause: "customer.subscription.created".into(),
        event: Some("evt_first".parse().expect("an event id")),
        at: 7,
        journey: None,
    };
    assert_eq!(stage.work.changes().journal, [expected]);
}

#[test]
fn saying_the_same_again_is_applied_and_changes_nothing() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1)]);
    assert_eq!(stage.hears(Draft::updated("active").at(2)), (Outcome::Applied, Some("no_change")));
    assert_eq!(stage.journal(), ["sub_1: nothing -> active"]);
    assert_eq!(stage.subscription("sub_1").revision, 2, "an answer that was asked for before is overtaken");
    assert_eq!(stage.subscription("sub_1").as_of, 2, "what is older than the repeat is now old");
    assert_eq!(stage.hears(Draft::updated("active").at(1)), (Outcome::Applied, Some("no_change")));
    assert_eq!(stage.subscription("sub_1").as_of, 2, "an older repeat turns no time back");
}

#[test]
fn a_change_of_date_alone_is_journaled_with_the_same_status_twice() {
    let mut stage = Stage::with_acme();
    let to_end = Draft::updated("active").at(2).on_state(|state| state.cancel_at = Some(10_000));
    stage.applies([Draft::created("active").at(1), to_end]);
    assert_eq!(stage.journal(), ["sub_1: nothing -> active", "sub_1: active -> active"]);
    assert!(stage.entitlement(&["sub_1"]).scheduled_cancel);
}

#[test]
fn what_comes_late_is_stale_and_changes_nothing() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::updated("past_due").at(9)]);
    assert_eq!(stage.hears(Draft::updated("active").at(8)), (Outcome::Stale, Some("older")));
    let first = Draft::created("incomplete").at(9).named("evt_first");
    assert_eq!(stage.hears(first), (Outcome::Stale, Some("same_second")));
    assert_eq!((stage.status("sub_1"), stage.subscription("sub_1").revision), ("past_due", 1));
    assert_eq!(stage.journal(), ["sub_1: nothing -> past_due"]);
}

#[test]
fn the_end_stands_however_late_it_comes_and_nothing_revives_it() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::updated("active").at(9), Draft::deleted("canceled").at(3)]);
    assert_eq!(stage.status("sub_1"), "canceled");
    assert_eq!(stage.hears(Draft::updated("active").at(99)), (Outcome::Stale, Some("already_final")));
    assert_eq!(stage.status("sub_1"), "canceled");
}

#[test]
fn deleted_means_the_end_whatever_status_it_was_drawn_with() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::deleted("active").at(2)]);
    assert_eq!(stage.status("sub_1"), "canceled");

    stage.applies([Draft::deleted("incomplete_expired").for_subscription("sub_2")]);
    assert_eq!(stage.status("sub_2"), "incomplete_expired", "an end of its own kind is kept");
}

#[test]
fn an_announcement_makes_a_row_but_never_overwrites_one() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::trial_will_end("trialing").at(1)]);
    assert_eq!(stage.status("sub_1"), "trialing");
    stage.applies([Draft::updated("active").at(2)]);
    let announcement = Draft::trial_will_end("trialing").at(3);
    assert_eq!(stage.hears(announcement), (Outcome::Stale, Some("announcement")));
    assert_eq!(stage.status("sub_1"), "active");
}

#[test]
fn an_announcement_says_nothing_of_the_time_for_its_snapshot_can_be_old() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("trialing").at(1),
        Draft::trial_will_end("trialing").at(9),
        Draft::updated("active").at(8),
    ]);
    assert_eq!(stage.status("sub_1"), "active", "though it was held at 9");

    let mut stage = Stage::with_acme();
    stage.applies([Draft::trial_will_end("trialing").at(9), Draft::updated("active").at(8)]);
    assert_eq!(stage.status("sub_1"), "active", "though it was first seen at 9");
}

#[test]
fn a_status_that_stripe_has_added_since_is_held_and_grants_nothing() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::updated("hibernating").at(2)]);
    assert_eq!((stage.status("sub_1"), stage.grants("sub_1")), ("hibernating", false));
    stage.applies([Draft::updated("active").at(3)]);
    assert!(stage.grants("sub_1"));
}

#[test]
fn a_price_that_is_configured_nowhere_is_applied_loudly_and_gives_free() {
    let mut stage = Stage::with_acme();
    let effect = stage.plays(Draft::created("active").at_price("price_from_the_dashboard"));
    assert_eq!((effect.outcome, effect.reason), (Outcome::Applied, Some("price_not_configured")));
    assert!(effect.loud);
    let entitlement = stage.entitlement(&["sub_1"]);
    assert_eq!((entitlement.plan, entitlement.access), (None, true));

    let effect = stage.plays(Draft::updated("active").at(101));
    assert_eq!((effect.outcome, effect.reason, effect.loud), (Outcome::Applied, None, false));
}

#[test]
fn a_new_subscription_after_an_end_stands_beside_the_old_one_and_speaks() {
    let mut stage = Stage::with_acme();
    let again = |draft: Draft| draft.for_subscription("sub_2").at_price("price_team");
    stage.applies([Draft::created("active").at(1), Draft::deleted("canceled").at(2)]);
    stage.applies([again(Draft::created("incomplete")).at(3), again(Draft::updated("active")).at(4)]);

    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("canceled", "active"));
    let entitlement = stage.entitlement(&["sub_1", "sub_2"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));

    assert_eq!(stage.hears(Draft::updated("active").at(5)), (Outcome::Stale, Some("already_final")));
    assert_eq!(stage.status("sub_2"), "active", "what the old one hears is not about the new one");
}

#[test]
fn invoices_note_a_payment_problem_and_clear_it_without_touching_the_status() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1)]);

    assert_eq!(stage.hears(Draft::invoice_payment_failed().at(2)), APPLIED);
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
    assert_eq!(stage.hears(Draft::invoice_action_required().at(3)), APPLIED);
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::ActionRequired));
    assert_eq!(stage.hears(Draft::invoice_paid().at(4)), APPLIED);
    assert_eq!(stage.subscription("sub_1").payment_problem, None);

    assert_eq!((stage.status("sub_1"), stage.subscription("sub_1").as_of), ("active", 1));
    let told = ["sub_1: nothing -> active", "payment.noted", "payment.noted", "payment.noted"];
    assert_eq!(stage.journal(), told);
}

#[test]
fn a_payment_problem_outlives_the_snapshots_that_do_not_know_of_it() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("active").at(1),
        Draft::invoice_payment_failed().at(2),
        Draft::updated("past_due").at(2),
    ]);
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn a_note_raises_the_revision_so_that_an_answer_can_tell_it_was_overtaken() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1)]);
    let before = stage.subscription("sub_1").revision;
    stage.applies([Draft::invoice_payment_failed().at(2)]);
    assert!(stage.subscription("sub_1").revision > before);
}

#[test]
fn an_invoice_for_nothing_that_we_hold_is_ignored() {
    let mut stage = Stage::with_acme();
    assert_eq!(stage.hears(Draft::invoice_paid()), (Outcome::Ignored, Some("subscription_not_held")));
    let mut one_off = Draft::invoice_paid().into_event();
    one_off.subject = Subject::Invoice(
        InvoiceChange::Paid,
        Invoice { customer: customer_id("cus_acme"), subscription: None, journey: None },
    );
    let effect = stage.work.apply(&one_off, None, &stage.policy);
    assert_eq!((effect.outcome, effect.reason), (Outcome::Ignored, Some("not_for_a_subscription")));
    assert_eq!(stage.journal(), [""; 0]);
}

#[test]
fn stripes_answer_stands_at_its_own_time_and_says_whether_it_changed_anything() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("incomplete").at(1)]);
    let event = Draft::updated("active").into_event();
    let Subject::Subscription(_, snapshot) = &event.subject else { panic!("a subscription") };

    assert!(stage.work.answer(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 50));
    assert_eq!((stage.status("sub_1"), stage.subscription("sub_1").as_of), ("active", 50));
    let entry = stage.last_entry();
    assert_eq!((entry.cause.as_str(), &entry.event, entry.at), ("refresh", &None, 50));

    assert!(!stage.work.answer(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 60));
    assert_eq!(stage.journal().len(), 2);
    assert_eq!(stage.hears(Draft::updated("past_due").at(55)), (Outcome::Stale, Some("older")));
}

#[test]
fn invoices_that_come_late_do_not_undo_what_came_after_them() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::invoice_paid().at(9)]);
    assert_eq!(stage.hears(Draft::invoice_payment_failed().at(5)), (Outcome::Stale, Some("older")));
    assert_eq!(stage.hears(Draft::invoice_payment_failed().at(9)), (Outcome::Stale, Some("older")));
    assert_eq!(stage.subscription("sub_1").payment_problem, None);
    stage.applies([Draft::invoice_payment_failed().at(10)]);
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn a_payment_answers_the_question_of_a_session_that_comes_late() {
    for checkout in [vec![], vec![super::stage::checkout("cs_1", "acme", "cus_acme", 1)]] {
        let mut stage = Stage::set(&[("acme", Some("cus_acme"))], checkout);
        stage.applies([
            Draft::created("active").at(1),
            Draft::invoice_paid().at(9),
            Draft::session_completed().unpaid().at(2),
        ]);
        assert!(stage.grants("sub_1"));
    }
}

#[test]
fn what_stripe_answered_stands_against_the_events_of_its_second() {
    let mut stage = Stage::with_acme();
    let answer = Draft::updated("active").into_event();
    let Subject::Subscription(_, snapshot) = &answer.subject else { unreachable!() };
    assert!(stage.work.answer(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 12));
    let first = Draft::created("incomplete").at(12);
    assert_eq!(stage.hears(first), (Outcome::Stale, Some("undecided_second")));
    assert_eq!(stage.status("sub_1"), "active");
}

#[test]
fn a_failure_after_the_first_payment_does_not_ask_again_whether_there_was_one() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("active").at(1),
        Draft::invoice_paid().at(3),
        Draft::invoice_payment_failed().at(4),
        Draft::session_completed().unpaid().at(2),
    ]);
    assert!(stage.grants("sub_1"));
}
