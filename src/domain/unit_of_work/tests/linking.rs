//! Which customer is whose: by metadata, by our checkout, by a trusted reference, by the operator; and never by force.

use super::stage::checkout;
use super::*;

const PARKED: (Outcome, Option<&str>) = (Outcome::Parked, Some("unknown_customer"));

#[test]
fn what_nobody_has_is_parked_and_leaves_no_mark() {
    let mut stage = Stage::empty();
    assert_eq!(stage.hears(Draft::created("active")), PARKED);
    assert_eq!(stage.hears(Draft::session_completed()), PARKED);
    assert_eq!(stage.hears(Draft::async_payment_succeeded()), PARKED);
    assert_eq!(stage.hears(Draft::invoice_payment_failed()), PARKED);
    assert!(!stage.holds("sub_1"));
    let changes = stage.work.changes();
    assert!(changes.tenants.is_empty() && changes.new_tenants.is_empty() && changes.subscriptions.is_empty());
    assert!(changes.checkouts.is_empty() && changes.journal.is_empty() && changes.unparked.is_empty());
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
    let held = stage.work.held(&subscription_id("sub_1")).expect("it is held");
    assert_eq!(held.tenant, tenant_id("acme"));
}

#[test]
fn what_was_parked_is_played_after_the_event_that_links() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    stage.brings_parked([
        Draft::created("incomplete").at(1).named("evt_1"),
        Draft::invoice_payment_failed().at(2).named("evt_2"),
    ]);
    stage.applies([Draft::updated("past_due").at(3).named("evt_3").tagged("acme")]);
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Stale), ("evt_2", Outcome::Applied)]);
    let by = stage.work.changes().unparked[0].by.as_ref();
    assert_eq!(by.map(EventId::as_str), Some("evt_3"), "it is told which event ended the wait");
    assert_eq!(stage.journal(), ["customer.linked", "sub_1: nothing -> past_due", "payment.noted"]);
    assert!(stage.subscription("sub_1").payment_problem.is_some(), "a note needs its subscription");
}

#[test]
fn what_is_parked_and_linked_in_one_batch_is_not_stranded() {
    let mut stage = Stage::set(&[("acme", None)], vec![]).trusting_client_references();
    assert_eq!(stage.hears(Draft::created("active").named("evt_1")), PARKED);
    stage.applies([Draft::session_completed().with_client_reference("acme")]);
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Applied)]);
    assert!(stage.holds("sub_1"));
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
    assert!(stage.work.changes().new_tenants.is_empty(), "the tenant had its row");
    assert_eq!(stage.journal(), ["customer.linked", "sub_1: nothing -> active"]);
}

#[test]
fn metadata_links_a_tenant_that_was_never_heard_of() {
    let mut stage = Stage::empty();
    stage.applies([Draft::session_completed().tagged("acme")]);
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
    let changes = stage.work.changes();
    assert!(changes.tenants.contains(&tenant_id("acme")) && changes.new_tenants.contains(&tenant_id("acme")));
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
    assert_eq!(stage.work.tenant(&tenant_id("other")), None);
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
    let unlinked: Vec<_> = stage.work.unlinked(customers.iter()).collect();
    assert_eq!(unlinked, [&customers[1]]);
}

/// `acme` had `cus_acme` and lost it, as when Stripe did not know it for a while, and then `other` was linked to it.
fn handed_over(checkouts: Vec<Checkout>) -> Stage {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", None)], checkouts);
    stage.applies([Draft::created("incomplete")]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 400 };
    assert_eq!(stage.work.free_tenant_of(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    stage.operator_links("other", "cus_acme").expect("both are free");
    stage
}

#[test]
fn what_a_customer_has_goes_with_it_to_its_next_tenant() {
    let mut stage = handed_over(vec![]);
    let effect = stage.plays(Draft::updated("active").at(600));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("other"))));
    let held = stage.work.held(&subscription_id("sub_1")).expect("it is held");
    assert_eq!(held.tenant, tenant_id("other"), "who pays is who has it");
    let changes = stage.work.changes();
    assert!(changes.subscriptions.contains(&subscription_id("sub_1")));
    assert_eq!(changes.entitlements, [tenant_id("acme"), tenant_id("other")].into(), "both are told");
}

#[test]
fn a_customers_next_tenant_has_no_part_in_the_checkouts_of_the_one_before() {
    let ours = || vec![checkout("cs_1", "acme", "cus_acme", 1)];
    for event in [
        Draft::session_completed().at(600),
        Draft::session_expired().at(600),
        Draft::async_payment_failed().at(600),
        Draft::updated("active").at(600).tagged_with_journey(1),
    ] {
        let mut stage = handed_over(ours());
        let effect = stage.plays(event);
        assert_eq!((effect.tenant, effect.journey), (Some(tenant_id("other")), None));
        assert_eq!((stage.tenant("other").journey, stage.last_entry().journey), (None, None));
        assert_eq!(stage.last_entry().tenant, tenant_id("other"));
    }
}

#[test]
fn customer_metadata_links_its_tenant() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    assert_eq!(
        stage.hears(Draft::created("active").named("evt_1")),
        (Outcome::Parked, Some("unknown_customer"))
    );
    assert_eq!(stage.hears(Draft::customer_updated()), (Outcome::Ignored, Some("names_no_tenant")));
    let named = Draft::customer_updated().tagged("acme").named("evt_2");
    assert_eq!(stage.hears(named), (Outcome::Applied, None));
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Applied)]);
    assert_eq!(stage.asked(), ["cus_acme: linked, after evt_2"]);
    let again = Draft::customer_updated().tagged("acme").named("evt_3");
    assert_eq!(stage.hears(again), (Outcome::Applied, Some("no_change")));
}

#[test]
fn new_customer_that_names_its_tenant_has_nothing_to_ask_about() {
    let mut stage = Stage::set(&[], vec![]);
    assert_eq!(stage.hears(Draft::customer_created().tagged("acme")), (Outcome::Applied, None));
    assert_eq!((stage.customer_of("acme"), stage.asked()), (Some("cus_acme"), vec![]));
}

#[test]
fn customer_metadata_takes_no_tenant_from_another_customer() {
    let mut stage = Stage::with_acme();
    let other = Draft::customer_updated().of("cus_other").tagged("acme");
    assert_eq!(stage.hears(other), (Outcome::Ignored, Some("tenant_has_another_customer")));
    assert_eq!(stage.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn new_customer_of_a_checkout_is_linked_by_the_checkout_alone() {
    let mut stage = Stage::set(&[], vec![]);
    let made = Draft::customer_created().tagged("acme").under_key("billhook-customer-test-acme-0");
    assert_eq!(stage.hears(made), (Outcome::Ignored, Some("made_by_checkout")));
    let changed = Draft::customer_updated().tagged("acme").under_key("billhook-customer-test-acme-0");
    assert_eq!(stage.hears(changed), (Outcome::Applied, None));
}
