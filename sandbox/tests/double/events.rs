//! The list of events.

use serde_json::{Value, json};

use crate::stage::{Stage, id};

async fn made(stage: &Stage, count: i64) -> Vec<String> {
    let first = stage.now().await;
    let mut ids = Vec::new();
    for number in 1..=count {
        let event = json!({
            "type": format!("kind.{number}"),
            "object": {"n": number},
            "created": first + number,
        });
        ids.push(id(&stage.tell("/events", event).await));
    }
    ids
}

fn created(event: &Value) -> i64 {
    event["created"].as_i64().expect("an event should have a time")
}

fn ids(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().expect("a list should have data");
    data.iter().filter_map(|event| event["id"].as_str()).collect()
}

#[tokio::test]
async fn pages_run_from_the_newest_to_the_oldest_and_back() {
    let stage = Stage::set().await;
    let made = made(&stage, 5).await;
    let page = stage.get("/v1/events", &[("limit", "2")]).await.ok();
    assert_eq!(ids(&page), [&made[4], &made[3]]);
    assert_eq!(page["has_more"], true);
    let page = stage.get("/v1/events", &[("limit", "2"), ("starting_after", &made[1])]).await.ok();
    assert_eq!(ids(&page), [&made[0]]);
    assert_eq!(page["has_more"], false);
    let page = stage.get("/v1/events", &[("limit", "2"), ("ending_before", &made[0])]).await.ok();
    assert_eq!(ids(&page), [&made[2], &made[1]]);
    assert_eq!(page["has_more"], true);
}

#[tokio::test]
async fn a_page_may_be_counted_from_an_event_that_the_filter_leaves_out() {
    let stage = Stage::set().await;
    let made = made(&stage, 4).await;
    let params = [("types[]", "kind.2"), ("types[]", "kind.4"), ("ending_before", &made[0])];
    assert_eq!(ids(&stage.get("/v1/events", &params).await.ok()), [&made[3], &made[1]]);
    let error = stage.get("/v1/events", &[("ending_before", "evt_gone")]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "ending_before"]);
}

#[tokio::test]
async fn events_are_found_by_type_and_time() {
    let stage = Stage::set().await;
    let made = made(&stage, 4).await;
    let by_type = stage.get("/v1/events", &[("type", "kind.3")]).await.ok();
    assert_eq!(ids(&by_type), [&made[2]]);
    let second = created(&by_type["data"][0]);
    let (before, after) = ((second - 1).to_string(), (second + 1).to_string());
    let by_time = stage.get("/v1/events", &[("created[gte]", &before), ("created[lt]", &after)]).await.ok();
    assert_eq!(ids(&by_time), [&made[2], &made[1]]);
    let by_time = stage.get("/v1/events", &[("created[gt]", &before), ("created[lte]", &after)]).await.ok();
    assert_eq!(ids(&by_time), [&made[3], &made[2]]);
    let at_once = stage.get("/v1/events", &[("created", &after)]).await.ok();
    assert_eq!(ids(&at_once), [&made[3]]);
    stage.get("/v1/events", &[("type", "a"), ("types[]", "b")]).await.error(400);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("types[]", "a"), 21).collect();
    stage.get("/v1/events", &many).await.error(400);
    stage.get("/v1/events", &[("limit", "101")]).await.error(400);
}

#[tokio::test]
async fn the_newest_comes_first_and_of_one_second_the_last_made() {
    let stage = Stage::set().await;
    let now = stage.now().await;
    let mut made = Vec::new();
    for created in [now, now - 5, now, now - 5] {
        made.push(id(&stage.tell("/events", json!({"type": "a", "object": {}, "created": created})).await));
    }
    let list = stage.get("/v1/events", &[]).await.ok();
    assert_eq!(ids(&list), [&made[2], &made[0], &made[3], &made[1]]);
    let rest = stage.get("/v1/events", &[("starting_after", &made[0]), ("limit", "1")]).await.ok();
    assert_eq!(ids(&rest), [&made[3]]);
    assert_eq!(rest["has_more"], true);
}

#[tokio::test]
async fn events_that_become_visible_late_are_left_out_of_the_list_until_all_is_well() {
    let stage = Stage::set().await;
    let made = made(&stage, 1).await;
    stage.tell("/faults", json!({"events": "hidden"})).await;
    let hidden = id(&stage.tell("/events", json!({"type": "late", "object": {}})).await);
    assert_eq!(ids(&stage.get("/v1/events", &[]).await.ok()), [&made[0]]);
    stage.get("/v1/events", &[("ending_before", &hidden)]).await.error(400);
    assert_eq!(stage.get(&format!("/v1/events/{hidden}"), &[]).await.ok()["type"], "late");

    stage.clear_faults().await;
    let mut all = [hidden, made[0].clone()];
    all.sort();
    let list = stage.get("/v1/events", &[]).await.ok();
    let mut listed = ids(&list);
    listed.sort_unstable();
    assert_eq!(listed, all);
}

#[tokio::test]
async fn events_are_shown_for_thirty_days() {
    let stage = Stage::set().await;
    let old = id(&stage.tell("/events", json!({"type": "old", "object": {}})).await);
    stage.stop_clock_and_advance(60).await;
    let young = id(&stage.tell("/events", json!({"type": "young", "object": {}})).await);
    stage.stop_clock_and_advance(30 * 24 * 60 * 60).await;
    assert_eq!(ids(&stage.get("/v1/events", &[]).await.ok()), [&young]);
    stage.get(&format!("/v1/events/{old}"), &[]).await.error(404);
    stage.get("/v1/events", &[("ending_before", &old)]).await.error(400);
    stage.stop_clock_and_advance(1).await;
    assert!(ids(&stage.get("/v1/events", &[]).await.ok()).is_empty());
}

#[tokio::test]
async fn an_event_can_have_any_shape() {
    let stage = Stage::set().await;
    let shape = json!({
        "type": "customer.subscription.updated",
        "object": {"id": "sub_x", "odd": [1, {"a": null}]},
        "previous_attributes": {"odd": []},
        "id": "evt_chosen",
        "created": stage.now().await - 5,
        "api_version": "2020-08-27",
        "livemode": true,
        "account": "acct_other",
    });
    stage.tell("/events", shape.clone()).await;
    let event = stage.get("/v1/events/evt_chosen", &[]).await.ok();
    assert_eq!(event["data"], json!({"object": shape["object"], "previous_attributes": {"odd": []}}));
    for field in ["id", "created", "api_version", "livemode", "account", "type"] {
        assert_eq!(event[field], shape[field], "{field}");
    }
    assert_eq!(event["request"], json!({"id": null, "idempotency_key": null}));
}
