//! A customer that the operator takes from its tenant: it is as if nobody had ever linked it, and only the operator does
//! so again.

use super::*;

const AT: Cause<'static> = Cause { name: cause::OPERATOR, event: None, at: 400 };
const WITHHELD: (Outcome, Option<&str>) = (Outcome::Parked, Some("customer_unlinked"));

/// `acme` had a living and an ended subscription when the operator took its customer.
fn unlinked() -> Stage {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    stage.applies([
        Draft::created("active").at(1),
        Draft::created("active").for_subscription("sub_2").at(2),
        Draft::deleted("canceled").for_subscription("sub_2").at(3),
    ]);
    assert_eq!(stage.work.unlink(&customer_id("cus_acme"), AT), Some(tenant_id("acme")));
    stage
}

#[test]
fn the_tenant_is_free_and_what_the_customer_has_is_held_no_longer() {
    let stage = unlinked();
    assert_eq!((stage.customer_of("acme"), stage.tenant("acme").generation), (None, 1));
    assert!(!stage.holds("sub_1") && !stage.holds("sub_2"));
    let changes = stage.work.changes();
    assert_eq!(changes.dropped, [subscription_id("sub_1"), subscription_id("sub_2")].into());
    assert!(changes.entitlements.contains(&tenant_id("acme")), "its pages are told");
    assert!(changes.tombstones.is_empty(), "the customer lives");
    let last = stage.last_entry();
    assert_eq!((&last.entry, last.cause.as_str()), (&Entry::CustomerUnlinked, "operator"));
}

#[test]
fn what_it_still_says_waits_whatever_it_names() {
    let mut stage = unlinked().trusting_client_references();
    for late in [
        Draft::updated("active").at(500),
        Draft::updated("active").tagged("acme").at(500),
        Draft::created("active").for_subscription("sub_3").tagged("other").at(500),
        Draft::session_completed().tagged("acme").at(500),
        Draft::session_completed().with_client_reference("other").at(500),
        Draft::invoice_paid().at(500),
    ] {
        let named = late.clone().into_event().tags().is_some_and(|tags| tags.tenant.is_some());
        let (outcome, reason) = stage.hears(late);
        assert_eq!(outcome, Outcome::Parked);
        assert!(!named || reason == WITHHELD.1, "{reason:?}");
    }
    assert_eq!((stage.customer_of("acme"), stage.customer_of("other")), (None, None));
    assert_eq!(stage.last_entry().entry, Entry::CustomerUnlinked, "nothing after it is journaled");
}

#[test]
fn who_pays_on_a_page_that_is_still_open_is_told_of() {
    let ours = vec![stage::checkout("cs_1", "acme", "cus_acme", 1)];
    let mut stage = Stage::set(&[("acme", Some("cus_acme"))], ours);
    stage.work.unlink(&customer_id("cus_acme"), AT);
    let effect = stage.plays(Draft::session_completed().at(500));
    assert_eq!((effect.outcome, effect.reason, effect.loud), (WITHHELD.0, WITHHELD.1, true));
    assert_eq!(stage.checkout("cs_1").status, CheckoutStatus::Open);
}

#[test]
fn a_mark_that_the_store_brings_is_as_good_as_one_of_this_batch() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    stage.work.withhold(customer_id("cus_acme"));
    assert_eq!(stage.hears(Draft::created("active").tagged("acme")), WITHHELD);
    assert!(stage.work.changes().withheld.is_empty(), "it is written already");
}

#[test]
fn the_operator_links_it_again_to_the_same_tenant_or_another() {
    for tenant in ["acme", "other"] {
        let mut stage = unlinked();
        stage.brings_parked([Draft::updated("active").named("evt_9").at(500)]);
        assert_eq!(stage.operator_links(tenant, "cus_acme"), Ok(()));
        assert_eq!(stage.customer_of(tenant), Some("cus_acme"));
        assert_eq!(stage.unparked(), [("evt_9", Outcome::Applied)]);
        assert_eq!(stage.asked(), ["cus_acme: linked"], "what it has had meanwhile is asked about");
        let changes = stage.work.changes();
        assert!(changes.withheld.contains(&customer_id("cus_acme")));
        assert!(!stage.work.is_withheld(&customer_id("cus_acme")), "the mark is taken off");
        let held = stage.work.held(&subscription_id("sub_1")).expect("it is held again");
        assert_eq!(held.tenant, tenant_id(tenant));
        let effect = stage.plays(Draft::created("active").for_subscription("sub_3").tagged("acme").at(600));
        assert_eq!(effect.tenant, Some(tenant_id(tenant)));
    }
}

#[test]
fn neither_what_stripe_answers_nor_an_import_links_it() {
    for cause in [cause::REFRESH, cause::OPERATOR] {
        let mut stage = unlinked();
        let cause = Cause { name: cause, event: None, at: 500 };
        let linked = stage.work.link(&tenant_id("acme"), &customer_id("cus_acme"), cause, &stage.policy);
        assert_eq!(linked, Err(LinkRefusal::CustomerWithheld));
        assert!(stage.work.is_withheld(&customer_id("cus_acme")));
    }
}

#[test]
fn the_tenants_next_customer_has_nothing_to_do_with_it() {
    let mut stage = unlinked();
    assert_eq!(stage.operator_links("acme", "cus_new"), Ok(()));
    stage.applies([Draft::created("active").of("cus_new").for_subscription("sub_3").at(500)]);
    assert_eq!(stage.hears(Draft::updated("active").tagged("acme").at(600)), WITHHELD);
    assert!(stage.entitlement(&["sub_3"]).can_manage);
}

#[test]
fn a_customer_that_is_deleted_afterwards_is_a_tombstone_like_any_other() {
    let mut stage = unlinked();
    let deleted = stage.hears(Draft::customer_deleted().at(500));
    assert_eq!(deleted, (Outcome::Applied, Some("unknown_customer")));
    assert_eq!(stage.operator_links("acme", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
}

#[test]
fn what_nobody_has_cannot_be_taken() {
    let mut stage = unlinked();
    assert_eq!(stage.work.unlink(&customer_id("cus_acme"), AT), None);
    assert_eq!(stage.work.unlink(&customer_id("cus_stranger"), AT), None);
    assert_eq!(stage.tenant("acme").generation, 1);
}

#[test]
fn other_customers_subscriptions_stay() {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("other", Some("cus_other"))], vec![]);
    stage.applies([
        Draft::created("active"),
        Draft::created("active").of("cus_other").for_subscription("sub_2"),
    ]);
    stage.work.unlink(&customer_id("cus_acme"), AT);
    assert!(!stage.holds("sub_1") && stage.holds("sub_2"));
}
