//! Linking a customer to a tenant: by metadata, our checkout, a trusted client reference, or the
//! operator.

use super::scenario::checkout;
use super::*;

const PARKED: (Outcome, Option<&str>) = (Outcome::Parked, Some("unknown_customer"));

#[test]
fn events_of_unlinked_customer_are_parked_without_changes() {
    let mut scenario = Scenario::empty();
    assert_eq!(scenario.outcome_of(TestEvent::created("active")), PARKED);
    assert_eq!(scenario.outcome_of(TestEvent::session_completed()), PARKED);
    assert_eq!(scenario.outcome_of(TestEvent::async_payment_succeeded()), PARKED);
    assert_eq!(scenario.outcome_of(TestEvent::invoice_payment_failed()), PARKED);
    assert!(!scenario.has_subscription("sub_1"));
    let changes = scenario.batch.changes();
    assert!(changes.tenants.is_empty() && changes.new_tenants.is_empty() && changes.subscriptions.is_empty());
    assert!(changes.checkouts.is_empty() && changes.journal.is_empty() && changes.unparked.is_empty());
}

#[test]
fn linking_applies_parked_events_in_order_of_arrival() {
    let mut scenario = Scenario::empty();
    scenario.add_parked([
        TestEvent::created("incomplete").at(1).id("evt_1"),
        TestEvent::updated("past_due").at(3).id("evt_2"),
        TestEvent::updated("active").at(2).id("evt_3"),
    ]);
    assert_eq!(scenario.link_as_operator("acme", "cus_acme"), Ok(()));

    assert_eq!(
        scenario.unparked(),
        [("evt_1", Outcome::Applied), ("evt_2", Outcome::Applied), ("evt_3", Outcome::Stale)]
    );
    assert_eq!(
        scenario.journal(),
        ["customer.linked", "sub_1: nothing -> incomplete", "sub_1: incomplete -> past_due"]
    );
    let stored = scenario.batch.subscription(&subscription_id("sub_1")).expect("it is stored");
    assert_eq!(stored.tenant, tenant_id("acme"));
}

#[test]
fn parked_events_are_applied_after_the_linking_event() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    scenario.add_parked([
        TestEvent::created("incomplete").at(1).id("evt_1"),
        TestEvent::invoice_payment_failed().at(2).id("evt_2"),
    ]);
    scenario.apply_all([TestEvent::updated("past_due").at(3).id("evt_3").with_tenant("acme")]);
    assert_eq!(scenario.unparked(), [("evt_1", Outcome::Stale), ("evt_2", Outcome::Applied)]);
    let by = scenario.batch.changes().unparked[0].by.as_ref();
    assert_eq!(by.map(EventId::as_str), Some("evt_3"), "the event that released it");
    assert_eq!(scenario.journal(), ["customer.linked", "sub_1: nothing -> past_due", "payment.noted"]);
    assert!(
        scenario.subscription("sub_1").payment_problem.is_some(),
        "applied after its subscription was stored"
    );
}

#[test]
fn event_parked_in_the_same_batch_is_applied_on_linking() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]).trusting_client_references();
    assert_eq!(scenario.outcome_of(TestEvent::created("active").id("evt_1")), PARKED);
    scenario.apply_all([TestEvent::session_completed().with_client_reference("acme")]);
    assert_eq!(scenario.unparked(), [("evt_1", Outcome::Applied)]);
    assert!(scenario.has_subscription("sub_1"));
}

#[test]
fn linking_applies_parked_events_of_its_customer_only() {
    let mut scenario = Scenario::empty();
    scenario.add_parked([
        TestEvent::created("active").id("evt_1"),
        TestEvent::created("active").for_customer("cus_other").for_subscription("sub_2").id("evt_2"),
    ]);
    scenario.link_as_operator("acme", "cus_acme").expect("both are free");
    assert_eq!(scenario.unparked(), [("evt_1", Outcome::Applied)]);
    assert!(!scenario.has_subscription("sub_2"));
}

#[test]
fn operators_link_is_journaled_with_cause_operator() {
    let mut scenario = Scenario::empty();
    scenario.link_as_operator("acme", "cus_acme").expect("both are free");
    let entry = scenario.last_entry();
    assert_eq!((&entry.kind, entry.cause.as_str()), (&EntryKind::CustomerLinked, "operator"));
    assert_eq!((&entry.event, entry.at), (&None, 500));
}

#[test]
fn second_identical_link_changes_nothing() {
    let mut scenario = Scenario::empty();
    scenario.link_as_operator("acme", "cus_acme").expect("both are free");
    assert_eq!(scenario.link_as_operator("acme", "cus_acme"), Ok(()));
    assert_eq!(scenario.journal(), ["customer.linked"]);
}

#[test]
fn operator_cannot_link_a_linked_customer_or_tenant() {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    assert_eq!(scenario.link_as_operator("acme", "cus_new"), Err(LinkRefusal::TenantHasCustomer));
    assert_eq!(scenario.link_as_operator("other", "cus_acme"), Err(LinkRefusal::CustomerHasTenant));
    assert_eq!((scenario.customer_of("acme"), scenario.customer_of("other")), (Some("cus_acme"), None));
    assert_eq!(scenario.journal(), [""; 0]);
}

#[test]
fn metadata_links_tenant_without_customer() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    let effect = scenario.apply(TestEvent::created("active").with_tenant("acme"));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("acme"))));
    assert_eq!((scenario.customer_of("acme"), scenario.status("sub_1")), (Some("cus_acme"), "active"));
    assert!(scenario.batch.changes().new_tenants.is_empty(), "the tenant had its row");
    assert_eq!(scenario.journal(), ["customer.linked", "sub_1: nothing -> active"]);
}

#[test]
fn metadata_links_unknown_tenant() {
    let mut scenario = Scenario::empty();
    scenario.apply_all([TestEvent::session_completed().with_tenant("acme")]);
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
    let changes = scenario.batch.changes();
    assert!(changes.tenants.contains(&tenant_id("acme")) && changes.new_tenants.contains(&tenant_id("acme")));
}

#[test]
fn event_of_another_customer_never_relinks_tenant() {
    for event in [
        TestEvent::created("active").for_customer("cus_other").for_subscription("sub_2").with_tenant("acme"),
        TestEvent::session_completed().for_customer("cus_other").for_session("cs_2").with_tenant("acme"),
        TestEvent::session_completed()
            .for_customer("cus_other")
            .for_session("cs_2")
            .with_client_reference("acme"),
    ] {
        let mut scenario = Scenario::with_acme().trusting_client_references();
        scenario.apply_all([TestEvent::created("active")]);
        let effect = scenario.apply(event);
        assert_eq!((effect.outcome, effect.reason), (Outcome::Parked, Some("tenant_has_another_customer")));
        assert!(effect.is_warning, "an operator should look");
        assert_eq!(
            (scenario.customer_of("acme"), scenario.has_subscription("sub_2")),
            (Some("cus_acme"), false)
        );
        assert_eq!(scenario.journal(), ["sub_1: nothing -> active"]);
    }
}

#[test]
fn linked_customer_keeps_its_tenant_despite_metadata() {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", None)], vec![]);
    let effect = scenario.apply(TestEvent::created("active").with_tenant("other"));
    assert_eq!(effect.tenant, Some(tenant_id("acme")));
    assert_eq!(scenario.customer_of("other"), None);
}

#[test]
fn client_reference_links_only_if_trusted() {
    let reference = || TestEvent::session_completed().with_client_reference("acme");

    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    assert_eq!(scenario.outcome_of(reference()), PARKED);
    assert_eq!(scenario.customer_of("acme"), None);

    let mut scenario = Scenario::new(&[("acme", None)], vec![]).trusting_client_references();
    scenario.apply_all([reference()]);
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn session_of_our_checkout_links_its_tenant() {
    let ours = vec![checkout("cs_1", "acme", "cus_acme", 1)];
    let mut scenario = Scenario::new(&[("acme", None), ("other", None)], ours);
    let effect = scenario.apply(TestEvent::session_completed().with_client_reference("acme"));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("acme"))));
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn our_checkout_wins_over_the_sessions_metadata() {
    let ours = vec![checkout("cs_1", "acme", "cus_acme", 1)];
    let mut scenario = Scenario::new(&[("acme", None), ("other", None)], ours).trusting_client_references();
    scenario.apply_all([TestEvent::session_completed().with_tenant("other").with_client_reference("other")]);
    assert_eq!((scenario.customer_of("acme"), scenario.customer_of("other")), (Some("cus_acme"), None));
}

#[test]
fn metadata_wins_over_client_reference() {
    let mut scenario = Scenario::empty().trusting_client_references();
    scenario.apply_all([TestEvent::session_completed().with_tenant("acme").with_client_reference("other")]);
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
    assert_eq!(scenario.batch.tenant(&tenant_id("other")), None);
}

#[test]
fn completed_session_without_customer_is_ignored() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    let event =
        TestEvent::session_completed().with_tenant("acme").edit_session(|session| session.customer = None);
    assert_eq!(scenario.outcome_of(event), (Outcome::Ignored, Some("no_customer")));
    assert_eq!(scenario.customer_of("acme"), None);
}

#[test]
fn linked_customers_are_left_out_when_reading_parked_events() {
    let scenario = Scenario::with_acme();
    let customers = [customer_id("cus_acme"), customer_id("cus_other")];
    let unlinked: Vec<_> = scenario.batch.customers_without_tenant(customers.iter()).collect();
    assert_eq!(unlinked, [&customers[1]]);
}

/// `acme` lost `cus_acme`, because Stripe did not know it for a while. Then the operator linked it
/// to `other`.
fn with_customer_of_next_tenant(checkouts: Vec<Checkout>) -> Scenario {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", None)], checkouts);
    scenario.apply_all([TestEvent::created("incomplete")]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 400 };
    assert_eq!(scenario.batch.free_tenant_of(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    scenario.link_as_operator("other", "cus_acme").expect("both are free");
    scenario
}

#[test]
fn subscriptions_move_with_the_customer_to_its_next_tenant() {
    let mut scenario = with_customer_of_next_tenant(vec![]);
    let effect = scenario.apply(TestEvent::updated("active").at(600));
    assert_eq!((effect.outcome, effect.tenant), (Outcome::Applied, Some(tenant_id("other"))));
    let stored = scenario.batch.subscription(&subscription_id("sub_1")).expect("it is stored");
    assert_eq!(stored.tenant, tenant_id("other"), "it belongs to the customer's tenant");
    let changes = scenario.batch.changes();
    assert!(changes.subscriptions.contains(&subscription_id("sub_1")));
    assert_eq!(changes.entitlements, [tenant_id("acme"), tenant_id("other")].into(), "both may have changed");
}

#[test]
fn next_tenant_does_not_get_the_former_tenants_journeys() {
    let ours = || vec![checkout("cs_1", "acme", "cus_acme", 1)];
    for event in [
        TestEvent::session_completed().at(600),
        TestEvent::session_expired().at(600),
        TestEvent::async_payment_failed().at(600),
        TestEvent::updated("active").at(600).with_journey(1),
    ] {
        let mut scenario = with_customer_of_next_tenant(ours());
        let effect = scenario.apply(event);
        assert_eq!((effect.tenant, effect.journey), (Some(tenant_id("other")), None));
        assert_eq!((scenario.tenant("other").journey, scenario.last_entry().journey), (None, None));
        assert_eq!(scenario.last_entry().tenant, tenant_id("other"));
    }
}

#[test]
fn customer_metadata_links_its_tenant() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    assert_eq!(
        scenario.outcome_of(TestEvent::created("active").id("evt_1")),
        (Outcome::Parked, Some("unknown_customer"))
    );
    assert_eq!(
        scenario.outcome_of(TestEvent::customer_updated()),
        (Outcome::Ignored, Some("names_no_tenant"))
    );
    let named = TestEvent::customer_updated().with_tenant("acme").id("evt_2");
    assert_eq!(scenario.outcome_of(named), (Outcome::Applied, None));
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
    assert_eq!(scenario.unparked(), [("evt_1", Outcome::Applied)]);
    assert_eq!(scenario.refreshes(), ["cus_acme: linked, after evt_2"]);
    let again = TestEvent::customer_updated().with_tenant("acme").id("evt_3");
    assert_eq!(scenario.outcome_of(again), (Outcome::Applied, Some("no_change")));
}

#[test]
fn new_customer_with_tenant_in_metadata_requests_nothing() {
    let mut scenario = Scenario::new(&[], vec![]);
    assert_eq!(
        scenario.outcome_of(TestEvent::customer_created().with_tenant("acme")),
        (Outcome::Applied, None)
    );
    assert_eq!((scenario.customer_of("acme"), scenario.refreshes()), (Some("cus_acme"), vec![]));
}

#[test]
fn customer_metadata_never_relinks_tenant() {
    let mut scenario = Scenario::with_acme();
    let other = TestEvent::customer_updated().for_customer("cus_other").with_tenant("acme");
    assert_eq!(scenario.outcome_of(other), (Outcome::Ignored, Some("tenant_has_another_customer")));
    assert_eq!(scenario.customer_of("acme"), Some("cus_acme"));
}

#[test]
fn customer_created_by_checkout_is_linked_only_by_it() {
    let mut scenario = Scenario::new(&[], vec![]);
    let created = TestEvent::customer_created()
        .with_tenant("acme")
        .with_idempotency_key("billhook-customer-test-acme-0");
    assert_eq!(scenario.outcome_of(created), (Outcome::Ignored, Some("made_by_checkout")));
    let changed = TestEvent::customer_updated()
        .with_tenant("acme")
        .with_idempotency_key("billhook-customer-test-acme-0");
    assert_eq!(scenario.outcome_of(changed), (Outcome::Applied, None));
}
