use super::*;
use crate::domain::ids::PriceId;
use crate::domain::subscription::Item;

/// Changes the event to one of the tenant's other subscription, which has the better plan.
fn team(event: TestEvent) -> TestEvent {
    event.for_subscription("sub_2").with_price("price_team")
}

fn plan(scenario: &Scenario) -> Option<String> {
    scenario.entitlement(&["sub_1", "sub_2"]).plan.map(|plan| plan.to_string())
}

#[test]
fn events_are_stale_only_within_their_subscription() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("active").at(9),
        team(TestEvent::created("incomplete")).at(2),
        team(TestEvent::updated("active")).at(3),
    ]);
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("active", "active"));
    assert_eq!((scenario.subscription("sub_1").as_of, scenario.subscription("sub_2").as_of), (9, 3));
    assert_eq!(plan(&scenario).as_deref(), Some("team"));
}

#[test]
fn same_second_counts_only_within_a_subscription() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::updated("past_due").at(5).id("evt_b"),
        team(TestEvent::created("trialing")).at(5).id("evt_a"),
    ]);
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("past_due", "trialing"));
}

#[test]
fn plan_falls_back_when_the_better_subscription_ends() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), team(TestEvent::created("active")).at(2)]);
    assert_eq!(plan(&scenario).as_deref(), Some("team"));
    scenario.apply_all([team(TestEvent::deleted("canceled")).at(3)]);
    assert_eq!(plan(&scenario).as_deref(), Some("pro"));
    scenario.apply_all([TestEvent::deleted("canceled").at(4)]);
    let entitlement = scenario.entitlement(&["sub_1", "sub_2"]);
    assert_eq!((entitlement.plan, entitlement.access, entitlement.can_manage), (None, false, true));
}

#[test]
fn better_subscription_without_access_does_not_count() {
    for status in ["unpaid", "incomplete", "paused", "hibernating"] {
        let mut scenario = Scenario::with_acme();
        scenario.apply_all([TestEvent::created("active").at(1), team(TestEvent::created("active")).at(2)]);
        scenario.apply_all([team(TestEvent::updated(status)).at(3)]);
        assert_eq!(plan(&scenario).as_deref(), Some("pro"), "{status}");
        scenario.apply_all([team(TestEvent::updated("past_due")).at(4)]);
        assert_eq!(plan(&scenario).as_deref(), Some("team"), "the plan counts before the status");
    }
}

#[test]
fn late_end_of_old_subscription_keeps_the_new_plan() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        team(TestEvent::created("active")).at(20),
        TestEvent::updated("past_due").at(10),
        TestEvent::deleted("canceled").at(11),
    ]);
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("canceled", "active"));
    assert_eq!(plan(&scenario).as_deref(), Some("team"));
}

#[test]
fn plan_on_any_item_is_applied_without_warning() {
    let add_on = |price: &str| Item {
        price: PriceId::parse(price).expect("a price id"),
        lookup_key: None,
        quantity: Some(3),
    };
    let mut scenario = Scenario::with_acme();
    let bundle = TestEvent::created("active").with_price("price_support").edit_state(|state| {
        state.items.extend([add_on("price_seats"), add_on("price_team")]);
    });
    let effect = scenario.apply(bundle);
    assert_eq!((effect.outcome, effect.reason, effect.is_warning), (Outcome::Applied, None, false));
    let entitlement = scenario.entitlement(&["sub_1"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));
    assert_eq!((entitlement.price, entitlement.quantity), (PriceId::parse("price_team").ok(), Some(3)));
}

#[test]
fn link_by_one_subscription_applies_parked_events_of_all() {
    let mut scenario = Scenario::empty();
    let unknown = (Outcome::Parked, Some("unknown_customer"));
    assert_eq!(scenario.outcome_of(TestEvent::created("active").at(1).id("evt_1")), unknown);
    assert_eq!(scenario.outcome_of(TestEvent::deleted("canceled").at(3).id("evt_2")), unknown);
    scenario.apply_all([team(TestEvent::created("active")).at(2).id("evt_3").with_tenant("acme")]);
    assert_eq!((scenario.status("sub_1"), scenario.status("sub_2")), ("canceled", "active"));
    assert_eq!(plan(&scenario).as_deref(), Some("team"));
}

#[test]
fn changes_list_tenants_with_changed_entitlements() {
    let mut scenario = Scenario::new(&[("acme", Some("cus_acme")), ("birch", Some("cus_birch"))], vec![]);
    assert!(scenario.batch.changes().entitlements.is_empty());
    scenario.apply_all([TestEvent::created("active").at(1)]);
    scenario.apply(TestEvent::updated("active").at(0));
    scenario.apply(TestEvent::portal_opened());
    assert_eq!(scenario.batch.changes().entitlements, [tenant_id("acme")].into());
}
