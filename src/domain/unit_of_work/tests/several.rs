//! A tenant with several subscriptions: each has its own time and its own end, and one of them speaks.

use super::*;
use crate::domain::ids::PriceId;
use crate::domain::subscription::Item;

/// An event of the tenant's other subscription, which is for the better plan.
fn team(draft: Draft) -> Draft {
    draft.for_subscription("sub_2").at_price("price_team")
}

fn plan(stage: &Stage) -> Option<String> {
    stage.entitlement(&["sub_1", "sub_2"]).plan.map(|plan| plan.to_string())
}

#[test]
fn what_is_late_for_one_is_not_late_for_the_other() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("active").at(9),
        team(Draft::created("incomplete")).at(2),
        team(Draft::updated("active")).at(3),
    ]);
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("active", "active"));
    assert_eq!((stage.subscription("sub_1").as_of, stage.subscription("sub_2").as_of), (9, 3));
    assert_eq!(plan(&stage).as_deref(), Some("team"));
}

#[test]
fn events_of_one_second_compete_only_within_their_subscription() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::updated("past_due").at(5).named("evt_b"),
        team(Draft::created("trialing")).at(5).named("evt_a"),
    ]);
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("past_due", "trialing"));
}

#[test]
fn when_the_better_one_ends_the_other_speaks() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), team(Draft::created("active")).at(2)]);
    assert_eq!(plan(&stage).as_deref(), Some("team"));
    stage.applies([team(Draft::deleted("canceled")).at(3)]);
    assert_eq!(plan(&stage).as_deref(), Some("pro"));
    stage.applies([Draft::deleted("canceled").at(4)]);
    let entitlement = stage.entitlement(&["sub_1", "sub_2"]);
    assert_eq!((entitlement.plan, entitlement.access, entitlement.can_manage), (None, false, true));
}

#[test]
fn a_better_one_that_grants_nothing_is_silent_while_another_grants() {
    for status in ["unpaid", "incomplete", "paused", "hibernating"] {
        let mut stage = Stage::with_acme();
        stage.applies([Draft::created("active").at(1), team(Draft::created("active")).at(2)]);
        stage.applies([team(Draft::updated(status)).at(3)]);
        assert_eq!(plan(&stage).as_deref(), Some("pro"), "{status}");
        stage.applies([team(Draft::updated("past_due")).at(4)]);
        assert_eq!(
            plan(&stage).as_deref(),
            Some("team"),
            "the better plan counts before the better standing"
        );
    }
}

#[test]
fn the_end_of_the_old_one_may_be_heard_of_after_the_new_one_began() {
    let mut stage = Stage::with_acme();
    stage.applies([
        Draft::created("active").at(1),
        team(Draft::created("active")).at(20),
        Draft::updated("past_due").at(10),
        Draft::deleted("canceled").at(11),
    ]);
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("canceled", "active"));
    assert_eq!(plan(&stage).as_deref(), Some("team"));
}

#[test]
fn the_plan_may_be_on_any_item_and_then_nothing_is_reported() {
    let add_on = |price: &str| Item {
        price: PriceId::parse(price).expect("a price id"),
        lookup_key: None,
        quantity: Some(3),
    };
    let mut stage = Stage::with_acme();
    let bundle = Draft::created("active").at_price("price_support").on_state(|state| {
        state.items.extend([add_on("price_seats"), add_on("price_team")]);
    });
    let effect = stage.plays(bundle);
    assert_eq!((effect.outcome, effect.reason, effect.loud), (Outcome::Applied, None, false));
    let entitlement = stage.entitlement(&["sub_1"]);
    assert_eq!(entitlement.plan.map(|plan| plan.to_string()).as_deref(), Some("team"));
    assert_eq!((entitlement.price, entitlement.quantity), (PriceId::parse("price_team").ok(), Some(3)));
}

#[test]
fn a_link_by_one_of_them_plays_what_waits_of_all_of_them() {
    let mut stage = Stage::empty();
    let unknown = (Outcome::Parked, Some("unknown_customer"));
    assert_eq!(stage.hears(Draft::created("active").at(1).named("evt_1")), unknown);
    assert_eq!(stage.hears(Draft::deleted("canceled").at(3).named("evt_2")), unknown);
    stage.applies([team(Draft::created("active")).at(2).named("evt_3").tagged("acme")]);
    assert_eq!((stage.status("sub_1"), stage.status("sub_2")), ("canceled", "active"));
    assert_eq!(plan(&stage).as_deref(), Some("team"));
}

#[test]
fn whose_entitlement_may_have_changed_is_known() {
    let mut stage = Stage::set(&[("acme", Some("cus_acme")), ("birch", Some("cus_birch"))], vec![]);
    assert!(stage.work.changes().entitlements.is_empty());
    stage.applies([Draft::created("active").at(1)]);
    stage.hears(Draft::updated("active").at(0));
    stage.hears(Draft::portal_opened());
    assert_eq!(stage.work.changes().entitlements, [tenant_id("acme")].into());
}
