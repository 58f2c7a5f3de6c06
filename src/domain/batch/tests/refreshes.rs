//! A refresh is requested when events do not determine the state.

use super::scenario::checkout;
use super::*;
use crate::domain::ids::PriceId;
use crate::domain::previous_attributes::{PreviousAttributes, PreviousValue};
use crate::domain::subscription::{Item, PaymentProblem};

#[test]
fn older_event_with_other_state_requests_refresh() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(5)]);
    assert_eq!(scenario.refreshes(), [""; 0]);
    scenario.apply(TestEvent::updated("active").at(4).id("evt_same"));
    assert_eq!(scenario.refreshes(), [""; 0], "the same state needs no refresh");
    scenario.apply(TestEvent::updated("past_due").at(4).id("evt_late"));
    assert_eq!(scenario.refreshes(), ["sub_1: older, after evt_late"]);
}

/// The previous attributes of an update that changed this quantity.
fn from_quantity(quantity: i64) -> PreviousAttributes {
    let price = PriceId::parse("price_pro").expect("a price");
    let item = Item { price, lookup_key: None, quantity: Some(quantity) };
    PreviousAttributes { items: PreviousValue::Was(Some(vec![item])), ..PreviousAttributes::default() }
}

/// An update to this quantity.
fn to_quantity(quantity: i64) -> TestEvent {
    TestEvent::updated("active").edit_state(|state| state.items[0].quantity = Some(quantity))
}

#[test]
fn update_from_another_state_requests_refresh() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(99)]);
    scenario.apply_all([to_quantity(2).with_previous(from_quantity(1)).at(100).id("evt_next")]);
    assert_eq!(scenario.refreshes(), [""; 0], "it starts from the stored state");
    scenario.apply_all([to_quantity(4).with_previous(from_quantity(3)).at(101).id("evt_gap")]);
    assert_eq!(scenario.refreshes(), ["sub_1: missed_update, after evt_gap"]);
    assert_eq!(scenario.subscription("sub_1").state.items[0].quantity, Some(4), "it is applied");
}

#[test]
fn update_after_an_unseen_one_requests_refresh() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(99)]);
    // According to the event none of the stored fields changed, but they differ from the stored
    // state.
    scenario.apply_all([TestEvent::updated("past_due")
        .with_previous(PreviousAttributes::default())
        .at(100)
        .id("evt_other")]);
    assert_eq!(scenario.refreshes(), ["sub_1: missed_update, after evt_other"]);
}

#[test]
fn update_without_previous_attributes_requests_nothing() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(99), TestEvent::updated("past_due").at(100)]);
    assert_eq!(scenario.refreshes(), [""; 0]);
}

#[test]
fn truncated_items_request_refresh_and_change_nothing() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(99)]);
    let cut = TestEvent::updated("past_due").with_truncated_items().at(100).id("evt_truncated");
    assert_eq!(scenario.outcome_of(cut), (Outcome::Stale, Some("incomplete_items")));
    assert_eq!(scenario.refreshes(), ["sub_1: incomplete_items, after evt_truncated"]);
    assert_eq!(scenario.status("sub_1"), "active");
    scenario.apply_all([TestEvent::deleted("canceled").with_truncated_items().at(101)]);
    assert_eq!(scenario.status("sub_1"), "canceled", "a final state does not need its items");
}

#[test]
fn ended_subscription_requests_nothing() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::deleted("canceled").at(5)]);
    scenario.apply(TestEvent::updated("past_due").at(4));
    scenario.apply(TestEvent::updated("active").at(6));
    scenario.apply(TestEvent::trial_will_end("active").at(7));
    assert_eq!(scenario.refreshes(), [""; 0]);
}

#[test]
fn announcement_requests_refresh_if_it_differs_or_is_first() {
    let mut scenario = Scenario::with_acme();
    scenario.apply(TestEvent::trial_will_end("trialing").at(5).id("evt_first"));
    assert_eq!(scenario.refreshes(), ["sub_1: announcement, after evt_first"]);

    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("trialing").at(1), TestEvent::trial_will_end("trialing").at(5)]);
    assert_eq!(scenario.refreshes(), [""; 0]);
    scenario.apply(TestEvent::trial_will_end("active").at(6).id("evt_differs"));
    assert_eq!(scenario.refreshes(), ["sub_1: announcement, after evt_differs"]);
}

#[test]
fn undecided_second_requests_refresh() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::updated("active").at(5).id("evt_1")]);
    let effect = scenario.apply(TestEvent::updated("past_due").at(5).id("evt_2"));
    assert_eq!((effect.reason, effect.is_warning), (Some("undecided_second"), true));
    assert_eq!(scenario.refreshes(), ["sub_1: undecided_second, after evt_2"]);
}

#[test]
fn differing_event_in_second_of_answer_requests_refresh() {
    let mut scenario = Scenario::with_acme();
    scenario.refresh(TestEvent::updated("active"), 12);
    assert_eq!(
        scenario.outcome_of(TestEvent::updated("active").at(12).id("evt_1")),
        (Outcome::Applied, Some("no_change"))
    );
    assert_eq!(scenario.refreshes(), [""; 0]);
    scenario.apply(TestEvent::updated("past_due").at(12).id("evt_2"));
    assert_eq!(scenario.refreshes(), ["sub_1: undecided_second, after evt_2"]);
}

#[test]
fn unknown_subscription_is_refreshed_unless_its_event_follows() {
    for naming in
        [TestEvent::session_completed(), TestEvent::invoice_paid(), TestEvent::invoice_payment_failed()]
    {
        let mut scenario = Scenario::with_open_checkout();
        scenario.apply(naming.id("evt_1"));
        assert_eq!(scenario.refreshes(), ["sub_1: subscription_not_held, after evt_1"]);
        scenario.apply_all([TestEvent::created("active").id("evt_2")]);
        assert_eq!(scenario.refreshes(), [""; 0], "the same batch has stored it");
    }
}

#[test]
fn linking_requests_refresh_of_the_customer() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    assert_eq!(scenario.link_as_operator("acme", "cus_acme"), Ok(()));
    assert_eq!(scenario.refreshes(), ["cus_acme: linked"]);

    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    scenario.apply_all([TestEvent::created("active").with_tenant("acme").id("evt_1")]);
    assert_eq!(scenario.refreshes(), ["cus_acme: linked, after evt_1"]);
}

#[test]
fn link_of_customer_created_by_checkout_requests_nothing() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    let cause = Cause { name: cause::CHECKOUT, event: None, at: 500 };
    let linked = scenario.batch.link(&tenant_id("acme"), &customer_id("cus_acme"), cause, &scenario.policy);
    assert_eq!((linked, scenario.refreshes()), (Ok(()), vec![]));
}

#[test]
fn refresh_of_unlinked_customer_changes_nothing() {
    let mut scenario = Scenario::new(&[("acme", None)], vec![]);
    assert!(!scenario.refresh(TestEvent::updated("active"), 12));
    assert!(!scenario.has_subscription("sub_1"));
}

#[test]
fn refresh_ignores_subscription_of_another_customer() {
    let mut scenario = Scenario::with_acme();
    let event = TestEvent::updated("active").for_customer("cus_other").into_event();
    let Subject::Subscription(_, snapshot) = &event.subject else { unreachable!() };
    assert!(!scenario.batch.apply_refresh(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 12));
    assert!(!scenario.has_subscription("sub_1"));
}

#[test]
fn payment_is_remembered_until_its_subscription_arrives() {
    let paid = || TestEvent::invoice_paid().at(2).id("evt_paid");
    let unpaid = || TestEvent::session_completed().unpaid().at(1).id("evt_session");
    let created = || TestEvent::created("active").at(1).id("evt_created");
    for events in [
        [paid(), unpaid(), created()],
        [paid(), created(), unpaid()],
        [unpaid(), paid(), created()],
        [unpaid(), created(), paid()],
        [created(), unpaid(), paid()],
        [created(), paid(), unpaid()],
    ] {
        for checkouts in [vec![], vec![checkout("cs_1", "acme", "cus_acme", 1)]] {
            let mut scenario = Scenario::new(&[("acme", Some("cus_acme"))], checkouts);
            for event in &events {
                scenario.apply(event.clone());
            }
            let order: Vec<_> = events.iter().map(|event| event.clone().into_event().id).collect();
            assert!(scenario.grants("sub_1"), "{order:?}");
            assert_eq!(scenario.subscription("sub_1").paid_at, Some(2), "{order:?}");
        }
    }
}

#[test]
fn failed_payment_is_noted_when_its_subscription_arrives() {
    let mut scenario = Scenario::with_acme();
    scenario.apply(TestEvent::invoice_payment_failed().at(2).id("evt_failed"));
    scenario.apply_all([TestEvent::created("incomplete").at(1)]);
    assert_eq!(scenario.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn second_paid_subscription_is_journaled() {
    let mut scenario = Scenario::with_acme();
    let second = |event: TestEvent| event.for_subscription("sub_2");
    scenario.apply_all([
        TestEvent::created("active").at(1),
        second(TestEvent::created("incomplete")).at(2),
        second(TestEvent::updated("active")).at(3),
        second(TestEvent::updated("past_due")).at(4),
    ]);
    let journal = [
        "sub_1: nothing -> active",
        "sub_2: nothing -> incomplete",
        "sub_2: incomplete -> active",
        "subscription.doubled",
        "sub_2: active -> past_due",
    ];
    assert_eq!(scenario.journal(), journal, "once, when its payments start");
}

#[test]
fn subscription_after_an_ended_one_is_not_a_second() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1), TestEvent::deleted("canceled").at(2)]);
    scenario.apply_all([TestEvent::created("active").for_subscription("sub_2").at(3)]);
    assert!(!scenario.journal().contains(&"subscription.doubled".to_owned()));
}

#[test]
fn removed_customer_frees_tenant_and_keeps_subscriptions() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1)]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 9 };
    assert_eq!(scenario.batch.free_tenant_of(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    assert_eq!((scenario.customer_of("acme"), scenario.tenant("acme").generation), (None, 1));
    assert_eq!(scenario.status("sub_1"), "active");
    let again = TestEvent::updated("past_due").at(10).id("evt_again");
    assert_eq!(scenario.outcome_of(again), (Outcome::Parked, Some("unknown_customer")));
}

#[test]
fn customer_missing_at_stripe_is_ended_as_if_deleted() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::created("active").at(1)]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 9 };
    assert_eq!(scenario.batch.end_customer(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    assert_eq!((scenario.customer_of("acme"), scenario.status("sub_1")), (None, "canceled"));
    let deleted = TestEvent::customer_deleted().at(8).id("evt_deleted");
    assert_eq!(scenario.outcome_of(deleted), (Outcome::Stale, Some("customer_deleted")));
}
