//! The list of events.

use serde_json::{Value, json};

use crate::stage::{Stage, id};

async fn made(stage: &Stage, count: i64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 1..=count {
        let event =
            json!({"type": format!("kind.{number}"), "object": {"n": number}, "created": 1000 + number});
        ids.push(id(&stage.tell("/events", event).await));
    }
    ids
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
    let by_time = stage.get("/v1/events", &[("created[gt]", "1001"), ("created[lte]", "1003")]).await.ok();
    assert_eq!(ids(&by_time), [&made[2], &made[1]]);
    let at_once = stage.get("/v1/events", &[("created", "1004")]).await.ok();
    assert_eq!(ids(&at_once), [&made[3]]);
    stage.get("/v1/events", &[("type", "a"), ("types[]", "b")]).await.error(400);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("types[]", "a"), 21).collect();
    stage.get("/v1/events", &many).await.error(400);
    stage.get("/v1/events", &[("limit", "101")]).await.error(400);
}

#[tokio::test]
async fn an_event_can_have_any_shape() {
    let stage = Stage::set().await;
    let shape = json!({
        "type": "customer.subscription.updated",
        "object": {"id": "sub_x", "odd": [1, {"a": null}]},
        "previous_attributes": {"odd": []},
        "id": "evt_chosen",
        "created": 5,
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
