use super::*;

/// `acme` had an active and an ended subscription when its customer was deleted at second 10.
fn with_deleted_customer() -> Scenario {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::deleted("canceled").at(2),
        TestEvent::created("active").for_subscription("sub_2").at(3),
        TestEvent::customer_deleted().at(10),
    ]);
    scenario
}

#[test]
fn deleted_customer_ends_subscriptions_and_frees_tenant() {
    let scenario = with_deleted_customer();
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("canceled", "canceled"));
    let ended_at = |id: &str| scenario.subscription(id).state.ended_at;
    assert_eq!((ended_at("sub_1"), ended_at("sub_2")), (None, Some(10)), "the earlier end is kept");
    assert!(!scenario.entitlement(&["sub_1", "sub_2"]).access);
    assert_eq!((scenario.customer_of("acme"), scenario.tenant("acme").generation), (None, 1));
    assert_eq!(scenario.journal()[3..], ["sub_2: active -> canceled", "customer.unlinked"]);
    assert_eq!(scenario.last_entry().customer, customer_id("cus_acme"));
    assert!(scenario.batch.changes().tombstones.contains(&customer_id("cus_acme")));
}

#[test]
fn customer_deletion_has_the_tenant_in_its_effect() {
    let mut scenario = Scenario::with_acme();
    assert_eq!(scenario.apply(TestEvent::customer_deleted()).tenant, Some(tenant_id("acme")));
}

#[test]
fn second_customer_deletion_is_stale() {
    let mut scenario = with_deleted_customer();
    let again = scenario.outcome_of(TestEvent::customer_deleted().id("evt_2").at(11));
    assert_eq!(again, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!(scenario.tenant("acme").generation, 1);
}

#[test]
fn late_events_of_deleted_customer_are_stale_and_link_nothing() {
    let mut scenario = with_deleted_customer().trusting_client_references();
    for late in [
        TestEvent::updated("active").for_subscription("sub_2").at(20),
        TestEvent::created("active").for_subscription("sub_3").with_tenant("acme").at(20),
        TestEvent::session_completed().with_tenant("acme").with_client_reference("acme").at(20),
        TestEvent::invoice_paid().for_subscription("sub_2").at(20),
        TestEvent::portal_opened().at(20),
    ] {
        assert_eq!(scenario.outcome_of(late), (Outcome::Stale, Some("customer_deleted")));
    }
    assert_eq!((scenario.customer_of("acme"), scenario.status("sub_2")), (None, "canceled"));
    assert!(!scenario.has_subscription("sub_3"));
    assert_eq!(scenario.journal().len(), 5, "nothing after the deletion is journaled");
}

#[test]
fn operator_cannot_link_deleted_customer() {
    let mut scenario = with_deleted_customer();
    assert_eq!(scenario.link_as_operator("acme", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
    assert_eq!(scenario.link_as_operator("other", "cus_acme"), Err(LinkRefusal::CustomerDeleted));
}

#[test]
fn stored_tombstone_makes_events_stale() {
    let mut scenario = Scenario::empty();
    scenario.batch = Batch::new([customer_id("cus_acme")], [], [], []);
    let late = scenario.outcome_of(TestEvent::created("active").with_tenant("acme"));
    assert_eq!(late, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!(scenario.batch.tenant(&tenant_id("acme")), None);
}

#[test]
fn tenant_of_deleted_customer_gets_new_customer() {
    let mut scenario = with_deleted_customer();
    scenario.apply_all([TestEvent::created("active")
        .for_customer("cus_new")
        .for_subscription("sub_3")
        .with_tenant("acme")
        .at(20)]);
    assert_eq!((scenario.customer_of("acme"), scenario.tenant("acme").generation), (Some("cus_new"), 1));
    let entitlement = scenario.entitlement(&["sub_1", "sub_2", "sub_3"]);
    assert_eq!((entitlement.access, entitlement.can_manage), (true, true));
}

#[test]
fn deletion_of_unlinked_customer_leaves_tombstone() {
    let mut scenario = Scenario::with_acme();
    let deleted = scenario.outcome_of(TestEvent::customer_deleted().for_customer("cus_unlinked"));
    assert_eq!(deleted, (Outcome::Applied, Some("unknown_customer")));
    let late = scenario.outcome_of(
        TestEvent::created("active")
            .for_customer("cus_unlinked")
            .for_subscription("sub_2")
            .with_tenant("other"),
    );
    assert_eq!(late, (Outcome::Stale, Some("customer_deleted")));
    assert_eq!((scenario.customer_of("acme"), scenario.tenant("acme").generation), (Some("cus_acme"), 0));
}

#[test]
fn deletion_keeps_subscriptions_of_other_customers() {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("other", Some("cus_other"))], vec![]);
    scenario.apply_all([
        TestEvent::created("active"),
        TestEvent::created("active").for_customer("cus_other").for_subscription("sub_2"),
        TestEvent::customer_deleted(),
    ]);
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("canceled", "active"));
    assert_eq!(scenario.customer_of("other"), Some("cus_other"));
}

#[test]
fn deletion_makes_parked_events_stale_and_links_nothing() {
    let mut scenario = Scenario::empty();
    scenario.add_parked([TestEvent::created("active").with_tenant("acme").id("evt_1")]);
    scenario.apply_all([TestEvent::customer_deleted().id("evt_2")]);
    assert_eq!(scenario.unparked(), [("evt_1", Outcome::Stale)]);
    assert_eq!(scenario.batch.tenant(&tenant_id("acme")), None);
}
