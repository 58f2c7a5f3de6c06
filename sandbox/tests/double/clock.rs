//! The double's clock.

use serde_json::json;

use crate::receiver::{Receiver, SECRET};
use crate::test_double::TestDouble;

#[tokio::test]
async fn stopped_clock_moves_only_when_advanced() {
    let double = TestDouble::start().await;
    double.stop_clock_and_advance(0).await;
    let second = double.now().await;
    let customer = double.create_customer().await;
    double.create_subscription(&customer).await;
    double.stop_clock_and_advance(7).await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    let seconds: Vec<i64> =
        double.events().await.iter().filter_map(|event| event["created"].as_i64()).collect();
    assert_eq!(seconds, [second, second, second, second, second + 7, second + 7]);
}

#[tokio::test]
async fn responses_are_dated_by_double_clock() {
    let double = TestDouble::start().await;
    let in_1994 = 784_111_777;
    let until_2094 = in_1994 + 100 * 365 * 24 * 60 * 60;
    let seconds = until_2094 - double.now().await;
    double.stop_clock_and_advance(seconds).await;
    for path in ["/v1/account", "/v1/customers/cus_unknown"] {
        let date = double.get(path, &[]).await.header("date").map(str::to_owned);
        assert!(date.as_ref().is_some_and(|date| date.contains(" Oct 2094 08:49:")), "{date:?}");
    }
    let customer = double.get(&format!("/v1/customers/{}", double.create_customer().await), &[]).await.ok();
    assert_eq!(customer["created"], double.now().await);
}

#[tokio::test]
async fn resumed_clock_stays_ahead() {
    let double = TestDouble::start().await;
    let before = double.now().await;
    double.control("/clock", json!({"advance_seconds": 3600})).await;
    assert!(double.now().await >= before + 3600);
    double.stop_clock_and_advance(3600).await;
    let clock = double.control("/clock", json!({"stopped": false})).await;
    assert_eq!(clock["stopped"], false);
    assert!(double.now().await >= before + 7200);
    double.control_fails("/clock", json!({"advance_seconds": -1}), 400).await;
}

#[tokio::test]
async fn webhook_signature_uses_system_time() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    let system_time = double.now().await;
    double.stop_clock_and_advance(1_000_000).await;
    double.create_customer().await;
    let webhook = &receiver.receive(1).await[0];
    let header = webhook.header("stripe-signature");
    let timestamp: i64 = header[2..].split(',').next().and_then(|text| text.parse().ok()).expect("timestamp");
    assert!((system_time..system_time + 1000).contains(&timestamp), "{timestamp}");
    assert_eq!(header, sandbox::sign(SECRET, timestamp, &webhook.body));
    assert_eq!(webhook.event()["created"], double.now().await);
}
