//! Anybody can post to the webhook's address. It costs them more than us.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::Database;

/// Together they are many times what the lines have room for.
const WAVES: u64 = 30;
const IN_A_WAVE: u64 = 100;

#[tokio::test]
async fn a_flood_of_bad_signatures_leaves_few_lines_that_account_for_all_and_hide_no_good_one() {
    let began = Instant::now();
    let mut app = TestApp::start(Database::Sqlite).await;
    let good = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    for wave in 0..WAVES {
        throw_a_wave(&app).await;
        if wave == WAVES / 2 {
            app.deliver(&good).await.ok();
        }
        if wave % 10 == 9 {
            app.clock.advance_seconds(1);
        }
    }
    app.go_down().await;

    let mut lines = app.lines("webhook_signatures");
    lines.retain(|line| line["event"] == "signature.rejected");
    // Sixty at once, one for each second that went by, and one for the rest, which is also written
    // once in every real minute.
    let lines_of_the_rest = 1 + usize::try_from(began.elapsed().as_secs() / 60).expect("a short test");
    let expected = (60 + 2 + 1)..=(60 + 2 + lines_of_the_rest);
    assert!(expected.contains(&lines.len()), "{} lines", lines.len());
    let stands_for = |line: &Value| 1 + line["suppressed"].as_u64().unwrap_or(0);
    assert_eq!(lines.iter().map(stands_for).sum::<u64>(), WAVES * IN_A_WAVE);
    for line in &lines {
        assert_eq!(
            (&line["reason"], line["trace_id"].as_str().map(str::len)),
            (&"no_match".into(), Some(32))
        );
    }
    let accepted = app.line("webhook_signatures", |line| line["event"] == "signature.accepted").await;
    assert_eq!(accepted["stripe_event_id"], good["id"]);
    app.stop().await;
}

/// What is verified is told in full, however much it is.
#[tokio::test]
async fn good_webhooks_are_each_told_in_a_flood_too() {
    let app = TestApp::start(Database::Sqlite).await;
    throw_a_wave(&app).await;
    let events: Vec<_> =
        (0..200).map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).collect();
    app.deliver_all(&events).await;
    let mut told = BTreeMap::<String, usize>::new();
    for line in app.lines("webhook_signatures").iter().filter(|line| line["event"] == "signature.accepted") {
        *told.entry(line["stripe_event_id"].to_string()).or_default() += 1;
    }
    assert!(events.iter().all(|event| told.get(&event["id"].to_string()) == Some(&1)), "{told:?}");
    app.stop().await;
}

async fn throw_a_wave(app: &TestApp) {
    let forged = app.forged_signature();
    let posts = (0..IN_A_WAVE).map(|_| app.post_webhook(b"{}".to_vec(), Some(&forged)));
    for answer in futures_util::future::join_all(posts).await {
        let code = answer.json()["code"].as_str().expect("a code").to_owned();
        assert!(["invalid_signature", "throttled"].contains(&&*code), "{code}");
    }
}
