//! The journey of an event, and the start of a tenant's journey.

use super::scenario::{checkout, journey};
use super::*;

/// `acme` has completed `cs_1` with `sub_1` and has `cs_2` open. `other` has `cs_3` open. Each
/// checkout has the journey of its number.
fn after_one_checkout() -> Scenario {
    let mut scenario = Scenario::new(
        &[("acme", Some("cus_acme")), ("other", Some("cus_other"))],
        vec![
            checkout("cs_1", "acme", "cus_acme", 1),
            checkout("cs_2", "acme", "cus_acme", 2),
            checkout("cs_3", "other", "cus_other", 3),
        ],
    );
    scenario.apply_all([TestEvent::session_completed()]);
    scenario
}

#[test]
fn completed_session_sets_the_tenants_journey() {
    let mut scenario = Scenario::with_open_checkout();
    assert_eq!(scenario.tenant("acme").journey, None);
    let effect = scenario.apply(TestEvent::session_completed());
    assert_eq!(effect.journey, Some(journey(1)));
    assert_eq!(scenario.tenant("acme").journey, Some(journey(1)));
    assert!(scenario.batch.changes().tenants.contains(&tenant_id("acme")));
}

#[test]
fn next_completed_session_sets_the_next_journey() {
    let mut scenario = after_one_checkout();
    scenario
        .apply_all([TestEvent::session_completed().for_session("cs_2").for_subscription("sub_2").at(200)]);
    assert_eq!(scenario.tenant("acme").journey, Some(journey(2)));
}

#[test]
fn late_session_does_not_replace_a_later_journey() {
    let checkouts = vec![checkout("cs_1", "acme", "cus_acme", 1), checkout("cs_2", "acme", "cus_acme", 2)];
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme"))], checkouts);
    let second = TestEvent::session_completed().for_session("cs_2").for_subscription("sub_2").at(200);
    scenario.apply_all([second, TestEvent::session_completed().at(100)]);
    assert_eq!(scenario.tenant("acme").journey, Some(journey(2)));
}

#[test]
fn foreign_session_starts_no_journey() {
    let mut scenario = after_one_checkout();
    let effect = scenario.apply(TestEvent::session_completed().for_session("cs_9").for_subscription("sub_9"));
    assert_eq!(effect.journey, Some(journey(1)), "the tenant's journey");
    assert_eq!(scenario.tenant("acme").journey, Some(journey(1)));
}

#[test]
fn session_event_belongs_to_the_journey_of_its_checkout() {
    let mut scenario = after_one_checkout();
    let expired = scenario.apply(TestEvent::session_expired().for_session("cs_2").with_journey(1));
    assert_eq!(expired.journey, Some(journey(2)), "whatever its metadata says");
    assert_eq!(scenario.last_entry().journey, Some(journey(2)));
}

#[test]
fn subscription_event_belongs_to_the_journey_of_its_checkout() {
    let mut scenario = after_one_checkout();
    scenario.apply_all([TestEvent::session_completed().for_session("cs_2").for_subscription("sub_2")]);
    assert_eq!(scenario.apply(TestEvent::created("active")).journey, Some(journey(1)));
    assert_eq!(scenario.last_entry().journey, Some(journey(1)));
    assert_eq!(scenario.apply(TestEvent::invoice_paid()).journey, Some(journey(1)));
    let tagged = TestEvent::updated("past_due").at(101).with_journey(2);
    assert_eq!(
        scenario.apply(tagged).journey,
        Some(journey(1)),
        "the stored checkout wins over the metadata"
    );
}

#[test]
fn early_subscription_belongs_to_the_journey_in_its_metadata() {
    let mut scenario = after_one_checkout();
    let created = TestEvent::created("active").for_subscription("sub_2").with_journey(2);
    assert_eq!(scenario.apply(created).journey, Some(journey(2)));
    assert_eq!(scenario.last_entry().journey, Some(journey(2)));
    assert_eq!(
        scenario.tenant("acme").journey,
        Some(journey(1)),
        "only a completed session changes the tenant's"
    );
}

#[test]
fn metadata_with_foreign_or_unknown_journey_is_not_trusted() {
    let mut scenario = after_one_checkout();
    for foreign in [3, 9] {
        let event = TestEvent::updated("active").for_subscription("sub_2").with_journey(foreign);
        assert_eq!(scenario.apply(event).journey, Some(journey(1)));
    }
}

#[test]
fn event_without_checkout_belongs_to_the_tenants_journey() {
    let mut scenario = after_one_checkout();
    assert_eq!(scenario.apply(TestEvent::portal_opened()).journey, Some(journey(1)));
    assert_eq!(scenario.apply(TestEvent::customer_deleted()).journey, Some(journey(1)));
    assert_eq!(scenario.last_entry().journey, Some(journey(1)));
}

#[test]
fn tenant_without_completed_checkout_has_no_journey() {
    let mut scenario = after_one_checkout();
    let opened = scenario.apply(TestEvent::portal_opened().for_customer("cus_other"));
    assert_eq!((opened.outcome, opened.journey), (Outcome::Applied, None));
}

#[test]
fn opened_portal_is_applied_only_for_its_tenant() {
    let mut scenario = after_one_checkout();
    let before = scenario.journal();
    assert_eq!(scenario.apply(TestEvent::portal_opened()).tenant, Some(tenant_id("acme")));
    let unlinked = TestEvent::portal_opened().for_customer("cus_unlinked");
    assert_eq!(scenario.outcome_of(unlinked), (Outcome::Ignored, Some("unknown_customer")));
    assert_eq!(scenario.journal(), before);
}

#[test]
fn parked_event_ignores_the_journey_in_its_metadata() {
    let mut scenario = after_one_checkout();
    let unlinked =
        TestEvent::created("active").for_customer("cus_unlinked").for_subscription("sub_9").with_journey(1);
    let effect = scenario.apply(unlinked);
    assert_eq!((effect.outcome, effect.journey), (Outcome::Parked, None));
}

#[test]
fn foreign_subscription_starts_a_journey_with_its_first_event() {
    let mut scenario = Scenario::with_acme();
    let created = scenario.apply_with_journey(5, TestEvent::created("active"));
    assert_eq!(created.journey, Some(journey(5)));
    assert_eq!(scenario.last_entry().journey, Some(journey(5)));
    assert_eq!(scenario.tenant("acme").journey, Some(journey(5)));

    let later = scenario.apply_with_journey(6, TestEvent::updated("past_due").at(101));
    assert_eq!(later.journey, Some(journey(5)), "later events belong to it");
    assert_eq!(scenario.apply_with_journey(7, TestEvent::portal_opened()).journey, Some(journey(5)));
}

#[test]
fn linking_event_starts_a_journey_with_the_link() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    scenario.apply_with_journey(5, TestEvent::created("active").for_customer("cus_new").with_tenant("acme"));
    let journeys: Vec<_> = scenario.batch.changes().journal.iter().map(|entry| entry.journey).collect();
    assert_eq!(journeys, [Some(journey(5)), Some(journey(5))]);
}

#[test]
fn first_applied_event_of_a_tenant_starts_a_journey() {
    let mut scenario = Scenario::with_acme();
    assert_eq!(scenario.apply_with_journey(5, TestEvent::portal_opened()).journey, Some(journey(5)));
    let mut scenario = Scenario::with_acme();
    let foreign = TestEvent::session_completed().for_session("cs_9").for_subscription("sub_9");
    assert_eq!(scenario.apply_with_journey(5, foreign).journey, Some(journey(5)));
    assert_eq!(scenario.last_entry().journey, Some(journey(5)));
    let mut scenario = Scenario::with_acme();
    assert_eq!(
        scenario.apply_with_journey(5, TestEvent::invoice_paid()).journey,
        None,
        "an event that changes nothing starts none"
    );
}

#[test]
fn early_invoice_belongs_to_the_journey_in_its_metadata() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_with_journey(5, TestEvent::created("active").with_journey(1));
    let paid = scenario.apply_with_journey(6, TestEvent::invoice_paid().with_journey(1));
    assert_eq!(paid.journey, Some(journey(1)));
    assert_eq!(scenario.tenant("acme").journey, None);

    let mut scenario = after_one_checkout();
    let renewed = TestEvent::created("active").for_subscription("sub_2").with_journey(2);
    scenario.apply_all([renewed]);
    let paid = scenario.apply(TestEvent::invoice_paid().for_subscription("sub_2").with_journey(2));
    assert_eq!(paid.journey, Some(journey(2)), "not the tenant's former one");
}

#[test]
fn completed_checkout_replaces_a_journey_without_checkout() {
    for number in [1, 9] {
        let checkouts = vec![checkout("cs_2", "acme", "cus_acme", 2)];
        let mut scenario = Scenario::new(&[("acme", Some("cus_acme"))], checkouts);
        scenario.apply_with_journey(number, TestEvent::created("active").for_subscription("sub_9"));
        assert_eq!(scenario.tenant("acme").journey, Some(journey(number)));
        let completed = TestEvent::session_completed().for_session("cs_2").for_subscription("sub_2").at(200);
        scenario.apply_with_journey(5, completed);
        assert_eq!(scenario.tenant("acme").journey, Some(journey(2)));
    }
}

/// As after restoring a backup that is older than the checkout.
#[test]
fn lost_checkout_sets_the_journey_from_its_metadata() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    let origin = |scenario: &Scenario| scenario.tenant("acme").journey.map(|journey| journey.origin);
    let created = TestEvent::created("active").for_customer("cus_new").with_tenant("acme").with_journey(4);
    scenario.apply_with_journey(5, created);
    assert_eq!(origin(&scenario), Some(journey(4).origin));
    let first = scenario.tenant("acme").journey;
    scenario.apply_all([TestEvent::session_completed()
        .for_customer("cus_new")
        .at(150)
        .with_tenant("acme")
        .with_journey(4)]);
    assert_eq!(scenario.tenant("acme").journey, first, "it keeps the time of its first event");

    let next = TestEvent::session_completed()
        .for_session("cs_2")
        .for_subscription("sub_2")
        .for_customer("cus_new")
        .at(200);
    scenario.apply_all([next.with_tenant("acme").with_journey(6)]);
    assert_eq!(origin(&scenario), Some(journey(6).origin));
    let later = scenario.apply(
        TestEvent::updated("past_due").for_customer("cus_new").at(300).with_tenant("acme").with_journey(4),
    );
    assert_eq!(later.journey.map(|journey| journey.origin), Some(journey(6).origin), "the tenant's latest");
}

#[test]
fn metadata_of_another_tenant_sets_no_journey() {
    let mut scenario = after_one_checkout();
    let foreign = TestEvent::session_completed().for_session("cs_9").for_subscription("sub_9").at(200);
    scenario.apply_all([foreign.with_tenant("acme").with_journey(3)]);
    assert_eq!(scenario.tenant("acme").journey, Some(journey(1)), "the journey of another tenant's checkout");
    let foreign = TestEvent::session_completed().for_session("cs_8").for_subscription("sub_8").at(200);
    scenario.apply_all([foreign.with_tenant("other").with_journey(9)]);
    assert_eq!(scenario.tenant("acme").journey, Some(journey(1)), "a tenant that the customer is not");
}
