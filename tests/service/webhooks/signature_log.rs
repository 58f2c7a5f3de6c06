//! The log of signatures during a flood of forged webhooks.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::Database;

/// 3 000 forged webhooks, many times more than the log has lines for.
const WAVES: u64 = 30;
const WEBHOOKS_PER_WAVE: u64 = 100;

#[tokio::test]
async fn flood_of_rejections_is_summarized_and_hides_no_acceptance() {
    let start = Instant::now();
    let mut app = TestApp::start(Database::Sqlite).await;
    let verified = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    for wave in 0..WAVES {
        send_forged_wave(&app).await;
        if wave == WAVES / 2 {
            app.deliver(&verified).await.ok();
        }
        if wave % 10 == 9 {
            app.clock.advance_seconds(1);
        }
    }
    app.stop_service().await;

    let mut lines = app.lines("webhook_signatures");
    lines.retain(|line| line["event"] == "signature.rejected");
    // A burst of 60 lines, one line for each of the two seconds that passed, and a summary of the
    // rest, which is also written once in every real minute.
    let summary_lines = 1 + usize::try_from(start.elapsed().as_secs() / 60).expect("a short test");
    let expected = (60 + 2 + 1)..=(60 + 2 + summary_lines);
    assert!(expected.contains(&lines.len()), "{} lines", lines.len());
    let rejections = |line: &Value| 1 + line["suppressed"].as_u64().unwrap_or(0);
    assert_eq!(lines.iter().map(rejections).sum::<u64>(), WAVES * WEBHOOKS_PER_WAVE);
    for line in &lines {
        assert_eq!(
            (&line["reason"], line["trace_id"].as_str().map(str::len)),
            (&"no_match".into(), Some(32))
        );
    }
    let accepted =
        app.wait_for_line("webhook_signatures", |line| line["event"] == "signature.accepted").await;
    assert_eq!(accepted["stripe_event_id"], verified["id"]);
    app.stop().await;
}

/// Lines of verified webhooks are never limited.
#[tokio::test]
async fn every_accepted_webhook_is_logged_during_a_flood() {
    let app = TestApp::start(Database::Sqlite).await;
    send_forged_wave(&app).await;
    let events: Vec<_> =
        (0..200).map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).collect();
    app.deliver_all(&events).await;
    let mut lines_by_event = BTreeMap::<String, usize>::new();
    for line in app.lines("webhook_signatures").iter().filter(|line| line["event"] == "signature.accepted") {
        *lines_by_event.entry(line["stripe_event_id"].to_string()).or_default() += 1;
    }
    assert!(
        events.iter().all(|event| lines_by_event.get(&event["id"].to_string()) == Some(&1)),
        "{lines_by_event:?}"
    );
    app.stop().await;
}

async fn send_forged_wave(app: &TestApp) {
    let forged = app.forged_signature();
    let posts = (0..WEBHOOKS_PER_WAVE).map(|_| app.post_webhook(b"{}".to_vec(), Some(&forged)));
    for response in futures_util::future::join_all(posts).await {
        let code = response.json()["code"].as_str().expect("a code").to_owned();
        assert!(["invalid_signature", "throttled"].contains(&&*code), "{code}");
    }
}
