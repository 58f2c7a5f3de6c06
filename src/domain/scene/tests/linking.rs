//! Which customer is whose: by metadata, by our checkout, by a trusted reference, by the operator; and never by force.

use super::stage::checkout;
use super::*;

const PARKED: (Outcome, Option<&str>) = (Outcome::Parked, Some("unknown_customer"));

#[test]
fn what_nobody_has_is_parked_and_leaves_no_mark() {
    let mut stage = Stage::empty();
    assert_eq!(stage.hears(Draft::created("active")), PARKED);
    assert_eq!(stage.hears(Draft::session_completed()), PARKED);
    assert!(!stage.holds("sub_1"));
    let Changes { tombstones, tenants, subscriptions, checkouts, journal, unparked } = stage.scene.changes();
    assert!(tombstones.is_empty() && tenants.is_empty() && subscriptions.is_empty());
    assert!(checkouts.is_empty() && journal.is_empty() && unparked.is_empty());
}

#[test]
fn linking_plays_what_was_parked_in_the_order_it_came() {
    let mut stage = Stage::empty();
    stage.brings_parked([
        Draft::created("incomplete").at(1).named("evt_1"),
        Draft::updated("past_due").at(3).named("evt_2"),
        Draft::updated("active").at(2).named("evt_3"),
    ]);
    assert_eq!(stage.operator_links("acme", "cus_acme"), Ok(()));

    assert_eq!(
        stage.unparked(),
        [("evt_1", Outcome::Applied), ("evt_2", Outcome::Applied), ("evt_3", Outcome::Stale)]
    );
    assert_eq!(
        stage.journal(),
        ["customer.linked", "sub_1: nothing -> incomplete", "sub_1: incomplete -> past_due"]
    );
    let held = stage.scene.held(&subscription_id("sub_1")).expect("it is held");
    assert_eq!(held.tenant, tenant_id("acme"));
}

#[test]
fn what_was_parked_is_played_before_the_event_that_links() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    stage.brings_parked([Draft::created("incomplete").at(1).named("evt_1")]);
    stage.applies([Draft::updated("active").at(2).named("evt_2").tagged("acme")]);
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Applied)]);
    assert_eq!(
        stage.journal(),
        ["customer.linked", "sub_1: nothing -> incomplete", "sub_1: incomplete -> active"]
    );
}

#[test]
fn only_what_was_parked_for_this_customer_is_played() {
    let mut stage = Stage::empty();
    stage.brings_parked([
        Draft::created("active").named("evt_1"),
        Draft::created("active").of("cus_other").for_subscription("sub_2").named("evt_2"),
    ]);
    stage.operator_links("acme", "cus_acme").expect("both are free");
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Applied)]);
    assert!(!stage.holds("sub_2"));
}

#[test]
fn an_operators_link_is_journaled_as_the_operators() {
    let mut stage = Stage::empty();
    stage.operator_links("acme", "cus_acme").expect("both are free");
    let entry = stage.last_entry();
    assert_eq!((&entry.entry, entry.cause.as_str()), (&Entry::CustomerLinked, "operator"));
    assert_eq!((&entry.event, entry.at), (&None, 500));
}

#[test]
fn linking_twice_is_linking_once() {
    let mut stage = Stage::empty();
    stage.operator_links("acme", "cus_acme").expect("both are free");
    assert_eq!(stage.operator_links("acme", "cus_acme"), Ok(()));
    assert_eq!(stage.journal(), ["customer.linked"]);
}

#[test]
fn not_even_the_operator_takes_a_customer_or_a_tenant_from_somebody() {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    assert_eq!(stage.operator_links("acme", "cus_new"), Err(LinkRefusal::TenantHasCustomer));
    assert_eq!(stage.operator_links("other", "cus_acme"), Err(LinkRefusal::CustomerHasTenant));
    assert_eq!((stage.customer_of("acme"), stage.customer_of("other")), (Some("cus_acme"), None));
    assert_eq!(stage.journal(), [""; 0]);
}

#[test]
fn metadata_links_a_tenant_that_is_free() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    let effect = stage.plays(Draft::created("active").tagged("acme"));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("acme"))));
    assert_eq!((stage.customer_of("acme"), stage.status("sub_1")), (Some("cus_acme"), "active"));
    assert_eq!(stage.journal(), ["customer.linked", "sub_1: nothing -> active"]);
}

#[test]
fn metadata_links_a_tenant_that_was_never_heard_of() {
    let mut stage = Stage::empty();
    stage.applies([Draft::session_completed().tagged("acme")]);
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
    assert!(stage.scene.changes().tenants.contains(&tenant_id("acme")));
}

#[test]
fn a_tenant_with_a_customer_is_never_taken_over() {
    for intruder in [
        Draft::created("active").of("cus_other").for_subscription("sub_2").tagged("acme"),
        Draft::session_completed().of("cus_other").of_session("cs_2").tagged("acme"),
        Draft::session_completed().of("cus_other").of_session("cs_2").with_client_reference("acme"),
    ] {
        let mut stage = Stage::with_acme().trusting_client_references();
        stage.applies([Draft::created("active")]);
        let effect = stage.plays(intruder);
        assert_eq!((effect.outcome, effect.reason), (Outcome::Parked, Some("tenant_has_another_customer")));
        assert!(effect.loud, "an operator should look");
        assert_eq!((stage.customer_of("acme"), stage.holds("sub_2")), (Some("cus_acme"), false));
        assert_eq!(stage.journal(), ["sub_1: nothing -> active"]);
    }
}

#[test]
fn a_linked_customer_stays_with_its_tenant_whatever_its_metadata_says() {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    let effect = stage.plays(Draft::created("active").tagged("other"));
    assert_eq!(effect.tenant, Some(tenant_id("acme")));
    assert_eq!(stage.customer_of("other"), None);
}

#[test]
fn a_client_reference_links_nobody_unless_it_is_trusted() {
    let reference = || Draft::session_completed().with_client_reference("acme");

    let mut stage = Stage::set(&[("acme", None)], vec![]);
    assert_eq!(stage.hears(reference()), PARKED);
    assert_eq!(stage.customer_of("acme"), None);

    let mut stage = Stage::set(&[("acme", None)], vec![]).trusting_client_references();
    stage.applies([reference()]);
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn a_session_in_our_checkout_table_links_the_tenant_that_it_was_made_for() {
    let ours = vec![checkout("cs_1", "acme", "cus_acme", 1)];
    let mut stage = Stage::set(&[("acme", None), ("other", None)], ours);
    let effect = stage.plays(Draft::session_completed().with_client_reference("acme"));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("acme"))));
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn our_own_record_of_a_session_counts_before_what_the_session_says() {
    let ours = vec![checkout("cs_1", "acme", "cus_acme", 1)];
    let mut stage = Stage::set(&[("acme", None), ("other", None)], ours).trusting_client_references();
    stage.applies([Draft::session_completed().tagged("other").with_client_reference("other")]);
    assert_eq!((stage.customer_of("acme"), stage.customer_of("other")), (Some("cus_acme"), None));
}

#[test]
fn metadata_counts_before_a_client_reference() {
    let mut stage = Stage::empty().trusting_client_references();
    stage.applies([Draft::session_completed().tagged("acme").with_client_reference("other")]);
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
    assert_eq!(stage.scene.tenant(&tenant_id("other")), None);
}

#[test]
fn a_completed_session_without_a_customer_links_nobody() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    let nobody = Draft::session_completed().tagged("acme").on_session(|session| session.customer = None);
    assert_eq!(stage.hears(nobody), (Outcome::Ignored, Some("no_customer")));
    assert_eq!(stage.customer_of("acme"), None);
}

#[test]
fn only_customers_without_a_tenant_are_asked_about_in_the_parked_ones() {
    let stage = Stage::with_acme();
    let customers = [customer_id("cus_acme"), customer_id("cus_other")];
    assert_eq!(stage.scene.unlinked(customers.iter()), [&customers[1]]);
}

#[test]
fn an_event_of_another_mode_or_account_is_quarantined_and_touches_nothing() {
    let events =
        || [Draft::created("active").tagged("acme"), Draft::customer_deleted(), Draft::session_completed()];
    let mut stage = Stage::with_acme();
    for event in events() {
        let live = stage.plays(event.clone().live());
        assert_eq!(
            (live.outcome, live.reason, live.loud),
            (Outcome::Quarantined, Some("foreign_mode"), true)
        );
        let foreign = stage.plays(event.from_account("acct_1Sh0cVKq7RtYw2Lp"));
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
