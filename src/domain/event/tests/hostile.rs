//! Bytes that are no event, or one drawn to hurt. They are signed, so that only Stripe or a thief of the secret could
//! have sent them; neither may cost us more than a refusal.

use super::*;

fn refused(bytes: &[u8]) -> Option<UnreadableEvent> {
    Event::read(bytes).err()
}

/// Deeper than any stack of ours could follow a call per level.
fn abyss() -> String {
    let depth = 10_000;
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn what_is_not_json_is_refused() {
    for text in ["", " ", "null", "7", "\"evt_1\"", "true", "id=evt_1", "{", "<xml/>", "\u{feff}{}", "{}{}"] {
        assert_eq!(refused(text.as_bytes()), Some(UnreadableEvent::NotJson), "{text:?}");
    }
    assert_eq!(refused(b"{}"), Some(UnreadableEvent::NoId));
}

#[test]
fn a_list_of_events_is_refused() {
    assert!(refused(b"[]").is_some());
    assert!(refused(format!("[{SUBSCRIPTION_UPDATED}]").as_bytes()).is_some());
}

#[test]
fn an_event_cut_short_anywhere_is_refused() {
    let whole = SUBSCRIPTION_UPDATED.trim_end().as_bytes();
    for length in 0..whole.len() {
        assert_eq!(refused(&whole[..length]), Some(UnreadableEvent::NotJson), "{length} bytes");
    }
    assert_eq!(refused(whole), None);
}

#[test]
fn invalid_utf8_in_what_is_read_is_refused() {
    for bytes in [
        &b"{\"id\":\"evt_\xff\",\"type\":\"invoice.paid\",\"created\":1}"[..],
        &b"{\"id\":\"evt_1\",\"type\":\"invoice.\xc3\x28\",\"created\":1}"[..],
        &b"{\"id\":\"evt_1\",\"type\":\"invoice.paid\",\"created\":1,\"data\":{\"object\":{\"customer\":\"\xed\xa0\x80\"}}}"[..],
        &b"\xff\xfe{}"[..],
    ] {
        assert!(refused(bytes).is_some(), "{}", bytes.escape_ascii());
    }
    assert_eq!(read_subscription(b"{\"id\":\"sub_1\",\"customer\":\"cus_1\",\"status\":\"\xff\"}"), None);
    assert_eq!(read_session(b"{\"id\":\"cs_\xff\"}"), None);
}

#[test]
fn half_a_surrogate_pair_costs_its_field_and_no_more() {
    let event = read(r#"{"id":"evt_1","type":"charge.succeeded","created":1,"account":"\ud800"}"#);
    assert_eq!(event.account, None);
}

#[test]
fn of_an_expanded_object_nothing_but_its_id_has_to_be_readable() {
    let deep = abyss();
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
fn a_field_nested_ten_thousand_deep_is_passed_over_wherever_it_stands() {
    let deep = abyss();
    let event = read(&format!(
        r#"{{"deep":{deep},"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{{"deep":{deep},
        "object":{{"deep":{deep},"id":"sub_1","customer":"cus_1","status":"active","metadata":{{"deep":{deep},
        "tenant_id":"acme"}},"items":{{"deep":{deep},"data":[{{"deep":{deep},"price":{{"deep":{deep},
        "id":"price_1"}}}}]}}}}}}}}"#
    ));
    let snapshot = snapshot(&event);
    assert_eq!((snapshot.state.items.len(), &snapshot.tags.tenant), (1, &Some(tenant_id("acme"))));
}

#[test]
fn a_field_of_ours_nested_ten_thousand_deep_reads_as_nothing() {
    let deep = abyss();
    let envelope = |id: &str, kind: &str, created: &str| {
        format!(r#"{{"id":{id},"type":{kind},"created":{created},"request":{deep},"livemode":{deep}}}"#)
    };
    let [id, kind, created] = [r#""evt_1""#, r#""charge.succeeded""#, "1"];
    assert_eq!(refused(envelope(&deep, kind, created).as_bytes()), Some(UnreadableEvent::NoId));
    assert_eq!(refused(envelope(id, &deep, created).as_bytes()), Some(UnreadableEvent::NoType));
    assert_eq!(refused(envelope(id, kind, &deep).as_bytes()), Some(UnreadableEvent::NoCreated));
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
fn a_list_of_an_objects_values_is_not_the_object() {
    let subscription = r#"{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{"object":{"id":"sub_1",
        "customer":"cus_1","status":"active","metadata":["acme"],"items":[[[["price_1"]]]]}}}"#;
    let subscription = read(subscription);
    assert_eq!(snapshot(&subscription).tags, Tags::default());
    assert_eq!(snapshot(&subscription).state.items, []);

    let of_items = r#"{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{"object":{"id":"sub_1",
        "customer":"cus_1","status":"active","items":{"data":[[["price_1"]],{"price":["price_2"]}]}}}}"#;
    assert_eq!(snapshot(&read(of_items)).state.items, []);

    let of_an_invoice = r#"{"id":"evt_1","type":"invoice.paid","created":1,"request":["req_1"],"data":{"object":{
        "customer":"cus_1","parent":[["sub_1"]],"subscription_details":["sub_1"]}}}"#;
    let event = read(of_an_invoice);
    assert_eq!((&event.request_id, &invoice(&event).subscription), (&None, &None));
}

#[test]
fn a_key_that_is_there_twice_is_never_read_as_either() {
    let twice = r#"{"id":"evt_1","id":"evt_2","type":"charge.succeeded","created":1}"#;
    assert!(refused(twice.as_bytes()).is_some());

    let of_the_object = r#"{"id":"evt_1","type":"customer.deleted","created":1,
        "data":{"object":{"id":"cus_1","id":"cus_2"}}}"#;
    assert!(matches!(read(of_the_object).subject, Subject::Unreadable(_)));

    let of_no_use = r#"{"id":"evt_1","type":"charge.succeeded","created":1,"new":1,"new":2}"#;
    assert_eq!(refused(of_no_use.as_bytes()), None);
}

#[test]
fn a_key_that_is_there_twice_spoils_only_what_has_a_use_for_it() {
    let event = |kind: &str, twice: &str| {
        let event = read(&format!(
            r#"{{"id":"evt_1","data":{{"object":{{"id":"sub_1","customer":"cus_1","status":"active",{twice}}}}},
            "created":1,"type":"{kind}"}}"#
        ));
        !matches!(event.subject, Subject::Unreadable(_))
    };
    let of_a_session = r#""payment_status":"paid","payment_status":"unpaid""#;
    let of_an_invoice = r#""parent":{},"parent":null"#;
    let of_a_subscription = r#""trial_end":1,"trial_end":1"#;
    let of_several = r#""metadata":{},"metadata":{}"#;
    for (kind, twice, is_readable) in [
        ("customer.subscription.updated", of_a_session, true),
        ("customer.subscription.updated", of_an_invoice, true),
        ("customer.subscription.updated", of_a_subscription, false),
        ("customer.subscription.updated", of_several, false),
        ("invoice.paid", of_a_session, true),
        ("invoice.paid", of_an_invoice, false),
        ("invoice.paid", of_a_subscription, true),
        ("invoice.paid", of_several, true),
    ] {
        assert_eq!(event(kind, twice), is_readable, "{twice} in {kind}");
    }
}

#[test]
fn numbers_that_fit_nowhere_are_absent() {
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
        assert_eq!(refused(event.as_bytes()), Some(UnreadableEvent::NoCreated), "{huge:.20}");
    }
}

#[test]
fn more_items_than_any_subscription_has_are_not_all_kept() {
    let items = vec![r#"{"price":{"id":"price_1"}}"#; 10_000].join(",");
    let event = read(&format!(
        r#"{{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{{"object":{{"id":"sub_1",
        "customer":"cus_1","status":"active","items":{{"data":[{items}]}}}}}}}}"#
    ));
    assert_eq!(snapshot(&event).state.items.len(), 80);
}
