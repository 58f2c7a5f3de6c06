//! Bodies that are malformed or built to exhaust the parser. Only Stripe, or an attacker with a
//! stolen secret, can sign such a body. It must be rejected, or read as far as possible, and do no
//! other harm.

use super::*;

fn error(bytes: &[u8]) -> Option<UnreadableEvent> {
    Event::read(bytes).err()
}

/// Too deep for a parser that recurses once per level.
fn deep_list() -> String {
    let depth = 10_000;
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn body_that_is_not_a_json_object_is_rejected() {
    for text in ["", " ", "null", "7", "\"evt_1\"", "true", "id=evt_1", "{", "<xml/>", "\u{feff}{}", "{}{}"] {
        assert_eq!(error(text.as_bytes()), Some(UnreadableEvent::NotJson), "{text:?}");
    }
    assert_eq!(error(b"{}"), Some(UnreadableEvent::NoId));
}

#[test]
fn list_of_events_is_rejected() {
    assert!(error(b"[]").is_some());
    assert!(error(format!("[{SUBSCRIPTION_UPDATED}]").as_bytes()).is_some());
}

#[test]
fn truncated_event_is_rejected_at_any_length() {
    let whole = SUBSCRIPTION_UPDATED.trim_end().as_bytes();
    for length in 0..whole.len() {
        assert_eq!(error(&whole[..length]), Some(UnreadableEvent::NotJson), "{length} bytes");
    }
    assert_eq!(error(whole), None);
}

#[test]
fn invalid_utf8_is_rejected() {
    for bytes in [
        &b"{\"id\":\"evt_\xff\",\"type\":\"invoice.paid\",\"created\":1}"[..],
        &b"{\"id\":\"evt_1\",\"type\":\"invoice.\xc3\x28\",\"created\":1}"[..],
        &b"{\"id\":\"evt_1\",\"type\":\"invoice.paid\",\"created\":1,\"data\":{\"object\":{\"customer\":\"\xed\xa0\x80\"}}}"[..],
        &b"\xff\xfe{}"[..],
    ] {
        assert!(error(bytes).is_some(), "{}", bytes.escape_ascii());
    }
    assert_eq!(read_subscription(b"{\"id\":\"sub_1\",\"customer\":\"cus_1\",\"status\":\"\xff\"}"), None);
    assert_eq!(read_session(b"{\"id\":\"cs_\xff\"}"), None);
}

#[test]
fn half_surrogate_pair_loses_only_its_member() {
    let event = read(r#"{"id":"evt_1","type":"charge.succeeded","created":1,"account":"\ud800"}"#);
    assert_eq!(event.account, None);
}

#[test]
fn expanded_object_needs_only_a_readable_id() {
    let deep = deep_list();
    for rest in [r#""name":"\ud800""#, r#""balance":1e999"#, &format!(r#""deep":{deep}"#)] {
        let event = read(&format!(
            r#"{{"id":"evt_1","type":"billing_portal.session.created","created":1,"request":{{{rest},"id":"req_1"}},
            "data":{{"object":{{"customer":{{{rest},"id":"cus_1"}}}}}}}}"#
        ));
        assert_eq!(event.request_id.as_deref(), Some("req_1"), "{rest}");
        assert_eq!(event.customer(), Some(&customer_id("cus_1")), "{rest}");
    }
}

#[test]
fn deeply_nested_unknown_member_is_skipped() {
    let deep = deep_list();
    let event = read(&format!(
        r#"{{"deep":{deep},"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{{"deep":{deep},
        "object":{{"deep":{deep},"id":"sub_1","customer":"cus_1","status":"active","metadata":{{"deep":{deep},
        "tenant_id":"acme"}},"items":{{"deep":{deep},"data":[{{"deep":{deep},"price":{{"deep":{deep},
        "id":"price_1"}}}}]}}}}}}}}"#
    ));
    let snapshot = snapshot(&event);
    assert_eq!((snapshot.state.items.len(), &snapshot.metadata.tenant), (1, &Some(tenant_id("acme"))));
}

#[test]
fn deeply_nested_known_member_reads_as_none() {
    let deep = deep_list();
    let envelope = |id: &str, kind: &str, created: &str| {
        format!(r#"{{"id":{id},"type":{kind},"created":{created},"request":{deep},"livemode":{deep}}}"#)
    };
    let [id, kind, created] = [r#""evt_1""#, r#""charge.succeeded""#, "1"];
    assert_eq!(error(envelope(&deep, kind, created).as_bytes()), Some(UnreadableEvent::NoId));
    assert_eq!(error(envelope(id, &deep, created).as_bytes()), Some(UnreadableEvent::NoType));
    assert_eq!(error(envelope(id, kind, &deep).as_bytes()), Some(UnreadableEvent::NoCreated));
    let event = read(&envelope(id, kind, created));
    assert_eq!((event.request_id, event.livemode), (None, None));

    let object = |customer: &str, items: &str| {
        format!(
            r#"{{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{{"object":{{"id":"sub_1",
            "customer":{customer},"status":"active","items":{items},"metadata":{deep}}}}}}}"#
        )
    };
    assert!(matches!(read(&object(&deep, "null")).subject, Subject::Unreadable(_)));
    assert_eq!(snapshot(&read(&object(r#""cus_1""#, &deep))).state.items, []);
}

#[test]
fn list_of_values_is_not_read_as_an_object() {
    let subscription = r#"{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{"object":{"id":"sub_1",
        "customer":"cus_1","status":"active","metadata":["acme"],"items":[[[["price_1"]]]]}}}"#;
    let subscription = read(subscription);
    assert_eq!(snapshot(&subscription).metadata, Metadata::default());
    assert_eq!(snapshot(&subscription).state.items, []);

    let items = r#"{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{"object":{"id":"sub_1",
        "customer":"cus_1","status":"active","items":{"data":[[["price_1"]],{"price":["price_2"]}]}}}}"#;
    assert_eq!(snapshot(&read(items)).state.items, []);

    let invoice_paid = r#"{"id":"evt_1","type":"invoice.paid","created":1,"request":["req_1"],"data":{"object":{
        "customer":"cus_1","parent":[["sub_1"]],"subscription_details":["sub_1"]}}}"#;
    let event = read(invoice_paid);
    assert_eq!((&event.request_id, &invoice(&event).subscription), (&None, &None));
}

#[test]
fn duplicate_member_is_never_read() {
    let twice = r#"{"id":"evt_1","id":"evt_2","type":"charge.succeeded","created":1}"#;
    assert!(error(twice.as_bytes()).is_some());

    let duplicate_in_object = r#"{"id":"evt_1","type":"customer.deleted","created":1,
        "data":{"object":{"id":"cus_1","id":"cus_2"}}}"#;
    assert!(matches!(read(duplicate_in_object).subject, Subject::Unreadable(_)));

    let duplicate_unknown = r#"{"id":"evt_1","type":"charge.succeeded","created":1,"new":1,"new":2}"#;
    assert_eq!(error(duplicate_unknown.as_bytes()), None);
}

#[test]
fn duplicate_member_affects_only_objects_that_use_it() {
    let is_readable = |kind: &str, twice: &str| {
        let event = read(&format!(
            r#"{{"id":"evt_1","data":{{"object":{{"id":"sub_1","customer":"cus_1","status":"active",{twice}}}}},
            "created":1,"type":"{kind}"}}"#
        ));
        !matches!(event.subject, Subject::Unreadable(_))
    };
    let session_member = r#""payment_status":"paid","payment_status":"unpaid""#;
    let invoice_member = r#""parent":{},"parent":null"#;
    let subscription_member = r#""trial_end":1,"trial_end":1"#;
    let shared_member = r#""metadata":{},"metadata":{}"#;
    for (kind, twice, expected) in [
        ("customer.subscription.updated", session_member, true),
        ("customer.subscription.updated", invoice_member, true),
        ("customer.subscription.updated", subscription_member, false),
        ("customer.subscription.updated", shared_member, false),
        ("invoice.paid", session_member, true),
        ("invoice.paid", invoice_member, false),
        ("invoice.paid", subscription_member, true),
        ("invoice.paid", shared_member, true),
    ] {
        assert_eq!(is_readable(kind, twice), expected, "{twice} in {kind}");
    }
}

#[test]
fn numbers_out_of_range_read_as_none() {
    let digits = "9".repeat(400);
    for huge in [digits.as_str(), "1e99999", "-1e99999", "9223372036854775808"] {
        let event = read(&format!(
            r#"{{"id":"evt_1","type":"customer.subscription.updated","created":1,"pending_webhooks":{huge},
            "data":{{"object":{{"id":"sub_1","customer":"cus_1","status":"active","cancel_at":{huge},"new":{huge},
            "items":{{"data":[{{"price":{{"id":"price_1"}},"quantity":{huge},"current_period_end":{huge}}}]}}}}}}}}"#
        ));
        let state = &snapshot(&event).state;
        assert_eq!((state.cancel_at, state.current_period_end), (None, None), "{huge:.20}");
        assert_eq!(state.items[0].quantity, None);

        let event = format!(r#"{{"id":"evt_1","type":"charge.succeeded","created":{huge}}}"#);
        assert_eq!(error(event.as_bytes()), Some(UnreadableEvent::NoCreated), "{huge:.20}");
    }
}

#[test]
fn items_above_the_limit_are_dropped() {
    let items = vec![r#"{"price":{"id":"price_1"}}"#; 10_000].join(",");
    let event = read(&format!(
        r#"{{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{{"object":{{"id":"sub_1",
        "customer":"cus_1","status":"active","items":{{"data":[{items}]}}}}}}}}"#
    ));
    assert_eq!(snapshot(&event).state.items.len(), 80);
}
