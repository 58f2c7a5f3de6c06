use super::*;

#[test]
fn paid_session_completes_checkout_with_its_subscription() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([TestEvent::created("active"), TestEvent::session_completed()]);
    let checkout = scenario.checkout("cs_1");
    assert_eq!(checkout.status, CheckoutStatus::Complete);
    assert_eq!(checkout.subscription, Some(subscription_id("sub_1")));
    assert!(scenario.batch.changes().checkouts.contains(&session_id("cs_1")));
    assert_eq!(scenario.journal(), ["sub_1: nothing -> active", "checkout.closed"]);
    assert!(scenario.grants("sub_1"));
}

#[test]
fn checkout_of_deleted_customer_is_closed_by_its_events() {
    for (event, status) in [
        (TestEvent::session_completed(), CheckoutStatus::Complete),
        (TestEvent::async_payment_failed(), CheckoutStatus::PaymentFailed),
        (TestEvent::session_expired(), CheckoutStatus::Expired),
    ] {
        let mut scenario = Scenario::with_open_checkout();
        scenario.apply_all([TestEvent::customer_deleted()]);
        scenario.apply(event);
        assert_eq!(scenario.checkout("cs_1").status, status);
        assert_eq!(scenario.customer_of("acme"), None);
    }
}

#[test]
fn foreign_session_is_journaled_for_its_customers_tenant() {
    let mut scenario = Scenario::with_acme();
    scenario.apply_all([TestEvent::session_completed().for_session("cs_from_a_payment_link")]);
    assert_eq!(scenario.journal(), ["checkout.closed"]);
    assert!(scenario.batch.changes().checkouts.is_empty());
}

#[test]
fn unpaid_session_grants_access_once_its_payment_succeeds() {
    let subscription = || TestEvent::created("active").at(1);
    let unpaid = || TestEvent::session_completed().unpaid().at(2);
    for [first, second] in [[subscription(), unpaid()], [unpaid(), subscription()]] {
        let mut scenario = Scenario::with_open_checkout();
        scenario.apply_all([first, second]);
        assert_eq!((scenario.status("sub_1"), scenario.grants("sub_1")), ("active", false));
        assert_eq!(scenario.checkout("cs_1").status, CheckoutStatus::AwaitingPayment);

        scenario.apply_all([TestEvent::async_payment_succeeded().at(3)]);
        assert!(scenario.grants("sub_1"));
        assert_eq!(scenario.checkout("cs_1").status, CheckoutStatus::Complete);
    }
}

#[test]
fn unpaid_session_grants_access_once_its_invoice_is_paid() {
    let subscription = || TestEvent::created("active").at(1);
    let unpaid = || TestEvent::session_completed().unpaid().at(2);
    for [first, second] in [[subscription(), unpaid()], [unpaid(), subscription()]] {
        let mut scenario = Scenario::with_open_checkout();
        scenario.apply_all([first, second]);
        assert!(!scenario.grants("sub_1"));
        scenario.apply_all([TestEvent::invoice_paid().at(3)]);
        assert!(scenario.grants("sub_1"));
    }
}

#[test]
fn new_snapshot_grants_no_access_while_payment_is_pending() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::session_completed().unpaid().at(1),
        TestEvent::created("incomplete").at(1),
        TestEvent::updated("active").at(2),
        TestEvent::updated("active").at(3).with_price("price_team"),
    ]);
    assert!(!scenario.grants("sub_1"));
}

#[test]
fn failed_invoice_leaves_first_payment_pending() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::session_completed().unpaid().at(2),
        TestEvent::invoice_payment_failed().at(3),
    ]);
    assert!(!scenario.grants("sub_1"));
}

#[test]
fn failed_delayed_payment_grants_no_access() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::session_completed().unpaid().at(2),
        TestEvent::async_payment_failed().at(3),
    ]);
    assert_eq!(
        (scenario.grants("sub_1"), scenario.checkout("cs_1").status),
        (false, CheckoutStatus::PaymentFailed)
    );
    assert_eq!(scenario.journal(), ["sub_1: nothing -> active", "checkout.closed", "checkout.closed"]);
}

#[test]
fn late_unpaid_session_does_not_undo_succeeded_payment() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::created("active").at(1),
        TestEvent::async_payment_succeeded().at(3),
        TestEvent::session_completed().unpaid().at(2),
    ]);
    assert_eq!(
        (scenario.grants("sub_1"), scenario.checkout("cs_1").status),
        (true, CheckoutStatus::Complete)
    );
}

#[test]
fn late_subscription_grants_no_access_after_failed_payment() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::session_completed().unpaid().at(2),
        TestEvent::async_payment_failed().at(3),
        TestEvent::created("active").at(1),
    ]);
    assert_eq!(
        (scenario.grants("sub_1"), scenario.checkout("cs_1").status),
        (false, CheckoutStatus::PaymentFailed)
    );
}

#[test]
fn unpaid_session_does_not_affect_other_subscriptions() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([
        TestEvent::session_completed().unpaid().for_subscription("sub_2").at(1),
        TestEvent::created("active").at(2),
        TestEvent::created("active").for_subscription("sub_2").at(2),
    ]);
    assert_eq!((scenario.grants("sub_1"), scenario.grants("sub_2")), (true, false));
}

#[test]
fn expired_session_closes_open_checkout() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([TestEvent::session_expired()]);
    assert_eq!(scenario.checkout("cs_1").status, CheckoutStatus::Expired);
    assert_eq!(scenario.journal(), ["checkout.closed"]);
    assert_eq!(scenario.tenant("acme").journey, None, "nothing was completed");
}

#[test]
fn expired_session_is_stale_for_closed_checkout() {
    for (closing, status) in [
        (TestEvent::session_completed(), CheckoutStatus::Complete),
        (TestEvent::session_completed().unpaid(), CheckoutStatus::AwaitingPayment),
        (TestEvent::session_expired(), CheckoutStatus::Expired),
    ] {
        let mut scenario = Scenario::with_open_checkout();
        scenario.apply_all([closing]);
        let effect = scenario.apply(TestEvent::session_expired().id("evt_2").at(200));
        assert_eq!((effect.outcome, effect.reason), (Outcome::Stale, Some("session_closed")));
        assert_eq!(effect.tenant, Some(tenant_id("acme")));
        assert_eq!(scenario.checkout("cs_1").status, status);
    }
}

#[test]
fn expired_foreign_session_is_ignored() {
    let mut scenario = Scenario::with_open_checkout();
    let expired = TestEvent::session_expired().for_session("cs_2");
    assert_eq!(scenario.outcome_of(expired), (Outcome::Ignored, Some("unknown_session")));
    assert_eq!(scenario.journal(), [""; 0]);
}

#[test]
fn refreshed_complete_session_closes_its_checkout() {
    let mut scenario = Scenario::with_open_checkout();
    scenario.apply_all([TestEvent::created("active")]);
    let event = TestEvent::session_completed().into_event();
    let Subject::Checkout(_, session) = &event.subject else { panic!("a session") };
    scenario.batch.apply_refreshed_session(session, 300);

    assert_eq!(scenario.checkout("cs_1").status, CheckoutStatus::Complete);
    assert_eq!(scenario.tenant("acme").journey, Some(scenario.checkout("cs_1").journey));
    let entry = scenario.last_entry();
    assert_eq!((&entry.kind, entry.cause.as_str(), entry.at), (&EntryKind::CheckoutClosed, "refresh", 300));
    assert!(scenario.grants("sub_1"));
}
