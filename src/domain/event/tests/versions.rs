//! `customer.subscription.*` through the years: one subscription, five seats of one price, set to end with its period.

use serde_json::json;

use super::*;
use crate::domain::ids::{InvoiceId, PriceId};
use crate::domain::previous::{Previous, Replaced};
use crate::domain::subscription::{Item, State, Status};

/// One event as each of these versions draws it, oldest first.
const BEFORE_ENDIVE: [(&str, &str); 5] = [
    ("2020-08-27", include_str!("../fixtures/subscription_updated.2020-08-27.json")),
    ("2022-11-15", include_str!("../fixtures/subscription_updated.2022-11-15.json")),
    ("2024-09-30.acacia", include_str!("../fixtures/subscription_updated.2024-09-30.acacia.json")),
    ("2025-03-31.basil", include_str!("../fixtures/subscription_updated.2025-03-31.basil.json")),
    ("2025-09-30.clover", SUBSCRIPTION_UPDATED),
];

/// The same end, set in the Customer Portal under flexible billing.
const ENDIVE: (&str, &str) =
    ("2026-09-30.endive", include_str!("../fixtures/subscription_updated.2026-09-30.endive.json"));

const MADE: i64 = 1_767_261_600;
const PERIOD_END: i64 = 1_785_578_400;

/// How the subscription stands, whatever the version.
fn as_it_stands() -> State {
    State {
        status: Status::Active,
        started_at: Some(MADE),
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

/// What the update replaced: there was no end set.
fn without_an_end() -> Previous {
    Previous {
        cancel_at: Replaced::Value(None),
        cancel_at_period_end: Replaced::Value(Some(false)),
        ..Previous::default()
    }
}

#[test]
fn every_version_that_says_the_same_reads_to_the_same_snapshot() {
    for (version, fixture) in BEFORE_ENDIVE {
        let event = read(fixture);
        let expected = Snapshot {
            id: SubscriptionId::parse(ITS_SUBSCRIPTION).expect("an id"),
            customer: customer_id(ACME),
            state: as_it_stands(),
            tags: acmes_tags(),
            previous: Some(without_an_end()),
            has_all_items: true,
            latest_invoice: InvoiceId::parse("in_1TqLx6LhJ4mPzQv8aZ0cWm7H").ok(),
        };
        assert_eq!(
            event.subject,
            Subject::Subscription(SubscriptionChange::Changed, Box::new(expected)),
            "{version}"
        );
    }
}

#[test]
fn an_end_that_endive_sets_by_its_date_alone_is_the_same_end() {
    let event = read(ENDIVE.1);
    let state = &snapshot(&event).state;
    assert_eq!(*state, State { cancel_at_period_end: false, ..as_it_stands() });
    assert!(state.scheduled_cancel() && as_it_stands().scheduled_cancel());
    assert_eq!(state.ends_at(), as_it_stands().ends_at());
}

#[test]
fn every_version_has_the_same_envelope() {
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
fn the_event_and_the_answer_of_the_api_read_alike() {
    for (version, fixture) in BEFORE_ENDIVE.into_iter().chain([ENDIVE]) {
        let mut answer = Value::Null;
        let event = read_with_object(fixture, |object| answer = object.clone());
        let answer = read_subscription(answer.to_string().as_bytes());
        // An answer replaces nothing.
        let expected = Snapshot { previous: None, ..snapshot(&event).clone() };
        assert_eq!(answer, Some(expected), "{version}");
    }
}

#[test]
fn a_list_that_was_replaced_is_read_whole_with_its_period() {
    let (_, basil) = BEFORE_ENDIVE[3];
    let mut event: Value = serde_json::from_str(basil).expect("JSON");
    event["data"]["previous_attributes"] = json!({
        "items": { "data": [{ "price": { "id": "price_old" }, "quantity": 3, "current_period_end": 1_700_000_000 }] },
        "trial_end": null, "status": "no status at all",
    });
    let event = Event::read(event.to_string().as_bytes()).expect("an event");
    let item =
        Item { price: PriceId::parse("price_old").expect("a price"), lookup_key: None, quantity: Some(3) };
    let replaced = Previous {
        items: Replaced::Value(Some(vec![item])),
        current_period_end: Replaced::Value(Some(1_700_000_000)),
        trial_end: Replaced::Value(None),
        status: Replaced::Value(None),
        ..Previous::default()
    };
    assert_eq!(snapshot(&event).previous, Some(replaced));
}

#[test]
fn period_of_several_items_ends_with_the_earliest() {
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
    let asked = br#"{"object":"list","data":[{"price":{"id":"p"},"current_period_end":7},{"price":{"id":"q"},"current_period_end":5}]}"#;
    assert_eq!(read_items(asked).expect("a list").period_end, Some(5));
}

#[test]
fn list_that_was_cut_says_so() {
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
    let previous = snapshot(&event).previous.clone().expect("it says what it replaced");
    assert_eq!(previous.items, Replaced::Value(None));
}

#[test]
fn each_type_of_the_family_says_what_kind_of_change_it_is() {
    for (word, change) in [
        ("created", SubscriptionChange::Created),
        ("updated", SubscriptionChange::Changed),
        ("paused", SubscriptionChange::Changed),
        ("resumed", SubscriptionChange::Changed),
        ("deleted", SubscriptionChange::Deleted),
        ("trial_will_end", SubscriptionChange::Announced),
        ("pending_update_applied", SubscriptionChange::Announced),
        ("pending_update_expired", SubscriptionChange::Announced),
    ] {
        let event = read_with(SUBSCRIPTION_UPDATED, |event| {
            event["type"] = json!(format!("customer.subscription.{word}"));
        });
        let Subject::Subscription(read, _) = event.subject else { panic!("{word} is not read") };
        assert_eq!(read, change, "{word}");
    }
}

#[test]
fn period_ends_with_the_earliest_item_and_all_prices_are_kept() {
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
fn the_items_period_counts_before_the_subscriptions_own() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["current_period_end"] = json!(1);
    });
    assert_eq!(snapshot(&event).state.current_period_end, Some(PERIOD_END));
}

#[test]
fn a_plan_stands_in_where_an_item_has_no_price() {
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
fn a_trial_and_an_end_are_read_with_their_times() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["trial_end"] = json!(MADE + 14);
        subscription["ended_at"] = json!(MADE + 15);
    });
    let state = &snapshot(&event).state;
    assert_eq!((state.trial_end, state.ended_at), (Some(MADE + 14), Some(MADE + 15)));
}

#[test]
fn a_status_that_stripe_has_added_since_is_kept() {
    let event =
        read_with_object(SUBSCRIPTION_UPDATED, |subscription| subscription["status"] = json!("hibernating"));
    assert_eq!(snapshot(&event).state.status, Status::Other("hibernating".into()));
}

#[test]
fn optional_fields_of_the_wrong_type_are_absent_and_cost_nothing_else() {
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
    let Snapshot { state, tags, .. } = snapshot(&event);
    let [item] = &state.items[..] else { panic!("one item") };
    assert_eq!((&item.lookup_key, item.quantity), (&None, None));
    let expected = State {
        started_at: None,
        items: state.items.clone(),
        cancel_at: None,
        cancel_at_period_end: false,
        ..as_it_stands()
    };
    assert_eq!((state, tags), (&expected, &Tags::default()));
}

#[test]
fn items_that_are_not_a_list_are_no_items() {
    for items in [Value::Null, json!([]), json!("many"), json!({ "data": null }), json!({})] {
        let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
            subscription["items"] = items.clone();
        });
        let state = &snapshot(&event).state;
        assert_eq!((&state.items, state.current_period_end), (&vec![], None), "{items}");
    }
}

#[test]
fn an_item_whose_price_cannot_be_read_is_left_out() {
    let event = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        let items = subscription["items"]["data"].as_array_mut().expect("items");
        let mut odd = items[0].clone();
        odd["price"] = json!({ "id": "two\nlines" });
        items.push(odd);
    });
    assert_eq!(snapshot(&event).state.items, as_it_stands().items);
}
