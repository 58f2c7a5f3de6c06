//! The members of an event other than its object.

use serde_json::json;

use super::*;

#[test]
fn handled_event_types_are_all_parsed() {
    for kind in HANDLED_EVENT_TYPES {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| {
            event["type"] = kind.into();
            event["data"]["object"] = Value::Null;
        });
        assert!(matches!(event.subject, Subject::Unreadable(_)), "{kind}");
    }
}

fn error_with(change: impl FnOnce(&mut Value)) -> Option<UnreadableEvent> {
    Event::read(&bytes_with(SUBSCRIPTION_UPDATED, change)).err()
}

#[test]
fn event_without_valid_id_is_rejected() {
    assert_eq!(error_with(|event| remove(event, "id")), Some(UnreadableEvent::NoId));
    for id in [Value::Null, json!(7), json!(""), json!("evt_"), json!("sub_1Abc"), json!("evt_1\n2")] {
        assert_eq!(error_with(|event| event["id"] = id.clone()), Some(UnreadableEvent::NoId), "{id}");
    }
}

#[test]
fn event_without_type_is_rejected() {
    assert_eq!(error_with(|event| remove(event, "type")), Some(UnreadableEvent::NoType));
    for kind in [Value::Null, json!(7), json!(""), json!(["invoice.paid"])] {
        let error = error_with(|event| event["type"] = kind.clone());
        assert_eq!(error, Some(UnreadableEvent::NoType), "{kind}");
    }
}

#[test]
fn event_type_unsafe_for_logs_is_rejected() {
    let too_long = "x".repeat(256);
    for kind in [
        "invoice.paid\n",
        "invoice\u{0}paid",
        "invoice.paid\u{1b}[2J",
        "invoice paid",
        "\"",
        "ünvoice",
        &too_long,
    ] {
        let error = error_with(|event| event["type"] = json!(kind));
        assert_eq!(error, Some(UnreadableEvent::NoType), "{kind:?}");
    }
}

#[test]
fn event_without_valid_created_is_rejected() {
    assert_eq!(error_with(|event| remove(event, "created")), Some(UnreadableEvent::NoCreated));
    for created in [Value::Null, json!("yesterday"), json!("1783415127"), json!(1.5), json!(true), json!({})]
    {
        let error = error_with(|event| event["created"] = created.clone());
        assert_eq!(error, Some(UnreadableEvent::NoCreated), "{created}");
    }
}

#[test]
fn unhandled_event_type_is_read() {
    let longest = "v2.core.account[configuration.recipient].capability_status_updated";
    let unknown = ["invoice.created", "customer.subscription.hibernated", "customer.source.updated", longest];
    for kind in unknown {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| event["type"] = json!(kind));
        assert_eq!((event.type_name.as_str(), &event.subject), (kind, &Subject::Unhandled));
        assert_eq!((event.customer(), event.subscription(), event.metadata()), (None, None, None));
    }
}

#[test]
fn thin_event_has_no_object() {
    let event = read(THIN_EVENT);
    assert_eq!(event.subject, Subject::Thin);
    assert_eq!(event.type_name, "v1.customer.subscription.updated");
    assert_eq!(
        (event.created, event.livemode),
        (1_783_415_127, Some(false)),
        "rounded down to whole seconds"
    );
    assert_eq!((event.customer(), event.subscription(), event.metadata()), (None, None, None));
}

#[test]
fn thin_event_of_handled_type_stays_thin() {
    let event = read_with(THIN_EVENT, |event| event["type"] = json!("customer.deleted"));
    assert_eq!(event.subject, Subject::Thin);
}

#[test]
fn thin_event_time_with_offset_is_read() {
    let event = read_with(THIN_EVENT, |event| event["created"] = json!("2026-07-07T11:05:27+02:00"));
    assert_eq!(event.created, 1_783_415_127);
}

#[test]
fn request_is_read_as_object_or_bare_id() {
    for (request, id) in [
        (json!({ "id": "req_8LpZ2vXwQk4TsN", "idempotency_key": null }), Some("req_8LpZ2vXwQk4TsN")),
        (json!("req_8LpZ2vXwQk4TsN"), Some("req_8LpZ2vXwQk4TsN")),
        (json!({ "id": null, "idempotency_key": null }), None),
        (json!({}), None),
        (json!(7), None),
        (Value::Null, None),
    ] {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| event["request"] = request.clone());
        assert_eq!(event.request_id.as_deref(), id, "{request}");
    }
}

#[test]
fn connected_account_event_has_account_or_context() {
    let event = read_with(SUBSCRIPTION_UPDATED, |event| {
        event["account"] = json!("acct_1Sh0cVKq7RtYw2Lp");
        event["livemode"] = json!(true);
    });
    assert_eq!((event.account.as_deref(), event.livemode), (Some("acct_1Sh0cVKq7RtYw2Lp"), Some(true)));
    let event = read_with(SUBSCRIPTION_UPDATED, |event| event["context"] = json!("acct_1Sh0cVKq7RtYw2Lp"));
    assert_eq!((event.account, event.context.as_deref()), (None, Some("acct_1Sh0cVKq7RtYw2Lp")));
    let event = read_with(SUBSCRIPTION_UPDATED, |event| event["context"] = Value::Null);
    assert_eq!(event.context, None);
}

#[test]
fn minimal_event_has_id_type_and_created() {
    let event = read(r#"{"id":"evt_1","type":"charge.succeeded","created":1}"#);
    let expected = Event {
        id: EventId::parse("evt_1").expect("an event id"),
        type_name: "charge.succeeded".into(),
        created: 1,
        livemode: None,
        account: None,
        context: None,
        api_version: None,
        request_id: None,
        idempotency_key: None,
        subject: Subject::Unhandled,
    };
    assert_eq!(event, expected);
}

#[test]
fn escapes_and_white_space_are_ignored() {
    let event =
        read("\n\t{ \"\\u0069d\" : \"evt_\\u0031\",\r\n\"type\":\"charge.succeeded\", \"created\" : 1 }\n");
    assert_eq!(event.id.as_str(), "evt_1");
}

#[test]
fn unknown_members_are_ignored_at_every_level() {
    let event = read_with(SUBSCRIPTION_UPDATED, |event| {
        let new = json!({ "weather": ["rain", 7.5, null], "id": "evt_other" });
        event["new"] = new.clone();
        event["data"]["new"] = new.clone();
        event["data"]["object"]["new"] = new.clone();
        event["data"]["object"]["items"]["data"][0]["price"]["new"] = new.clone();
        event["data"]["object"]["metadata"]["new"] = new;
    });
    assert_eq!(event, read(SUBSCRIPTION_UPDATED));
}

#[test]
fn version_or_request_id_unsafe_for_logs_is_dropped() {
    let too_long = "x".repeat(256);
    for odd in ["2025\n09", "req 1", "\u{1b}[2J", "", "réq_1", &too_long] {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| {
            event["api_version"] = json!(odd);
            event["request"] = json!({ "id": odd });
        });
        assert_eq!((event.api_version, event.request_id), (None, None), "{odd:?}");
    }
}
