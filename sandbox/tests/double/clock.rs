//! The double's own time.

use serde_json::json;

use crate::receiver::{Receiver, SECRET};
use crate::stage::Stage;

#[tokio::test]
async fn a_stopped_clock_puts_everything_into_one_second_until_it_is_moved_on() {
    let stage = Stage::set().await;
    stage.stop_clock_and_advance(0).await;
    let second = stage.now().await;
    let customer = stage.customer().await;
    stage.subscription(&customer).await;
    stage.stop_clock_and_advance(7).await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    let seconds: Vec<i64> =
        stage.events().await.iter().filter_map(|event| event["created"].as_i64()).collect();
    assert_eq!(seconds, [second, second, second, second, second + 7, second + 7]);
}

#[tokio::test]
async fn answers_are_dated_by_the_doubles_own_clock() {
    let stage = Stage::set().await;
    let in_1994 = 784_111_777;
    let until_2094 = in_1994 + 100 * 365 * 24 * 60 * 60;
    let seconds = until_2094 - stage.now().await;
    stage.stop_clock_and_advance(seconds).await;
    for path in ["/v1/account", "/v1/customers/cus_nobody"] {
        let date = stage.get(path, &[]).await.header("date").map(str::to_owned);
        assert!(date.as_ref().is_some_and(|date| date.contains(" Oct 2094 08:49:")), "{date:?}");
    }
    let customer = stage.get(&format!("/v1/customers/{}", stage.customer().await), &[]).await.ok();
    assert_eq!(customer["created"], stage.now().await);
}

#[tokio::test]
async fn a_clock_that_goes_on_stays_ahead() {
    let stage = Stage::set().await;
    let before = stage.now().await;
    stage.tell("/clock", json!({"advance_seconds": 3600})).await;
    assert!(stage.now().await >= before + 3600);
    stage.stop_clock_and_advance(3600).await;
    let told = stage.tell("/clock", json!({"stopped": false})).await;
    assert_eq!(told["stopped"], false);
    assert!(stage.now().await >= before + 7200);
    stage.tell_in_vain("/clock", json!({"advance_seconds": -1}), 400).await;
}

#[tokio::test]
async fn webhooks_are_signed_at_the_receivers_time() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    let real = stage.now().await;
    stage.stop_clock_and_advance(1_000_000).await;
    stage.customer().await;
    let webhook = &receiver.receive(1).await[0];
    let header = webhook.header("stripe-signature");
    let timestamp: i64 = header[2..].split(',').next().and_then(|text| text.parse().ok()).expect("a time");
    assert!((real..real + 1000).contains(&timestamp), "{timestamp}");
    assert_eq!(header, sandbox::sign(SECRET, timestamp, &webhook.body));
    assert_eq!(webhook.event()["created"], stage.now().await);
}
