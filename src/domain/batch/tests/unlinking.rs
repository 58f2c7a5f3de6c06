//! Customers that the operator unlinked from their tenant.

use super::*;

const BY_OPERATOR: Cause<'static> = Cause { name: cause::OPERATOR, event: None, at: 400 };
const UNLINKED: (Outcome, Option<&str>) = (Outcome::Parked, Some("customer_unlinked"));

/// `acme` had an active and an ended subscription when the operator unlinked its customer.
fn unlinked() -> Scenario {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::created("active").for_subscription("sub_2").at(2),
        TestEvent::deleted("canceled").for_subscription("sub_2").at(3),
    ]);
    assert_eq!(scenario.batch.unlink(&customer_id("cus_acme"), BY_OPERATOR), Some(tenant_id("acme")));
    scenario
}

#[test]
fn unlinking_frees_tenant_and_removes_subscriptions() {
    let scenario = unlinked();
    assert_eq!((scenario.customer_of("acme"), scenario.tenant("acme").generation), (None, 1));
    assert!(!scenario.has_subscription("sub_1") && !scenario.has_subscription("sub_2"));
    let changes = scenario.batch.changes();
    assert_eq!(changes.removed_subscriptions, [subscription_id("sub_1"), subscription_id("sub_2")].into());
    assert!(changes.entitlements.contains(&tenant_id("acme")), "open streams are notified");
    assert!(changes.tombstones.is_empty(), "the customer is not deleted");
    let last = scenario.last_entry();
    assert_eq!((&last.kind, last.cause.as_str()), (&EntryKind::CustomerUnlinked, "operator"));
}

#[test]
fn events_of_unlinked_customer_are_parked_despite_metadata() {
    let mut scenario = unlinked().trusting_client_references();
    for late in [
        TestEvent::updated("active").at(500),
        TestEvent::updated("active").with_tenant("acme").at(500),
        TestEvent::created("active").for_subscription("sub_3").with_tenant("other").at(500),
        TestEvent::session_completed().with_tenant("acme").at(500),
        TestEvent::session_completed().with_client_reference("other").at(500),
        TestEvent::invoice_paid().at(500),
    ] {
        let named = late.clone().into_event().metadata().is_some_and(|metadata| metadata.tenant.is_some());
        let (outcome, reason) = scenario.outcome_of(late);
        assert_eq!(outcome, Outcome::Parked);
        assert!(!named || reason == UNLINKED.1, "{reason:?}");
    }
    assert_eq!((scenario.customer_of("acme"), scenario.customer_of("other")), (None, None));
    assert_eq!(scenario.last_entry().kind, EntryKind::CustomerUnlinked, "later events are not journaled");
}

#[test]
fn payment_of_unlinked_customer_is_parked_with_warning() {
    let ours = vec![scenario::checkout("cs_1", "acme", "cus_acme", 1)];
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme"))], ours);
    scenario.batch.unlink(&customer_id("cus_acme"), BY_OPERATOR);
    let effect = scenario.apply(TestEvent::session_completed().at(500));
    assert_eq!((effect.outcome, effect.reason, effect.is_warning), (UNLINKED.0, UNLINKED.1, true));
    assert_eq!(scenario.checkout("cs_1").status, CheckoutStatus::Open);
}

#[test]
fn stored_unlinking_parks_events() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    scenario.batch.add_unlinked_by_operator(customer_id("cus_acme"));
    assert_eq!(scenario.outcome_of(TestEvent::created("active").with_tenant("acme")), UNLINKED);
    assert!(scenario.batch.changes().changed_unlink_marks.is_empty(), "it is stored already");
}

#[test]
fn operator_links_unlinked_customer_to_any_tenant() {
    for tenant in ["acme", "other"] {
        let mut scenario = unlinked();
        scenario.add_parked([TestEvent::updated("active").id("evt_9").at(500)]);
        assert_eq!(scenario.link_as_operator(tenant, "cus_acme"), Ok(()));
        assert_eq!(scenario.customer_of(tenant), Some("cus_acme"));
        assert_eq!(scenario.unparked(), [("evt_9", Outcome::Applied)]);
        assert_eq!(scenario.refreshes(), ["cus_acme: linked"], "its subscriptions may have changed since");
        let changes = scenario.batch.changes();
        assert!(changes.changed_unlink_marks.contains(&customer_id("cus_acme")));
        assert!(!scenario.batch.is_unlinked_by_operator(&customer_id("cus_acme")), "the operator cleared it");
        let stored = scenario.batch.subscription(&subscription_id("sub_1")).expect("it is stored again");
        assert_eq!(stored.tenant, tenant_id(tenant));
        let effect = scenario
            .apply(TestEvent::created("active").for_subscription("sub_3").with_tenant("acme").at(600));
        assert_eq!(effect.tenant, Some(tenant_id(tenant)));
    }
}

#[test]
fn refresh_and_import_do_not_link_unlinked_customer() {
    for cause in [cause::REFRESH, cause::OPERATOR] {
        let mut scenario = unlinked();
        let cause = Cause { name: cause, event: None, at: 500 };
        let linked =
            scenario.batch.link(&tenant_id("acme"), &customer_id("cus_acme"), cause, &scenario.policy);
        assert_eq!(linked, Err(LinkRefusal::CustomerUnlinkedByOperator));
        assert!(scenario.batch.is_unlinked_by_operator(&customer_id("cus_acme")));
    }
}

#[test]
fn next_customer_of_tenant_is_independent() {
    let mut scenario = unlinked();
    assert_eq!(scenario.link_as_operator("acme", "cus_new"), Ok(()));
    scenario
        .apply_all([TestEvent::created("active").for_customer("cus_new").for_subscription("sub_3").at(500)]);
    assert_eq!(scenario.outcome_of(TestEvent::updated("active").with_tenant("acme").at(600)), UNLINKED);
    assert!(scenario.entitlement(&["sub_3"]).can_manage);
}

#[test]
fn deletion_of_unlinked_customer_leaves_a_tombstone() {
    let mut scenario = unlinked();
    let deleted = scenario.outcome_of(TestEvent::customer_deleted().at(500));
    assert_eq!(deleted, (Outcome::Applied, Some("unknown_customer")));
    assert_eq!(scenario.link_as_operator("acme", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
}

#[test]
fn unlinking_of_unlinked_customer_does_nothing() {
    let mut scenario = unlinked();
    assert_eq!(scenario.batch.unlink(&customer_id("cus_acme"), BY_OPERATOR), None);
    assert_eq!(scenario.batch.unlink(&customer_id("cus_unknown"), BY_OPERATOR), None);
    assert_eq!(scenario.tenant("acme").generation, 1);
}

#[test]
fn unlinking_keeps_subscriptions_of_other_customers() {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", Some("cus_other"))], vec![]);
    scenario.apply_all([
        TestEvent::created("active"),
        TestEvent::created("active").for_customer("cus_other").for_subscription("sub_2"),
    ]);
    scenario.batch.unlink(&customer_id("cus_acme"), BY_OPERATOR);
    assert!(!scenario.has_subscription("sub_1") && scenario.has_subscription("sub_2"));
}
