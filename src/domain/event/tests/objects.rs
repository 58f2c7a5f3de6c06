//! The other objects: checkout sessions, invoices, customers, portal sessions.

use serde_json::json;

use super::*;

/// Until 2025-03-31.basil an invoice named its subscription itself; since then its parent does.
const INVOICES: [(&str, &str); 2] = [
    ("2022-11-15", include_str!("../fixtures/invoice_paid.2022-11-15.json")),
    ("2025-03-31.basil", include_str!("../fixtures/invoice_paid.2025-03-31.basil.json")),
];

const ITS_SESSION: &str = "cs_test_b1kQ7ZpXw3RtLm0VfYs8HdNcGa5EuJ2oTi6BqDx9CjWvPnKrSy4AhMzF1e";

/// By the metadata of its subscription.
const ITS_JOURNEY: &str = "00-7c4e1b90d2f84a6e9b03c5d7f1a2e6b8-3d9f0a6c81b4e752-01";

#[test]
fn an_invoice_names_the_journey_of_its_subscription_also_where_that_stood_before() {
    let event = read_with_object(INVOICES[0].1, |invoice| {
        invoice["subscription_details"] = json!({ "metadata": { "traceparent": ITS_JOURNEY } });
    });
    assert_eq!(event.named_journey().map(|origin| origin.to_string()).as_deref(), Some(ITS_JOURNEY));
    assert_eq!(event.tags(), None, "and no tenant: an invoice links nobody");
}

fn its_subscription() -> SubscriptionId {
    SubscriptionId::parse(ITS_SUBSCRIPTION).expect("a subscription id")
}

#[test]
fn an_invoice_names_its_subscription_in_its_old_place_and_in_its_new_one() {
    for (version, fixture) in INVOICES {
        let event = read(fixture);
        let journey = (version != "2022-11-15").then_some(ITS_JOURNEY);
        let journey = journey.map(|text| Traceparent::parse(text).expect("a traceparent"));
        assert_eq!(event.named_journey(), journey, "{version}");
        let expected =
            Invoice { customer: customer_id(ACME), subscription: Some(its_subscription()), journey };
        assert_eq!(event.subject, Subject::Invoice(InvoiceChange::Paid, expected), "{version}");
        assert_eq!(event.customer(), Some(&customer_id(ACME)));
        assert_eq!(event.subscription(), Some(&its_subscription()));
        assert_eq!((event.request_id.as_ref(), event.tags()), (None, None), "Stripe charged by itself");
    }
}

#[test]
fn an_invoice_for_something_else_names_no_subscription() {
    for parent in
        [Value::Null, json!("none"), json!({ "subscription_details": null, "type": "quote_details" })]
    {
        let event = read_with_object(INVOICES[1].1, |invoice| invoice["parent"] = parent.clone());
        assert_eq!(invoice(&event).subscription, None, "{parent}");
    }
}

#[test]
fn each_type_of_invoice_event_says_what_became_of_the_payment() {
    for (kind, change) in [
        ("invoice.paid", InvoiceChange::Paid),
        ("invoice.payment_failed", InvoiceChange::PaymentFailed),
        ("invoice.payment_action_required", InvoiceChange::PaymentActionRequired),
    ] {
        let event = read_with(INVOICES[1].1, |event| event["type"] = json!(kind));
        let Subject::Invoice(read, _) = event.subject else { panic!("{kind} is not read") };
        assert_eq!(read, change);
    }
}

#[test]
fn an_expanded_object_reads_like_its_id() {
    let customer = json!({ "id": ACME, "object": "customer", "metadata": { "tenant_id": "other" } });
    let subscription = json!({ "id": ITS_SUBSCRIPTION, "object": "subscription", "status": "active" });

    let expanded = read_with_object(SUBSCRIPTION_UPDATED, |it| it["customer"] = customer.clone());
    assert_eq!(expanded.subject, read(SUBSCRIPTION_UPDATED).subject);

    let expanded = read_with_object(CHECKOUT_COMPLETED, |it| {
        it["customer"] = customer.clone();
        it["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(CHECKOUT_COMPLETED).subject);

    let [(_, old), (_, new)] = INVOICES;
    let expanded = read_with_object(old, |it| {
        it["customer"] = customer.clone();
        it["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(old).subject);
    let expanded = read_with_object(new, |it| {
        it["parent"]["subscription_details"]["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(new).subject);

    let expanded = read_with_object(PORTAL_OPENED, |it| it["customer"] = customer.clone());
    assert_eq!(expanded.subject, read(PORTAL_OPENED).subject);
}

#[test]
fn a_customer_that_is_only_left_as_deleted_still_has_its_id() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["customer"] = json!({ "id": ACME, "object": "customer", "deleted": true });
    });
    assert_eq!(event.customer(), Some(&customer_id(ACME)));
}

#[test]
fn a_completed_session_tells_who_pays_for_what_and_what_our_checkout_wrote() {
    let event = read(CHECKOUT_COMPLETED);
    let expected = Session {
        id: SessionId::parse(ITS_SESSION).expect("a session id"),
        customer: Some(customer_id(ACME)),
        subscription: Some(its_subscription()),
        client_reference: Some(tenant_id("acme")),
        unpaid: false,
        tags: acmes_tags(),
    };
    assert_eq!(event.subject, Subject::Checkout(CheckoutChange::Completed, Box::new(expected)));
    assert_eq!(event.tags(), Some(&acmes_tags()));
}

#[test]
fn the_session_event_and_the_answer_of_the_api_read_alike() {
    let mut answer = Value::Null;
    let event = read_with_object(CHECKOUT_COMPLETED, |object| answer = object.clone());
    assert_eq!(read_session(answer.to_string().as_bytes()).as_ref(), Some(session(&event)));
}

#[test]
fn only_the_word_unpaid_means_that_money_is_on_its_way() {
    for (payment_status, unpaid) in [
        (json!("unpaid"), true),
        (json!("paid"), false),
        (json!("no_payment_required"), false),
        (json!("a_new_word"), false),
        (Value::Null, false),
    ] {
        let event = read_with_object(CHECKOUT_COMPLETED, |session| {
            session["payment_status"] = payment_status.clone();
        });
        assert_eq!(session(&event).unpaid, unpaid, "{payment_status}");
    }
}

#[test]
fn each_type_of_session_event_says_how_far_the_checkout_got() {
    for (word, change) in [
        ("completed", CheckoutChange::Completed),
        ("async_payment_succeeded", CheckoutChange::PaymentSucceeded),
        ("async_payment_failed", CheckoutChange::PaymentFailed),
        ("expired", CheckoutChange::Expired),
    ] {
        let event = read_with(CHECKOUT_COMPLETED, |event| {
            event["type"] = json!(format!("checkout.session.{word}"));
        });
        let Subject::Checkout(read, _) = event.subject else { panic!("{word} is not read") };
        assert_eq!(read, change);
    }
}

#[test]
fn a_session_that_made_nothing_for_nobody_is_still_a_session() {
    let event = read_with_object(CHECKOUT_COMPLETED, |session| {
        session["customer"] = Value::Null;
        session["subscription"] = Value::Null;
        session["client_reference_id"] = Value::Null;
        remove(session, "metadata");
    });
    let session = session(&event);
    assert_eq!((&session.customer, &session.subscription), (&None, &None));
    assert_eq!((&session.client_reference, &session.tags), (&None, &Tags::default()));
}

#[test]
fn tags_and_references_that_are_not_ours_to_read_are_absent() {
    let event = read_with_object(CHECKOUT_COMPLETED, |session| {
        session["client_reference_id"] = json!("order 7 / blue");
        session["metadata"] =
            json!({ "tenant_id": "acme\nadmin", "traceparent": "00-0-0-01", "colour": "blue" });
    });
    let session = session(&event);
    assert_eq!((&session.client_reference, &session.tags), (&None, &Tags::default()));
}

#[test]
fn one_unreadable_tag_does_not_take_the_other_with_it() {
    let event =
        read_with_object(CHECKOUT_COMPLETED, |session| session["metadata"]["traceparent"] = json!(["00"]));
    assert_eq!(session(&event).tags, Tags { journey: None, ..acmes_tags() });
}

#[test]
fn a_deleted_customer_and_an_opened_portal_name_the_customer() {
    assert_eq!(read(CUSTOMER_DELETED).subject, Subject::CustomerDeleted(customer_id(ACME)));
    assert_eq!(read(PORTAL_OPENED).subject, Subject::PortalOpened(customer_id(ACME)));
    for fixture in [CUSTOMER_DELETED, PORTAL_OPENED] {
        let event = read(fixture);
        assert_eq!(event.customer(), Some(&customer_id(ACME)));
        assert_eq!((event.subscription(), event.tags()), (None, None));
    }
}

#[test]
fn an_object_without_what_its_type_needs_is_unreadable_and_the_event_still_is_one() {
    for (fixture, needed, what) in [
        (SUBSCRIPTION_UPDATED, "id", "the subscription has no id, customer or status"),
        (SUBSCRIPTION_UPDATED, "customer", "the subscription has no id, customer or status"),
        (SUBSCRIPTION_UPDATED, "status", "the subscription has no id, customer or status"),
        (CHECKOUT_COMPLETED, "id", "the checkout session has no id"),
        (INVOICES[0].1, "customer", "the invoice names no customer"),
        (CUSTOMER_DELETED, "id", "the customer has no readable id"),
        (PORTAL_OPENED, "customer", "the portal session names no customer"),
    ] {
        let missing = read_with_object(fixture, |object| remove(object, needed));
        let null = read_with_object(fixture, |object| object[needed] = Value::Null);
        let foreign = read_with_object(fixture, |object| object[needed] = json!("not\nours"));
        for event in [missing, null, foreign] {
            assert_eq!(event.subject, Subject::Unreadable(what), "{needed} of {}", event.type_name);
            assert_eq!((event.customer(), event.subscription(), event.tags()), (None, None, None));
        }
    }
}

#[test]
fn a_handled_type_without_any_object_is_unreadable() {
    for data in [Value::Null, json!({}), json!({ "object": null }), json!({ "object": "sub_1" }), json!([])] {
        for fixture in
            [SUBSCRIPTION_UPDATED, CHECKOUT_COMPLETED, INVOICES[1].1, CUSTOMER_DELETED, PORTAL_OPENED]
        {
            let event = read_with(fixture, |event| event["data"] = data.clone());
            assert!(matches!(event.subject, Subject::Unreadable(_)), "{} with {data}", event.type_name);
        }
    }
}
