//! The other objects: checkout sessions, invoices, customers, portal sessions.

use serde_json::json;

use super::*;

/// Until 2025-03-31.basil an invoice named its subscription itself; since then its parent does.
const INVOICES: [(&str, &str); 2] = [
    ("2022-11-15", include_str!("../fixtures/invoice_paid.2022-11-15.json")),
    ("2025-03-31.basil", include_str!("../fixtures/invoice_paid.2025-03-31.basil.json")),
];

const SESSION_ID: &str = "cs_test_b1kQ7ZpXw3RtLm0VfYs8HdNcGa5EuJ2oTi6BqDx9CjWvPnKrSy4AhMzF1e";

/// In the metadata of the subscription.
const JOURNEY_TRACEPARENT: &str = "00-7c4e1b90d2f84a6e9b03c5d7f1a2e6b8-3d9f0a6c81b4e752-01";

#[test]
fn old_invoice_names_journey_of_its_subscription() {
    let event = read_with_object(INVOICES[0].1, |invoice| {
        invoice["subscription_details"] = json!({ "metadata": { "traceparent": JOURNEY_TRACEPARENT } });
    });
    assert_eq!(event.named_journey().map(|origin| origin.to_string()).as_deref(), Some(JOURNEY_TRACEPARENT));
    assert_eq!(event.metadata(), None, "an invoice must not link a tenant");
}

fn subscription_id() -> SubscriptionId {
    SubscriptionId::parse(SUBSCRIPTION_ID).expect("a subscription id")
}

#[test]
fn invoice_names_subscription_in_every_api_version() {
    for (version, fixture) in INVOICES {
        let event = read(fixture);
        let journey = (version != "2022-11-15").then_some(JOURNEY_TRACEPARENT);
        let journey = journey.map(|text| Traceparent::parse(text).expect("a traceparent"));
        assert_eq!(event.named_journey(), journey, "{version}");
        let expected =
            Invoice { customer: customer_id(ACME), subscription: Some(subscription_id()), journey };
        assert_eq!(event.subject, Subject::Invoice(InvoiceEventKind::Paid, expected), "{version}");
        assert_eq!(event.customer(), Some(&customer_id(ACME)));
        assert_eq!(event.subscription(), Some(&subscription_id()));
        assert_eq!(
            (event.request_id.as_ref(), event.metadata()),
            (None, None),
            "no request caused the automatic charge"
        );
    }
}

#[test]
fn invoice_without_subscription_names_none() {
    for parent in
        [Value::Null, json!("none"), json!({ "subscription_details": null, "type": "quote_details" })]
    {
        let event = read_with_object(INVOICES[1].1, |invoice| invoice["parent"] = parent.clone());
        assert_eq!(invoice(&event).subscription, None, "{parent}");
    }
}

#[test]
fn invoice_event_type_maps_to_change() {
    for (kind, change) in [
        ("invoice.paid", InvoiceEventKind::Paid),
        ("invoice.payment_failed", InvoiceEventKind::PaymentFailed),
        ("invoice.payment_action_required", InvoiceEventKind::PaymentActionRequired),
    ] {
        let event = read_with(INVOICES[1].1, |event| event["type"] = json!(kind));
        let Subject::Invoice(read, _) = event.subject else { panic!("{kind} is not read") };
        assert_eq!(read, change);
    }
}

#[test]
fn expanded_object_reads_like_its_id() {
    let customer = json!({ "id": ACME, "object": "customer", "metadata": { "tenant_id": "other" } });
    let subscription = json!({ "id": SUBSCRIPTION_ID, "object": "subscription", "status": "active" });

    let expanded = read_with_object(SUBSCRIPTION_UPDATED, |object| object["customer"] = customer.clone());
    assert_eq!(expanded.subject, read(SUBSCRIPTION_UPDATED).subject);

    let expanded = read_with_object(CHECKOUT_COMPLETED, |object| {
        object["customer"] = customer.clone();
        object["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(CHECKOUT_COMPLETED).subject);

    let [(_, old), (_, new)] = INVOICES;
    let expanded = read_with_object(old, |object| {
        object["customer"] = customer.clone();
        object["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(old).subject);
    let expanded = read_with_object(new, |object| {
        object["parent"]["subscription_details"]["subscription"] = subscription.clone();
    });
    assert_eq!(expanded.subject, read(new).subject);

    let expanded = read_with_object(PORTAL_OPENED, |object| object["customer"] = customer.clone());
    assert_eq!(expanded.subject, read(PORTAL_OPENED).subject);
}

#[test]
fn expanded_deleted_customer_reads_like_its_id() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["customer"] = json!({ "id": ACME, "object": "customer", "deleted": true });
    });
    assert_eq!(event.customer(), Some(&customer_id(ACME)));
}

#[test]
fn completed_session_is_read_with_its_metadata() {
    let event = read(CHECKOUT_COMPLETED);
    let expected = Session {
        id: SessionId::parse(SESSION_ID).expect("a session id"),
        customer: Some(customer_id(ACME)),
        subscription: Some(subscription_id()),
        client_reference: Some(tenant_id("acme")),
        unpaid: false,
        metadata: fixture_metadata(),
    };
    assert_eq!(event.subject, Subject::Checkout(CheckoutEventKind::Completed, Box::new(expected)));
    assert_eq!(event.metadata(), Some(&fixture_metadata()));
}

#[test]
fn session_reads_alike_from_event_and_api_response() {
    let mut response = Value::Null;
    let event = read_with_object(CHECKOUT_COMPLETED, |object| response = object.clone());
    assert_eq!(read_session(response.to_string().as_bytes()).as_ref(), Some(session(&event)));
}

#[test]
fn only_payment_status_unpaid_means_payment_pending() {
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
fn session_event_type_maps_to_change() {
    for (word, change) in [
        ("completed", CheckoutEventKind::Completed),
        ("async_payment_succeeded", CheckoutEventKind::PaymentSucceeded),
        ("async_payment_failed", CheckoutEventKind::PaymentFailed),
        ("expired", CheckoutEventKind::Expired),
    ] {
        let event = read_with(CHECKOUT_COMPLETED, |event| {
            event["type"] = json!(format!("checkout.session.{word}"));
        });
        let Subject::Checkout(read, _) = event.subject else { panic!("{word} is not read") };
        assert_eq!(read, change);
    }
}

#[test]
fn session_without_customer_or_subscription_is_read() {
    let event = read_with_object(CHECKOUT_COMPLETED, |session| {
        session["customer"] = Value::Null;
        session["subscription"] = Value::Null;
        session["client_reference_id"] = Value::Null;
        remove(session, "metadata");
    });
    let session = session(&event);
    assert_eq!((&session.customer, &session.subscription), (&None, &None));
    assert_eq!((&session.client_reference, &session.metadata), (&None, &Metadata::default()));
}

#[test]
fn metadata_and_reference_of_other_systems_read_as_none() {
    let event = read_with_object(CHECKOUT_COMPLETED, |session| {
        session["client_reference_id"] = json!("order 7 / blue");
        session["metadata"] =
            json!({ "tenant_id": "acme\nadmin", "traceparent": "00-0-0-01", "colour": "blue" });
    });
    let session = session(&event);
    assert_eq!((&session.client_reference, &session.metadata), (&None, &Metadata::default()));
}

#[test]
fn one_unreadable_metadata_value_leaves_the_others() {
    let event =
        read_with_object(CHECKOUT_COMPLETED, |session| session["metadata"]["traceparent"] = json!(["00"]));
    assert_eq!(session(&event).metadata, Metadata { journey: None, ..fixture_metadata() });
}

#[test]
fn customer_deleted_and_portal_events_name_the_customer() {
    assert_eq!(read(CUSTOMER_DELETED).subject, Subject::CustomerDeleted(customer_id(ACME)));
    assert_eq!(read(PORTAL_OPENED).subject, Subject::PortalOpened(customer_id(ACME)));
    for fixture in [CUSTOMER_DELETED, PORTAL_OPENED] {
        let event = read(fixture);
        assert_eq!(event.customer(), Some(&customer_id(ACME)));
        assert_eq!((event.subscription(), event.metadata()), (None, None));
    }
}

#[test]
fn object_without_required_member_is_unreadable() {
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
            assert_eq!((event.customer(), event.subscription(), event.metadata()), (None, None, None));
        }
    }
}

#[test]
fn handled_type_without_object_is_unreadable() {
    for data in [Value::Null, json!({}), json!({ "object": null }), json!({ "object": "sub_1" }), json!([])] {
        for fixture in
            [SUBSCRIPTION_UPDATED, CHECKOUT_COMPLETED, INVOICES[1].1, CUSTOMER_DELETED, PORTAL_OPENED]
        {
            let event = read_with(fixture, |event| event["data"] = data.clone());
            assert!(matches!(event.subject, Subject::Unreadable(_)), "{} with {data}", event.type_name);
        }
    }
}
