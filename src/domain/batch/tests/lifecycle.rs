use super::*;
use crate::domain::subscription::PaymentProblem;

const APPLIED: (Outcome, Option<&str>) = (Outcome::Applied, None);

#[test]
fn ordered_events_are_applied_one_by_one() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("incomplete").at(1),
        TestEvent::updated("active").at(2),
        TestEvent::updated("past_due").at(3),
        TestEvent::updated("active").at(4),
        TestEvent::deleted("canceled").at(5),
    ]);
    assert_eq!(
        scenario.journal(),
        [
            "sub_1: nothing -> incomplete",
            "sub_1: incomplete -> active",
            "sub_1: active -> past_due",
            "sub_1: past_due -> active",
            "sub_1: active -> canceled",
        ]
    );
    let stored = scenario.batch.subscription(&subscription_id("sub_1")).expect("it is stored");
    assert_eq!((stored.tenant.as_str(), stored.subscription.customer.as_str()), ("acme", "cus_acme"));
    assert_eq!((stored.subscription.as_of, stored.subscription.revision), (5, 5));
}

#[test]
fn journal_entry_has_tenant_customer_cause_event_and_time() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(7).id("evt_first")]);
    let expected = JournalEntry {
        kind: EntryKind::Transition {
            subscription: subscription_id("sub_1"),
            from: None,
            to: Status::Active,
        },
        tenant: tenant_id("acme"),
        customer: customer_id("cus_acme"),
        cause: "customer.subscription.created".into(),
        event: Some("evt_first".parse().expect("an event id")),
        at: 7,
        journey: None,
    };
    assert_eq!(scenario.batch.changes().journal, [expected]);
}

#[test]
fn equal_state_is_applied_without_change() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1)]);
    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(2)),
        (Outcome::Applied, Some("no_change"))
    );
    assert_eq!(scenario.journal(), ["sub_1: nothing -> active"]);
    assert_eq!(scenario.subscription("sub_1").revision, 2, "it outdates the answer of a running refresh");
    assert_eq!(scenario.subscription("sub_1").as_of, 2, "events older than the repeat are stale");
    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(1)),
        (Outcome::Applied, Some("no_change"))
    );
    assert_eq!(scenario.subscription("sub_1").as_of, 2, "an older repeat does not decrease it");
}

#[test]
fn change_of_date_is_journaled_with_equal_statuses() {
    let mut scenario = Scenario::with_acme();
    let to_end = TestEvent::updated("active").at(2).edit_state(|state| state.cancel_at = Some(10_000));
    scenario.apply_all([TestEvent::created("active").at(1), to_end]);
    assert_eq!(scenario.journal(), ["sub_1: nothing -> active", "sub_1: active -> active"]);
    assert!(scenario.entitlement(&["sub_1"]).scheduled_cancel);
}

#[test]
fn late_event_is_stale_and_changes_nothing() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::updated("past_due").at(9)]);
    assert_eq!(scenario.outcome_of(TestEvent::updated("active").at(8)), (Outcome::Stale, Some("older")));
    let first = TestEvent::created("incomplete").at(9).id("evt_first");
    assert_eq!(scenario.outcome_of(first), (Outcome::Stale, Some("same_second")));
    assert_eq!((scenario.status("sub_1"), scenario.subscription("sub_1").revision), ("past_due", 1));
    assert_eq!(scenario.journal(), ["sub_1: nothing -> past_due"]);
}

#[test]
fn late_end_is_applied_and_never_revived() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::updated("active").at(9), TestEvent::deleted("canceled").at(3)]);
    assert_eq!(scenario.status("sub_1"), "canceled");
    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(99)),
        (Outcome::Stale, Some("already_final"))
    );
    assert_eq!(scenario.status("sub_1"), "canceled");
}

#[test]
fn deleted_event_ends_subscription_whatever_its_status() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::deleted("active").at(2)]);
    assert_eq!(scenario.status("sub_1"), "canceled");

    scenario.apply_all([TestEvent::deleted("incomplete_expired").for_subscription("sub_2")]);
    assert_eq!(scenario.status("sub_2"), "incomplete_expired", "another final status is kept");
}

#[test]
fn announcement_creates_but_never_overwrites() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::trial_will_end("trialing").at(1)]);
    assert_eq!(scenario.status("sub_1"), "trialing");
    scenario.apply_all([TestEvent::updated("active").at(2)]);
    let announcement = TestEvent::trial_will_end("trialing").at(3);
    assert_eq!(scenario.outcome_of(announcement), (Outcome::Stale, Some("announcement")));
    assert_eq!(scenario.status("sub_1"), "active");
}

#[test]
fn announcement_does_not_make_earlier_events_stale() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("trialing").at(1),
        TestEvent::trial_will_end("trialing").at(9),
        TestEvent::updated("active").at(8),
    ]);
    assert_eq!(scenario.status("sub_1"), "active", "although the announcement is from second 9");

    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::trial_will_end("trialing").at(9), TestEvent::updated("active").at(8)]);
    assert_eq!(scenario.status("sub_1"), "active", "although the announcement is from second 9");
}

#[test]
fn unknown_status_is_stored_and_grants_no_access() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::updated("hibernating").at(2)]);
    assert_eq!((scenario.status("sub_1"), scenario.grants("sub_1")), ("hibernating", false));
    scenario.apply_all([TestEvent::updated("active").at(3)]);
    assert!(scenario.grants("sub_1"));
}

#[test]
fn unconfigured_price_is_applied_with_warning_and_gives_free() {
    let mut scenario = Scenario::with_acme();
    let effect = scenario.apply(TestEvent::created("active").with_price("price_from_the_dashboard"));
    assert_eq!((effect.outcome, effect.reason), (Outcome::Applied, Some("price_not_configured")));
    assert!(effect.is_warning);
    let entitlement = scenario.entitlement(&["sub_1"]);
    assert_eq!((entitlement.plan, entitlement.access), (None, true));

    let effect = scenario.apply(TestEvent::updated("active").at(101));
    assert_eq!((effect.outcome, effect.reason, effect.is_warning), (Outcome::Applied, None, false));
}

#[test]
fn new_subscription_after_an_end_determines_the_plan() {
    let mut scenario = Scenario::with_acme();
    let again = |event: TestEvent| event.for_subscription("sub_2").with_price("price_team");
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::deleted("canceled").at(2)]);
    scenario.apply_all([
        again(TestEvent::created("incomplete")).at(3),
        again(TestEvent::updated("active")).at(4),
    ]);

    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("canceled", "active"));
    let entitlement = scenario.entitlement(&["sub_1", "sub_2"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));

    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(5)),
        (Outcome::Stale, Some("already_final"))
    );
    assert_eq!(scenario.status("sub_2"), "active", "events of the old one do not affect it");
}

#[test]
fn invoices_set_and_clear_payment_problem_but_not_status() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1)]);

    assert_eq!(scenario.outcome_of(TestEvent::invoice_payment_failed().at(2)), APPLIED);
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
    assert_eq!(scenario.outcome_of(TestEvent::invoice_action_required().at(3)), APPLIED);
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::ActionRequired));
    assert_eq!(scenario.outcome_of(TestEvent::invoice_paid().at(4)), APPLIED);
    assert_eq!(scenario.subscription("sub_1").payment_problem, None);

    assert_eq!((scenario.status("sub_1"), scenario.subscription("sub_1").as_of), ("active", 1));
    let journal = ["sub_1: nothing -> active", "payment.noted", "payment.noted", "payment.noted"];
    assert_eq!(scenario.journal(), journal);
}

#[test]
fn payment_problem_outlives_later_snapshots() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::invoice_payment_failed().at(2),
        TestEvent::updated("past_due").at(2),
    ]);
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn payment_note_increments_the_revision() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1)]);
    let before = scenario.subscription("sub_1").revision;
    scenario.apply_all([TestEvent::invoice_payment_failed().at(2)]);
    assert!(scenario.subscription("sub_1").revision > before);
}

#[test]
fn invoice_without_stored_subscription_is_ignored() {
    let mut scenario = Scenario::with_acme();
    assert_eq!(
        scenario.outcome_of(TestEvent::invoice_paid()),
        (Outcome::Ignored, Some("subscription_not_held"))
    );
    let mut one_off = TestEvent::invoice_paid().into_event();
    one_off.subject = Subject::Invoice(
        InvoiceEventKind::Paid,
        Invoice { customer: customer_id("cus_acme"), subscription: None, journey: None },
    );
    let effect = scenario.batch.apply(&one_off, None, &scenario.policy);
    assert_eq!((effect.outcome, effect.reason), (Outcome::Ignored, Some("not_for_a_subscription")));
    assert_eq!(scenario.journal(), [""; 0]);
}

#[test]
fn refresh_applies_at_its_own_time_and_reports_changes() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("incomplete").at(1)]);
    let event = TestEvent::updated("active").into_event();
    let Subject::Subscription(_, snapshot) = &event.subject else { panic!("a subscription") };

    assert!(scenario.batch.apply_refresh(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 50));
    assert_eq!((scenario.status("sub_1"), scenario.subscription("sub_1").as_of), ("active", 50));
    let entry = scenario.last_entry();
    assert_eq!((entry.cause.as_str(), &entry.event, entry.at), ("refresh", &None, 50));

    assert!(!scenario.batch.apply_refresh(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 60));
    assert_eq!(scenario.journal().len(), 2);
    assert_eq!(scenario.outcome_of(TestEvent::updated("past_due").at(55)), (Outcome::Stale, Some("older")));
}

#[test]
fn late_invoice_does_not_undo_a_later_one() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::invoice_paid().at(9)]);
    assert_eq!(
        scenario.outcome_of(TestEvent::invoice_payment_failed().at(5)),
        (Outcome::Stale, Some("older"))
    );
    assert_eq!(
        scenario.outcome_of(TestEvent::invoice_payment_failed().at(9)),
        (Outcome::Stale, Some("older"))
    );
    assert_eq!(scenario.subscription("sub_1").payment_problem, None);
    scenario.apply_all([TestEvent::invoice_payment_failed().at(10)]);
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn late_unpaid_session_after_paid_invoice_keeps_access() {
    for checkout in [vec![], vec![super::scenario::checkout("cs_1", "acme", "cus_acme", 1)]] {
        let mut scenario = Scenario::new(&[("acme", Some("cus_acme"))], checkout);
        scenario.apply_all([
            TestEvent::created("active").at(1),
            TestEvent::invoice_paid().at(9),
            TestEvent::session_completed().unpaid().at(2),
        ]);
        assert!(scenario.grants("sub_1"));
    }
}

#[test]
fn refreshed_state_stays_against_events_of_its_second() {
    let mut scenario = Scenario::with_acme();
    let answer = TestEvent::updated("active").into_event();
    let Subject::Subscription(_, snapshot) = &answer.subject else { unreachable!() };
    assert!(scenario.batch.apply_refresh(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 12));
    let first = TestEvent::created("incomplete").at(12);
    assert_eq!(scenario.outcome_of(first), (Outcome::Stale, Some("undecided_second")));
    assert_eq!(scenario.status("sub_1"), "active");
}

#[test]
fn late_unpaid_session_after_later_failure_keeps_access() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::invoice_paid().at(3),
        TestEvent::invoice_payment_failed().at(4),
        TestEvent::session_completed().unpaid().at(2),
    ]);
    assert!(scenario.grants("sub_1"));
}
