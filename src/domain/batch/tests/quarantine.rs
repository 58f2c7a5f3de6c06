//! Events of another mode or account, and events that are unused or unreadable.

use super::*;

#[test]
fn event_of_another_mode_or_account_is_quarantined() {
    let events = || {
        [
            TestEvent::created("active").with_tenant("acme"),
            TestEvent::customer_deleted(),
            TestEvent::session_completed(),
        ]
    };
    let mut scenario = Scenario::with_acme();
    scenario.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    for event in events() {
        let live = scenario.apply(event.clone().live());
        assert_eq!(
            (live.outcome, live.reason, live.is_warning),
            (Outcome::Quarantined, Some("foreign_mode"), true)
        );
        let foreign = scenario.apply(event.of_account("acct_1Sh0cVKq7RtYw2Lp"));
        assert_eq!((foreign.outcome, foreign.reason), (Outcome::Quarantined, Some("foreign_account")));
        assert_eq!((foreign.tenant, foreign.journey), (None, None));
    }
    assert_eq!((scenario.journal(), scenario.customer_of("acme")), (vec![], Some("cus_acme")));
    assert!(!scenario.has_subscription("sub_1"));
}

#[test]
fn event_is_applied_in_its_own_mode_or_without_livemode() {
    for mode in [Mode::Test, Mode::Live] {
        let mut scenario = Scenario::with_acme();
        scenario.policy.mode = Some(mode);
        let (ours, theirs) = match mode {
            Mode::Test => (TestEvent::created("active"), TestEvent::created("active").live()),
            Mode::Live => (TestEvent::created("active").live(), TestEvent::created("active")),
        };
        assert_eq!(scenario.apply(theirs).outcome, Outcome::Quarantined, "{mode}");
        scenario.apply_all([ours, TestEvent::updated("past_due").without_livemode().at(101)]);
    }
}

#[test]
fn event_of_either_mode_is_applied_while_mode_is_unknown() {
    let mut scenario = Scenario::with_acme();
    scenario.policy.mode = None;
    scenario.apply_all([TestEvent::created("active"), TestEvent::updated("past_due").live().at(101)]);
}

#[test]
fn unused_event_is_ignored_and_unreadable_one_fails() {
    let mut scenario = Scenario::with_acme();
    let unhandled = scenario.apply(TestEvent::new("invoice.created", Subject::Unhandled));
    assert_eq!((unhandled.outcome, unhandled.reason), (Outcome::Ignored, Some("type_not_used")));
    assert!(!unhandled.is_warning);

    let thin = scenario.apply(TestEvent::new("v1.customer.subscription.updated", Subject::Thin));
    assert_eq!((thin.outcome, thin.reason, thin.is_warning), (Outcome::Ignored, Some("thin_event"), true));

    let what = "the invoice names no customer";
    let unreadable = scenario.apply(TestEvent::new("invoice.paid", Subject::Unreadable(what)));
    assert_eq!(
        (unreadable.outcome, unreadable.reason, unreadable.is_warning),
        (Outcome::Failed, Some(what), true)
    );
}

#[test]
fn event_of_another_account_is_quarantined() {
    let event = || TestEvent::created("active");
    let events = || {
        [
            event().of_account("acct_other"),
            event().in_context("acct_other"),
            event().in_context("acct_own/acct_other"),
            event().of_account("acct_own").in_context("acct_other"),
        ]
    };
    let mut unknown = Scenario::with_acme();
    let mut known = Scenario::with_acme();
    known.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    for (scenario, reason) in [(&mut unknown, "account_unknown"), (&mut known, "foreign_account")] {
        for event in events() {
            assert_eq!(scenario.outcome_of(event), (Outcome::Quarantined, Some(reason)));
        }
        assert!(!scenario.has_subscription("sub_1"));
    }
}

#[test]
fn event_of_own_account_is_applied_once_account_is_known() {
    let mut scenario = Scenario::with_acme();
    let event = || TestEvent::created("active").of_account("acct_own").in_context("acct_own");
    assert_eq!(scenario.outcome_of(event()), (Outcome::Quarantined, Some("account_unknown")));
    scenario.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    assert_eq!(scenario.outcome_of(event()), (Outcome::Applied, None));
}
