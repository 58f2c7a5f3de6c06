//! The event list and custom events.

use serde_json::{Value, json};

use crate::test_double::{TestDouble, id};

async fn emit_events(double: &TestDouble, count: i64) -> Vec<String> {
    let first = double.now().await;
    let mut ids = Vec::new();
    for number in 1..=count {
        let event = json!({
            "type": format!("kind.{number}"),
            "object": {"n": number},
            "created": first + number,
        });
        ids.push(id(&double.control("/events", event).await));
    }
    ids
}

fn created(event: &Value) -> i64 {
    event["created"].as_i64().expect("event time")
}

fn ids(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().expect("list data");
    data.iter().filter_map(|event| event["id"].as_str()).collect()
}

#[tokio::test]
async fn event_list_is_paginated_in_both_directions() {
    let double = TestDouble::start().await;
    let emitted = emit_events(&double, 5).await;
    let page = double.get("/v1/events", &[("limit", "2")]).await.ok();
    assert_eq!(ids(&page), [&emitted[4], &emitted[3]]);
    assert_eq!(page["has_more"], true);
    let page = double.get("/v1/events", &[("limit", "2"), ("starting_after", &emitted[1])]).await.ok();
    assert_eq!(ids(&page), [&emitted[0]]);
    assert_eq!(page["has_more"], false);
    let page = double.get("/v1/events", &[("limit", "2"), ("ending_before", &emitted[0])]).await.ok();
    assert_eq!(ids(&page), [&emitted[2], &emitted[1]]);
    assert_eq!(page["has_more"], true);
}

#[tokio::test]
async fn pagination_cursor_need_not_match_filter() {
    let double = TestDouble::start().await;
    let emitted = emit_events(&double, 4).await;
    let params = [("types[]", "kind.2"), ("types[]", "kind.4"), ("ending_before", &emitted[0])];
    assert_eq!(ids(&double.get("/v1/events", &params).await.ok()), [&emitted[3], &emitted[1]]);
    let error = double.get("/v1/events", &[("ending_before", "evt_gone")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "ending_before"]);
}

#[tokio::test]
async fn event_list_filters_by_type_and_time() {
    let double = TestDouble::start().await;
    let emitted = emit_events(&double, 4).await;
    let by_type = double.get("/v1/events", &[("type", "kind.3")]).await.ok();
    assert_eq!(ids(&by_type), [&emitted[2]]);
    let second = created(&by_type["data"][0]);
    let (before, after) = ((second - 1).to_string(), (second + 1).to_string());
    let by_time = double.get("/v1/events", &[("created[gte]", &before), ("created[lt]", &after)]).await.ok();
    assert_eq!(ids(&by_time), [&emitted[2], &emitted[1]]);
    let by_time = double.get("/v1/events", &[("created[gt]", &before), ("created[lte]", &after)]).await.ok();
    assert_eq!(ids(&by_time), [&emitted[3], &emitted[2]]);
    let exact = double.get("/v1/events", &[("created", &after)]).await.ok();
    assert_eq!(ids(&exact), [&emitted[3]]);
    double.get("/v1/events", &[("type", "a"), ("types[]", "b")]).await.error(400);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("types[]", "a"), 21).collect();
    double.get("/v1/events", &many).await.error(400);
    double.get("/v1/events", &[("limit", "101")]).await.error(400);
}

#[tokio::test]
async fn event_list_is_sorted_by_time_then_emission() {
    let double = TestDouble::start().await;
    let now = double.now().await;
    let mut emitted = Vec::new();
    for created in [now, now - 5, now, now - 5] {
        emitted.push(id(&double
            .control("/events", json!({"type": "a", "object": {}, "created": created}))
            .await));
    }
    let list = double.get("/v1/events", &[]).await.ok();
    assert_eq!(ids(&list), [&emitted[2], &emitted[0], &emitted[3], &emitted[1]]);
    let rest = double.get("/v1/events", &[("starting_after", &emitted[0]), ("limit", "1")]).await.ok();
    assert_eq!(ids(&rest), [&emitted[3]]);
    assert_eq!(rest["has_more"], true);
}

#[tokio::test]
async fn hidden_events_are_not_listed_until_faults_are_cleared() {
    let double = TestDouble::start().await;
    let emitted = emit_events(&double, 1).await;
    double.control("/faults", json!({"events": "hidden"})).await;
    let hidden = id(&double.control("/events", json!({"type": "late", "object": {}})).await);
    assert_eq!(ids(&double.get("/v1/events", &[]).await.ok()), [&emitted[0]]);
    double.get("/v1/events", &[("ending_before", &hidden)]).await.error(400);
    assert_eq!(double.get(&format!("/v1/events/{hidden}"), &[]).await.ok()["type"], "late");

    double.clear_faults().await;
    let mut all = [hidden, emitted[0].clone()];
    all.sort();
    let list = double.get("/v1/events", &[]).await.ok();
    let mut listed = ids(&list);
    listed.sort_unstable();
    assert_eq!(listed, all);
}

#[tokio::test]
async fn events_are_available_for_thirty_days() {
    let double = TestDouble::start().await;
    let old = id(&double.control("/events", json!({"type": "old", "object": {}})).await);
    double.stop_clock_and_advance(60).await;
    let young = id(&double.control("/events", json!({"type": "young", "object": {}})).await);
    double.stop_clock_and_advance(30 * 24 * 60 * 60).await;
    assert_eq!(ids(&double.get("/v1/events", &[]).await.ok()), [&young]);
    double.get(&format!("/v1/events/{old}"), &[]).await.error(404);
    double.get("/v1/events", &[("ending_before", &old)]).await.error(400);
    double.stop_clock_and_advance(1).await;
    assert!(ids(&double.get("/v1/events", &[]).await.ok()).is_empty());
}

#[tokio::test]
async fn custom_event_can_have_any_fields() {
    let double = TestDouble::start().await;
    let shape = json!({
        "type": "customer.subscription.updated",
        "object": {"id": "sub_x", "odd": [1, {"a": null}]},
        "previous_attributes": {"odd": []},
        "id": "evt_chosen",
        "created": double.now().await - 5,
        "api_version": "2020-08-27",
        "livemode": true,
        "account": "acct_other",
    });
    double.control("/events", shape.clone()).await;
    let event = double.get("/v1/events/evt_chosen", &[]).await.ok();
    assert_eq!(event["data"], json!({"object": shape["object"], "previous_attributes": {"odd": []}}));
    for field in ["id", "created", "api_version", "livemode", "account", "type"] {
        assert_eq!(event[field], shape[field], "{field}");
    }
    assert_eq!(event["request"], json!({"id": null, "idempotency_key": null}));
}
