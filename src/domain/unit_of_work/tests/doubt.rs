//! Where events leave something open, a question to Stripe is left; where they do not, none.

use super::stage::checkout;
use super::*;
use crate::domain::ids::PriceId;
use crate::domain::previous::{Previous, Replaced};
use crate::domain::subscription::{Item, PaymentProblem};

#[test]
fn an_older_event_that_says_something_else_is_a_reason_to_ask() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(5)]);
    assert_eq!(stage.asked(), [""; 0]);
    stage.hears(Draft::updated("active").at(4).named("evt_same"));
    assert_eq!(stage.asked(), [""; 0], "what says the same leaves nothing open");
    stage.hears(Draft::updated("past_due").at(4).named("evt_late"));
    assert_eq!(stage.asked(), ["sub_1: older, after evt_late"]);
}

/// An update that replaced this quantity.
fn from_quantity(quantity: i64) -> Previous {
    let price = PriceId::parse("price_pro").expect("a price");
    let item = Item { price, lookup_key: None, quantity: Some(quantity) };
    Previous { items: Replaced::Value(Some(vec![item])), ..Previous::default() }
}

/// An update to this quantity.
fn to_quantity(quantity: i64) -> Draft {
    Draft::updated("active").on_state(|state| state.items[0].quantity = Some(quantity))
}

#[test]
fn newer_update_of_another_state_than_ours_is_a_reason_to_ask() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(99)]);
    stage.applies([to_quantity(2).replacing(from_quantity(1)).at(100).named("evt_next")]);
    assert_eq!(stage.asked(), [""; 0], "it leads back to what we held");
    stage.applies([to_quantity(4).replacing(from_quantity(3)).at(101).named("evt_gap")]);
    assert_eq!(stage.asked(), ["sub_1: missed_update, after evt_gap"]);
    assert_eq!(stage.subscription("sub_1").state.items[0].quantity, Some(4), "it is applied");
}

#[test]
fn update_that_follows_an_unseen_one_of_other_fields_is_a_reason_to_ask() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(99)]);
    // It says that none of the fields that we keep was changed, and yet they differ from ours.
    stage.applies([Draft::updated("past_due").replacing(Previous::default()).at(100).named("evt_other")]);
    assert_eq!(stage.asked(), ["sub_1: missed_update, after evt_other"]);
}

#[test]
fn update_that_does_not_say_what_it_replaced_leaves_nothing_open() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(99), Draft::updated("past_due").at(100)]);
    assert_eq!(stage.asked(), [""; 0]);
}

#[test]
fn snapshot_with_cut_items_is_asked_about_and_changes_nothing() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(99)]);
    let cut = Draft::updated("past_due").with_more_items().at(100).named("evt_cut");
    assert_eq!(stage.hears(cut), (Outcome::Stale, Some("incomplete_items")));
    assert_eq!(stage.asked(), ["sub_1: incomplete_items, after evt_cut"]);
    assert_eq!(stage.status("sub_1"), "active");
    stage.applies([Draft::deleted("canceled").with_more_items().at(101)]);
    assert_eq!(stage.status("sub_1"), "canceled", "an end grants nothing, whatever its items are");
}

#[test]
fn an_end_leaves_nothing_open() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::deleted("canceled").at(5)]);
    stage.hears(Draft::updated("past_due").at(4));
    stage.hears(Draft::updated("active").at(6));
    stage.hears(Draft::trial_will_end("active").at(7));
    assert_eq!(stage.asked(), [""; 0]);
}

#[test]
fn an_announcement_is_asked_about_if_it_differs_or_is_all_that_we_have() {
    let mut stage = Stage::with_acme();
    stage.hears(Draft::trial_will_end("trialing").at(5).named("evt_first"));
    assert_eq!(stage.asked(), ["sub_1: announcement, after evt_first"]);

    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("trialing").at(1), Draft::trial_will_end("trialing").at(5)]);
    assert_eq!(stage.asked(), [""; 0]);
    stage.hears(Draft::trial_will_end("active").at(6).named("evt_differs"));
    assert_eq!(stage.asked(), ["sub_1: announcement, after evt_differs"]);
}

#[test]
fn a_second_that_its_events_do_not_settle_is_asked_about() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::updated("active").at(5).named("evt_1")]);
    let effect = stage.plays(Draft::updated("past_due").at(5).named("evt_2"));
    assert_eq!((effect.reason, effect.loud), (Some("undecided_second"), true));
    assert_eq!(stage.asked(), ["sub_1: undecided_second, after evt_2"]);
}

#[test]
fn after_an_answer_its_second_is_open_only_to_what_differs() {
    let mut stage = Stage::with_acme();
    stage.stripe_answers(Draft::updated("active"), 12);
    assert_eq!(
        stage.hears(Draft::updated("active").at(12).named("evt_1")),
        (Outcome::Applied, Some("no_change"))
    );
    assert_eq!(stage.asked(), [""; 0]);
    stage.hears(Draft::updated("past_due").at(12).named("evt_2"));
    assert_eq!(stage.asked(), ["sub_1: undecided_second, after evt_2"]);
}

#[test]
fn a_subscription_that_a_session_or_an_invoice_names_is_asked_for_until_it_comes_by_itself() {
    for naming in [Draft::session_completed(), Draft::invoice_paid(), Draft::invoice_payment_failed()] {
        let mut stage = Stage::with_acme_at_checkout();
        stage.hears(naming.named("evt_1"));
        assert_eq!(stage.asked(), ["sub_1: subscription_not_held, after evt_1"]);
        stage.applies([Draft::created("active").named("evt_2")]);
        assert_eq!(stage.asked(), [""; 0], "the batch itself has brought it");
    }
}

#[test]
fn linking_asks_for_all_that_the_customer_has() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    assert_eq!(stage.operator_links("acme", "cus_acme"), Ok(()));
    assert_eq!(stage.asked(), ["cus_acme: linked"]);

    let mut stage = Stage::set(&[("acme", None)], vec![]);
    stage.applies([Draft::created("active").tagged("acme").named("evt_1")]);
    assert_eq!(stage.asked(), ["cus_acme: linked, after evt_1"]);
}

#[test]
fn a_customer_that_a_checkout_has_just_made_has_nothing_to_ask_about() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    let cause = Cause { name: cause::CHECKOUT, event: None, at: 500 };
    let linked = stage.work.link(&tenant_id("acme"), &customer_id("cus_acme"), cause, &stage.policy);
    assert_eq!((linked, stage.asked()), (Ok(()), vec![]));
}

#[test]
fn an_answer_for_a_customer_that_nobody_has_any_more_changes_nothing() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    assert!(!stage.stripe_answers(Draft::updated("active"), 12));
    assert!(!stage.holds("sub_1"));
}

#[test]
fn an_answer_about_somebody_elses_subscription_is_not_taken_over() {
    let mut stage = Stage::with_acme();
    let event = Draft::updated("active").of("cus_other").into_event();
    let Subject::Subscription(_, snapshot) = &event.subject else { unreachable!() };
    assert!(!stage.work.answer(&customer_id("cus_acme"), std::slice::from_ref(snapshot), 12));
    assert!(!stage.holds("sub_1"));
}

#[test]
fn a_payment_is_remembered_until_its_subscription_comes() {
    let paid = || Draft::invoice_paid().at(2).named("evt_paid");
    let unpaid = || Draft::session_completed().unpaid().at(1).named("evt_session");
    let created = || Draft::created("active").at(1).named("evt_created");
    for events in [
        [paid(), unpaid(), created()],
        [paid(), created(), unpaid()],
        [unpaid(), paid(), created()],
        [unpaid(), created(), paid()],
        [created(), unpaid(), paid()],
        [created(), paid(), unpaid()],
    ] {
        for checkouts in [vec![], vec![checkout("cs_1", "acme", "cus_acme", 1)]] {
            let mut stage = Stage::set(&[("acme", Some("cus_acme"))], checkouts);
            for event in &events {
                stage.hears(event.clone());
            }
            let order: Vec<_> = events.iter().map(|event| event.clone().into_event().id).collect();
            assert!(stage.grants("sub_1"), "{order:?}");
            assert_eq!(stage.subscription("sub_1").paid_at, Some(2), "{order:?}");
        }
    }
}

#[test]
fn a_payment_that_failed_before_its_subscription_came_is_noted_when_it_does() {
    let mut stage = Stage::with_acme();
    stage.hears(Draft::invoice_payment_failed().at(2).named("evt_failed"));
    stage.applies([Draft::created("incomplete").at(1)]);
    assert_eq!(stage.subscription("sub_1").payment_problem, Some(PaymentProblem::Failed));
}

#[test]
fn a_second_subscription_beside_a_living_one_is_noted() {
    let mut stage = Stage::with_acme();
    let second = |draft: Draft| draft.for_subscription("sub_2");
    stage.applies([
        Draft::created("active").at(1),
        second(Draft::created("incomplete")).at(2),
        second(Draft::updated("active")).at(3),
        second(Draft::updated("past_due")).at(4),
    ]);
    let told = [
        "sub_1: nothing -> active",
        "sub_2: nothing -> incomplete",
        "sub_2: incomplete -> active",
        "subscription.doubled",
        "sub_2: active -> past_due",
    ];
    assert_eq!(stage.journal(), told, "once, when it begins to be paid for");
}

#[test]
fn a_subscription_after_an_end_is_no_second_one() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1), Draft::deleted("canceled").at(2)]);
    stage.applies([Draft::created("active").for_subscription("sub_2").at(3)]);
    assert!(!stage.journal().contains(&"subscription.doubled".to_owned()));
}

#[test]
fn a_customer_that_is_let_go_leaves_its_tenant_free_and_what_it_had_as_it_is() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1)]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 9 };
    assert_eq!(stage.work.free_tenant_of(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    assert_eq!((stage.customer_of("acme"), stage.tenant("acme").generation), (None, 1));
    assert_eq!(stage.status("sub_1"), "active");
    let again = Draft::updated("past_due").at(10).named("evt_again");
    assert_eq!(stage.hears(again), (Outcome::Parked, Some("unknown_customer")));
}

#[test]
fn a_customer_that_was_deleted_unheard_ends_as_if_its_event_had_come() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::created("active").at(1)]);
    let cause = Cause { name: cause::RESOURCE_MISSING, event: None, at: 9 };
    assert_eq!(stage.work.end_customer(&customer_id("cus_acme"), cause), Some(tenant_id("acme")));
    assert_eq!((stage.customer_of("acme"), stage.status("sub_1")), (None, "canceled"));
    let told = Draft::customer_deleted().at(8).named("evt_told");
    assert_eq!(stage.hears(told), (Outcome::Stale, Some("customer_deleted")));
}
