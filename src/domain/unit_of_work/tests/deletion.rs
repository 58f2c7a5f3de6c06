//! A customer that is deleted at Stripe: its subscriptions end, its tenant is free, its id is nobody's again.

use super::*;

/// `acme` had a living and an ended subscription when its customer was deleted, at 10.
fn after_the_deletion() -> Stage {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("active").at(1),
        Draft::deleted("canceled").at(2),
        Draft::created("active").for_subscription("sub_2").at(3),
        Draft::customer_deleted().at(10),
    ]);
    stage
}

#[test]
fn a_deleted_customers_subscriptions_end_and_its_tenant_is_free() {
    let stage = after_the_deletion();
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("canceled", "canceled"));
    let ended_at = |id: &str| stage.subscription(id).state.ended_at;
    assert_eq!((ended_at("sub_1"), ended_at("sub_2")), (None, Some(10)), "an end that was there is kept");
    assert!(!stage.entitlement(&["sub_1", "sub_2"]).access);
    assert_eq!((stage.customer_of("acme"), stage.tenant("acme").generation), (None, 1));
    assert_eq!(stage.journal()[3..], ["sub_2: active -> canceled", "customer.unlinked"]);
    assert_eq!(stage.last_entry().customer, customer_id("cus_acme"));
    assert!(stage.work.changes().tombstones.contains(&customer_id("cus_acme")));
}

#[test]
fn the_deletion_says_whose_customer_it_was() {
    let mut stage = Stage::with_acme();
    assert_eq!(stage.plays(Draft::customer_deleted()).tenant, Some(tenant_id("acme")));
}

#[test]
fn a_customer_is_deleted_once() {
    let mut stage = after_the_deletion();
    let again = stage.hears(Draft::customer_deleted().named("evt_2").at(11));
    assert_eq!(again, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!(stage.tenant("acme").generation, 1);
}

#[test]
fn what_a_deleted_customer_still_says_is_stale_and_never_links() {
    let mut stage = after_the_deletion().trusting_client_references();
    for late in [
        Draft::updated("active").for_subscription("sub_2").at(20),
        Draft::created("active").for_subscription("sub_3").tagged("acme").at(20),
        Draft::session_completed().tagged("acme").with_client_reference("acme").at(20),
        Draft::invoice_paid().for_subscription("sub_2").at(20),
        Draft::portal_opened().at(20),
    ] {
        assert_eq!(stage.hears(late), (Outcome::Stale, Some("customer_deleted")));
    }
    assert_eq!((stage.customer_of("acme"), stage.status("sub_2")), (None, "canceled"));
    assert!(!stage.holds("sub_3"));
    assert_eq!(stage.journal().len(), 5, "nothing after the deletion is journaled");
}

#[test]
fn not_even_the_operator_links_a_deleted_customer() {
    let mut stage = after_the_deletion();
    assert_eq!(stage.operator_links("acme", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
    assert_eq!(stage.operator_links("other", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
}

#[test]
fn a_tombstone_that_the_store_brings_is_as_good_as_one_of_this_batch() {
    let mut stage = Stage::empty();
    stage.work = UnitOfWork::begin([customer_id("cus_acme")], [], [], []);
    let late = stage.hears(Draft::created("active").tagged("acme"));
    assert_eq!(late, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!(stage.work.tenant(&tenant_id("acme")), None);
}

#[test]
fn the_tenant_can_have_a_new_customer_and_a_new_subscription() {
    let mut stage = after_the_deletion();
    stage.applies([Draft::created("active").of("cus_new").for_subscription("sub_3").tagged("acme").at(20)]);
    assert_eq!((stage.customer_of("acme"), stage.tenant("acme").generation), (Some("cus_new"), 1));
    let entitlement = stage.entitlement(&["sub_1", "sub_2", "sub_3"]);
    assert_eq!((entitlement.access, entitlement.can_manage), (true, true));
}

#[test]
fn a_customer_that_nobody_has_leaves_its_tombstone_all_the_same() {
    let mut stage = Stage::with_acme();
    let deleted = stage.hears(Draft::customer_deleted().of("cus_stranger"));
    assert_eq!(deleted, (Outcome::Applied, Some("unknown_customer")));
    let late =
        stage.hears(Draft::created("active").of("cus_stranger").for_subscription("sub_2").tagged("other"));
    assert_eq!(late, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!((stage.customer_of("acme"), stage.tenant("acme").generation), (Some("cus_acme"), 0));
}

#[test]
fn other_customers_subscriptions_live_on() {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", Some("cus_other"))], vec![]);
    stage.applies([
        Draft::created("active"),
        Draft::created("active").of("cus_other").for_subscription("sub_2"),
        Draft::customer_deleted(),
    ]);
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("canceled", "active"));
    assert_eq!(stage.customer_of("other"), Some("cus_other"));
}

#[test]
fn what_was_parked_for_a_deleted_customer_waits_no_longer_and_links_nobody() {
    let mut stage = Stage::empty();
    stage.brings_parked([Draft::created("active").tagged("acme").named("evt_1")]);
    stage.applies([Draft::customer_deleted().named("evt_2")]);
    assert_eq!(stage.unparked(), [("evt_1", Outcome::Stale)]);
    assert_eq!(stage.work.tenant(&tenant_id("acme")), None);
}
