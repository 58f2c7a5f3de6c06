//! What is not for us: another mode's, another account's, of no use, or beyond reading.

use super::*;

#[test]
fn an_event_of_another_mode_or_account_is_quarantined_and_touches_nothing() {
    let events =
        || [Draft::created("active").tagged("acme"), Draft::customer_deleted(), Draft::session_completed()];
    let mut stage = Stage::with_acme();
    stage.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    for event in events() {
        let live = stage.plays(event.clone().live());
        assert_eq!(
            (live.outcome, live.reason, live.loud),
            (Outcome::Quarantined, Some("foreign_mode"), true)
        );
        let foreign = stage.plays(event.of_account("acct_1Sh0cVKq7RtYw2Lp"));
        assert_eq!((foreign.outcome, foreign.reason), (Outcome::Quarantined, Some("foreign_account")));
        assert_eq!((foreign.tenant, foreign.journey), (None, None));
    }
    assert_eq!((stage.journal(), stage.customer_of("acme")), (vec![], Some("cus_acme")));
    assert!(!stage.holds("sub_1"));
}

#[test]
fn each_mode_holds_its_own_and_what_does_not_say_is_held_by_both() {
    for mode in [Mode::Test, Mode::Live] {
        let mut stage = Stage::with_acme();
        stage.policy.mode = Some(mode);
        let (ours, theirs) = match mode {
            Mode::Test => (Draft::created("active"), Draft::created("active").live()),
            Mode::Live => (Draft::created("active").live(), Draft::created("active")),
        };
        assert_eq!(stage.plays(theirs).outcome, Outcome::Quarantined, "{mode}");
        stage.applies([ours, Draft::updated("past_due").silent_about_its_mode().at(101)]);
    }
}

#[test]
fn before_the_mode_is_known_either_is_heard() {
    let mut stage = Stage::with_acme();
    stage.policy.mode = None;
    stage.applies([Draft::created("active"), Draft::updated("past_due").live().at(101)]);
}

#[test]
fn what_is_of_no_use_is_ignored_and_what_cannot_be_read_has_failed() {
    let mut stage = Stage::with_acme();
    let unhandled = stage.plays(Draft::about("invoice.created", Subject::Unhandled));
    assert_eq!((unhandled.outcome, unhandled.reason), (Outcome::Ignored, Some("type_not_used")));
    assert!(!unhandled.loud);

    let thin = stage.plays(Draft::about("v1.customer.subscription.updated", Subject::Thin));
    assert_eq!((thin.outcome, thin.reason, thin.loud), (Outcome::Ignored, Some("thin_event"), true));

    let what = "the invoice names no customer";
    let unreadable = stage.plays(Draft::about("invoice.paid", Subject::Unreadable(what)));
    assert_eq!((unreadable.outcome, unreadable.reason, unreadable.loud), (Outcome::Failed, Some(what), true));
}

#[test]
fn event_that_names_another_account_is_quarantined() {
    let draft = || Draft::created("active");
    let drafts = || {
        [
            draft().of_account("acct_other"),
            draft().in_context("acct_other"),
            draft().in_context("acct_own/acct_other"),
            draft().of_account("acct_own").in_context("acct_other"),
        ]
    };
    let mut unknown = Stage::with_acme();
    let mut known = Stage::with_acme();
    known.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    for (stage, reason) in [(&mut unknown, "account_unknown"), (&mut known, "foreign_account")] {
        for draft in drafts() {
            assert_eq!(stage.hears(draft), (Outcome::Quarantined, Some(reason)));
        }
        assert!(!stage.holds("sub_1"));
    }
}

#[test]
fn event_that_names_our_own_account_is_applied_once_it_is_known() {
    let mut stage = Stage::with_acme();
    let event = || Draft::created("active").of_account("acct_own").in_context("acct_own");
    assert_eq!(stage.hears(event()), (Outcome::Quarantined, Some("account_unknown")));
    stage.policy.account.learn(AccountId::parse("acct_own").expect("an account"));
    assert_eq!(stage.hears(event()), (Outcome::Applied, None));
}
