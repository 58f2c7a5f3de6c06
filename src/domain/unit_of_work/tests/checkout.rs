//! Checkout sessions: paid at once, paid later, never paid, walked away from.

use super::*;

/// Whether `sub_1` grants its plan.
fn granted(stage: &Stage) -> bool {
    stage.grants("sub_1")
}

#[test]
fn a_paid_session_closes_its_checkout_and_knows_what_it_made() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([Draft::created("active"), Draft::session_completed()]);
    let checkout = stage.checkout("cs_1");
    assert_eq!(checkout.status, CheckoutStatus::Complete);
    assert_eq!(checkout.subscription, Some(subscription_id("sub_1")));
    assert!(stage.work.changes().checkouts.contains(&session_id("cs_1")));
    assert_eq!(stage.journal(), ["sub_1: nothing -> active", "checkout.closed"]);
    assert!(granted(&stage));
}

#[test]
fn checkout_of_deleted_customer_is_closed_by_its_events() {
    for (event, status) in [
        (Draft::session_completed(), CheckoutStatus::Complete),
        (Draft::async_payment_failed(), CheckoutStatus::PaymentFailed),
        (Draft::session_expired(), CheckoutStatus::Expired),
    ] {
        let mut stage = Stage::with_acme_at_checkout();
        stage.applies([Draft::customer_deleted()]);
        stage.plays(event);
        assert_eq!(stage.checkout("cs_1").status, status);
        assert_eq!(stage.customer_of("acme"), None);
    }
}

#[test]
fn a_session_that_we_did_not_make_is_journaled_for_its_customers_tenant() {
    let mut stage = Stage::with_acme();
    stage.applies([Draft::session_completed().of_session("cs_from_a_payment_link")]);
    assert_eq!(stage.journal(), ["checkout.closed"]);
    assert!(stage.work.changes().checkouts.is_empty());
}

#[test]
fn an_unpaid_session_grants_nothing_until_its_payment_succeeds_in_either_order() {
    let subscription = || Draft::created("active").at(1);
    let unpaid = || Draft::session_completed().unpaid().at(2);
    for [first, second] in [[subscription(), unpaid()], [unpaid(), subscription()]] {
        let mut stage = Stage::with_acme_at_checkout();
        stage.applies([first, second]);
        assert_eq!((stage.status("sub_1"), granted(&stage)), ("active", false));
        assert_eq!(stage.checkout("cs_1").status, CheckoutStatus::AwaitingPayment);

        stage.applies([Draft::async_payment_succeeded().at(3)]);
        assert!(granted(&stage));
        assert_eq!(stage.checkout("cs_1").status, CheckoutStatus::Complete);
    }
}

#[test]
fn an_unpaid_session_grants_nothing_until_its_invoice_is_paid_in_either_order() {
    let subscription = || Draft::created("active").at(1);
    let unpaid = || Draft::session_completed().unpaid().at(2);
    for [first, second] in [[subscription(), unpaid()], [unpaid(), subscription()]] {
        let mut stage = Stage::with_acme_at_checkout();
        stage.applies([first, second]);
        assert!(!granted(&stage));
        stage.applies([Draft::invoice_paid().at(3)]);
        assert!(granted(&stage));
    }
}

#[test]
fn while_money_is_awaited_a_new_snapshot_grants_nothing_either() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::session_completed().unpaid().at(1),
        Draft::created("incomplete").at(1),
        Draft::updated("active").at(2),
        Draft::updated("active").at(3).at_price("price_team"),
    ]);
    assert!(!granted(&stage));
}

#[test]
fn a_failed_invoice_does_not_end_the_wait_for_money() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::created("active").at(1),
        Draft::session_completed().unpaid().at(2),
        Draft::invoice_payment_failed().at(3),
    ]);
    assert!(!granted(&stage));
}

#[test]
fn a_delayed_payment_that_fails_grants_nothing() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::created("active").at(1),
        Draft::session_completed().unpaid().at(2),
        Draft::async_payment_failed().at(3),
    ]);
    assert_eq!((granted(&stage), stage.checkout("cs_1").status), (false, CheckoutStatus::PaymentFailed));
    assert_eq!(stage.journal(), ["sub_1: nothing -> active", "checkout.closed", "checkout.closed"]);
}

#[test]
fn a_payment_that_succeeded_has_succeeded_even_if_its_session_is_heard_of_later() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::created("active").at(1),
        Draft::async_payment_succeeded().at(3),
        Draft::session_completed().unpaid().at(2),
    ]);
    assert_eq!((granted(&stage), stage.checkout("cs_1").status), (true, CheckoutStatus::Complete));
}

#[test]
fn a_payment_that_failed_grants_nothing_even_if_its_subscription_is_heard_of_later() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::session_completed().unpaid().at(2),
        Draft::async_payment_failed().at(3),
        Draft::created("active").at(1),
    ]);
    assert_eq!((granted(&stage), stage.checkout("cs_1").status), (false, CheckoutStatus::PaymentFailed));
}

#[test]
fn an_unpaid_session_keeps_nothing_from_a_subscription_that_it_did_not_make() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([
        Draft::session_completed().unpaid().for_subscription("sub_2").at(1),
        Draft::created("active").at(2),
        Draft::created("active").for_subscription("sub_2").at(2),
    ]);
    assert_eq!((granted(&stage), stage.grants("sub_2")), (true, false));
}

#[test]
fn an_expired_session_closes_a_checkout_that_is_open() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([Draft::session_expired()]);
    assert_eq!(stage.checkout("cs_1").status, CheckoutStatus::Expired);
    assert_eq!(stage.journal(), ["checkout.closed"]);
    assert_eq!(stage.tenant("acme").journey, None, "nothing was completed");
}

#[test]
fn an_expired_session_closes_no_checkout_that_is_closed() {
    for (closing, status) in [
        (Draft::session_completed(), CheckoutStatus::Complete),
        (Draft::session_completed().unpaid(), CheckoutStatus::AwaitingPayment),
        (Draft::session_expired(), CheckoutStatus::Expired),
    ] {
        let mut stage = Stage::with_acme_at_checkout();
        stage.applies([closing]);
        let effect = stage.plays(Draft::session_expired().named("evt_2").at(200));
        assert_eq!((effect.outcome, effect.reason), (Outcome::Stale, Some("session_closed")));
        assert_eq!(effect.tenant, Some(tenant_id("acme")));
        assert_eq!(stage.checkout("cs_1").status, status);
    }
}

#[test]
fn an_expired_session_that_we_did_not_make_is_ignored() {
    let mut stage = Stage::with_acme_at_checkout();
    let expired = Draft::session_expired().of_session("cs_2");
    assert_eq!(stage.hears(expired), (Outcome::Ignored, Some("unknown_session")));
    assert_eq!(stage.journal(), [""; 0]);
}

#[test]
fn a_session_that_stripe_calls_complete_when_asked_is_closed_like_one_that_was_told() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.applies([Draft::created("active")]);
    let event = Draft::session_completed().into_event();
    let Subject::Checkout(_, session) = &event.subject else { panic!("a session") };
    stage.work.answer_session(session, 300);

    assert_eq!(stage.checkout("cs_1").status, CheckoutStatus::Complete);
    assert_eq!(stage.tenant("acme").journey, Some(stage.checkout("cs_1").journey));
    let entry = stage.last_entry();
    assert_eq!((&entry.entry, entry.cause.as_str(), entry.at), (&Entry::CheckoutClosed, "refresh", 300));
    assert!(granted(&stage));
}
