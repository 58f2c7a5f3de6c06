//! `customer.subscription.*` at every API version: one subscription, five seats of one price, to be
//! cancelled at period end.

use serde_json::json;

use super::*;
use crate::domain::ids::{InvoiceId, PriceId};
use crate::domain::previous_attributes::{PreviousAttributes, PreviousValue};
use crate::domain::subscription::{Item, State, Status};

/// The same event at each of these versions, oldest first.
const BEFORE_ENDIVE: [(&str, &str); 5] = [
    ("2020-08-27", include_str!("../fixtures/subscription_updated.2020-08-27.json")),
    ("2022-11-15", include_str!("../fixtures/subscription_updated.2022-11-15.json")),
    ("2024-09-30.acacia", include_str!("../fixtures/subscription_updated.2024-09-30.acacia.json")),
    ("2025-03-31.basil", include_str!("../fixtures/subscription_updated.2025-03-31.basil.json")),
    ("2025-09-30.clover", SUBSCRIPTION_UPDATED),
];

/// The same cancellation, set in the Customer Portal under flexible billing.
const ENDIVE: (&str, &str) =
    ("2026-09-30.endive", include_str!("../fixtures/subscription_updated.2026-09-30.endive.json"));

const STARTED_AT: i64 = 1_767_261_600;
const PERIOD_END: i64 = 1_785_578_400;

fn fixture_state() -> State {
    State {
        status: Status::Active,
        started_at: Some(STARTED_AT),
        items: vec![Item {
            price: PriceId::parse("price_1SjQm9LhJ4mPzQv8hVw9sEoM").expect("a price id"),
            lookup_key: Some(PriceId::parse("pro_monthly").expect("a lookup key")),
            quantity: Some(5),
        }],
        current_period_end: Some(PERIOD_END),
        trial_end: None,
        cancel_at: Some(PERIOD_END),
        cancel_at_period_end: true,
        ended_at: None,
    }
}

fn previous_without_end() -> PreviousAttributes {
    PreviousAttributes {
        cancel_at: PreviousValue::Was(None),
        cancel_at_period_end: PreviousValue::Was(Some(false)),
        ..PreviousAttributes::default()
    }
}

#[test]
fn every_api_version_reads_to_the_same_snapshot() {
    for (version, fixture) in BEFORE_ENDIVE {
        let event = read(fixture);
        let expected = Snapshot {
            id: SubscriptionId::parse(SUBSCRIPTION_ID).expect("an id"),
            customer: customer_id(ACME),
            state: fixture_state(),
            metadata: fixture_metadata(),
            previous: Some(previous_without_end()),
            has_all_items: true,
            latest_invoice: InvoiceId::parse("in_1TqLx6LhJ4mPzQv8aZ0cWm7H").ok(),
        };
        assert_eq!(
            event.subject,
            Subject::Subscription(SubscriptionEventKind::Changed, Box::new(expected)),
            "{version}"
        );
    }
}

#[test]
fn endive_cancel_at_alone_gives_the_same_end() {
    let event = read(ENDIVE.1);
    let state = &snapshot(&event).state;
    assert_eq!(*state, State { cancel_at_period_end: false, ..fixture_state() });
    assert!(state.scheduled_cancel() && fixture_state().scheduled_cancel());
    assert_eq!(state.ends_at(), fixture_state().ends_at());
}

#[test]
fn every_api_version_reads_to_the_same_envelope() {
    for (version, fixture) in BEFORE_ENDIVE.into_iter().chain([ENDIVE]) {
        let Event { id, type_name, created, livemode, account, api_version, request_id, .. } = read(fixture);
        assert_eq!(id.as_str(), "evt_1TqM0fLhJ4mPzQv8kR6yVb2S");
        assert_eq!(type_name, "customer.subscription.updated");
        assert_eq!((created, livemode, account), (1_783_415_127, Some(false), None));
        assert_eq!(api_version.as_deref(), Some(version));
        assert_eq!(request_id.as_deref(), Some("req_8LpZ2vXwQk4TsN"));
    }
}

#[test]
fn subscription_reads_alike_from_event_and_api_response() {
    for (version, fixture) in BEFORE_ENDIVE.into_iter().chain([ENDIVE]) {
        let mut response = Value::Null;
        let event = read_with_object(fixture, |object| response = object.clone());
        let response = read_subscription(response.to_string().as_bytes());
        // An API response has no `previous_attributes`.
        let expected = Snapshot { previous: None, ..snapshot(&event).clone() };
        assert_eq!(response, Some(expected), "{version}");
    }
}

#[test]
fn previous_items_are_read_with_their_period() {
    let (_, basil) = BEFORE_ENDIVE[3];
    let mut event: Value = serde_json::from_str(basil).expect("JSON");
    event["data"]["previous_attributes"] = json!({
        "items": { "data": [{ "price": { "id": "price_old" }, "quantity": 3, "current_period_end": 1_700_000_000 }] },
        "trial_end": null, "status": "no status at all",
    });
    let event = Event::read(event.to_string().as_bytes()).expect("an event");
    let item =
        Item { price: PriceId::parse("price_old").expect("a price"), lookup_key: None, quantity: Some(3) };
    let replaced = PreviousAttributes {
        items: PreviousValue::Was(Some(vec![item])),
        current_period_end: PreviousValue::Was(Some(1_700_000_000)),
        trial_end: PreviousValue::Was(None),
        status: PreviousValue::Was(None),
        ..PreviousAttributes::default()
    };
    assert_eq!(snapshot(&event).previous, Some(replaced));
}

#[test]
fn period_end_is_the_earliest_of_all_items() {
    let (_, basil) = BEFORE_ENDIVE[3];
    let event = read_with_object(basil, |object| {
        object["items"]["data"] = json!([
            { "price": { "id": "price_year" }, "quantity": 1, "current_period_end": 1_900_000_000 },
            { "price": { "id": "price_month" }, "quantity": 1, "current_period_end": 1_800_000_000 },
            { "price": { "id": "price_other" }, "quantity": 1 },
        ]);
        object["cancel_at"] = Value::Null;
        object["cancel_at_period_end"] = json!(true);
    });
    let state = &snapshot(&event).state;
    assert_eq!((state.current_period_end, state.ends_at()), (Some(1_800_000_000), Some(1_800_000_000)));
    let page = br#"{"object":"list","data":[{"price":{"id":"p"},"current_period_end":7},{"price":{"id":"q"},"current_period_end":5}]}"#;
    assert_eq!(read_items(page).expect("a list").period_end, Some(5));
}

#[test]
fn incomplete_item_list_is_reported() {
    let (_, basil) = BEFORE_ENDIVE[3];
    for (has_more, has_all_items) in
        [(json!(true), false), (json!(false), true), (Value::Null, true), (json!("true"), true)]
    {
        let event = read_with_object(basil, |object| object["items"]["has_more"] = has_more.clone());
        assert_eq!(snapshot(&event).has_all_items, has_all_items, "{has_more}");
    }
    let mut event: Value = serde_json::from_str(basil).expect("JSON");
    event["data"]["previous_attributes"] = json!({ "items": { "data": [], "has_more": true } });
    let event = Event::read(event.to_string().as_bytes()).expect("an event");
    let previous = snapshot(&event).previous.clone().expect("previous attributes");
    assert_eq!(previous.items, PreviousValue::Was(None));
}

#[test]
fn subscription_event_type_maps_to_change() {
    for (word, change) in [
        ("created", SubscriptionEventKind::Created),
        ("updated", SubscriptionEventKind::Changed),
        ("paused", SubscriptionEventKind::Changed),
        ("resumed", SubscriptionEventKind::Changed),
        ("deleted", SubscriptionEventKind::Deleted),
        ("trial_will_end", SubscriptionEventKind::Announced),
        ("pending_update_applied", SubscriptionEventKind::Announced),
        ("pending_update_expired", SubscriptionEventKind::Announced),
    ] {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| {
            event["type"] = json!(format!("customer.subscription.{word}"));
        });
        let Subject::Subscription(read, _) = event.subject else { panic!("{word} is not read") };
        assert_eq!(read, change, "{word}");
    }
}

#[test]
fn earliest_period_end_keeps_all_prices() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        let items = subscription["items"]["data"].as_array_mut().expect("items");
        let mut yearly = items[0].clone();
        yearly["current_period_end"] = json!(PERIOD_END + 1000);
        yearly["price"]["id"] = json!("price_yearly");
        items.insert(0, yearly);
    });
    let state = &snapshot(&event).state;
    assert_eq!(state.current_period_end, Some(PERIOD_END));
    let prices: Vec<&str> = state.items.iter().map(|item| item.price.as_str()).collect();
    assert_eq!(prices, ["price_yearly", "price_1SjQm9LhJ4mPzQv8hVw9sEoM"]);
}

#[test]
fn item_period_overrides_subscription_period() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["current_period_end"] = json!(1);
    });
    assert_eq!(snapshot(&event).state.current_period_end, Some(PERIOD_END));
}

#[test]
fn item_without_price_uses_its_plan() {
    let event = read_with_object(BEFORE_ENDIVE[0].1, |subscription| {
        let item = &mut subscription["items"]["data"][0];
        item["price"] = Value::Null;
        item["plan"]["id"] = json!("gold-monthly");
    });
    let items = &snapshot(&event).state.items;
    assert_eq!(items.len(), 1);
    assert_eq!((items[0].price.as_str(), &items[0].lookup_key), ("gold-monthly", &None));
}

#[test]
fn trial_end_and_ended_at_are_read() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["trial_end"] = json!(STARTED_AT + 14);
        subscription["ended_at"] = json!(STARTED_AT + 15);
    });
    let state = &snapshot(&event).state;
    assert_eq!((state.trial_end, state.ended_at), (Some(STARTED_AT + 14), Some(STARTED_AT + 15)));
}

#[test]
fn unknown_status_is_kept() {
    let event =
        read_with_object(SUBSCRIPTION_UPDATED, |subscription| subscription["status"] = json!("hibernating"));
    assert_eq!(snapshot(&event).state.status, Status::Other("hibernating".into()));
}

#[test]
fn optional_members_of_wrong_type_read_as_none() {
    let event = read_with(SUBSCRIPTION_UPDATED, |event| {
        remove(event, "livemode");
        event["account"] = json!(7);
        event["api_version"] = json!({});
        event["request"] = json!([]);
        let subscription = &mut event["data"]["object"];
        subscription["created"] = json!(1.5);
        subscription["cancel_at"] = json!("2026-08-01");
        subscription["cancel_at_period_end"] = json!("true");
        subscription["trial_end"] = json!(false);
        subscription["ended_at"] = json!({ "at": 1 });
        subscription["metadata"] = Value::Null;
        subscription["items"]["data"][0]["quantity"] = Value::Null;
        subscription["items"]["data"][0]["price"]["lookup_key"] = json!(["pro"]);
    });
    assert_eq!((event.livemode, &event.account), (None, &None));
    assert_eq!((&event.api_version, &event.request_id), (&None, &None));
    let Snapshot { state, metadata, .. } = snapshot(&event);
    let [item] = &state.items[..] else { panic!("one item") };
    assert_eq!((&item.lookup_key, item.quantity), (&None, None));
    let expected = State {
        started_at: None,
        items: state.items.clone(),
        cancel_at: None,
        cancel_at_period_end: false,
        ..fixture_state()
    };
    assert_eq!((state, metadata), (&expected, &Metadata::default()));
}

#[test]
fn items_of_wrong_type_read_as_empty() {
    for items in [Value::Null, json!([]), json!("many"), json!({ "data": null }), json!({})] {
        let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
            subscription["items"] = items.clone();
        });
        let state = &snapshot(&event).state;
        assert_eq!((&state.items, state.current_period_end), (&vec![], None), "{items}");
    }
}

#[test]
fn item_without_readable_price_is_dropped() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        let items = subscription["items"]["data"].as_array_mut().expect("items");
        let mut odd = items[0].clone();
        odd["price"] = json!({ "id": "two\nlines" });
        items.push(odd);
    });
    assert_eq!(snapshot(&event).state.items, fixture_state().items);
}
