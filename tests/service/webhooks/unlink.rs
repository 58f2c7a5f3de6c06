//! `tenant unlink`: the operator unlinks a customer from its tenant.

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::command_output::{json_output, read_output, table_rows};
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    unlinked_tenant_loses_plan_and_its_stream_reports_it,
    events_of_unlinked_customer_are_parked_until_linked_again,
    payment_on_open_checkout_of_unlinked_customer_is_parked,
    import_does_not_relink_unlinked_customer,
);

async fn unlinked_tenant_loses_plan_and_its_stream_reports_it(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let request = app.request(reqwest::Method::GET, STREAM).bearer_auth(app.token("acme"));
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next_subscription().await["plan"], "pro");

    let (code, dry, err) = read_output(&app.run_command(&["tenant", "unlink", "acme", "--dry-run"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(dry.starts_with(&format!("Would unlink {customer} from tenant acme.\n")), "{dry}");
    assert!(dry.contains(&format!("{subscription} (active) would be removed here")), "{dry}");
    assert_eq!(app.customer_of("acme").await, customer, "a dry run changes nothing");

    let unlinked = json_output(&app, &["tenant", "unlink", "acme"]);
    assert_eq!(
        unlinked,
        json!({
            "tenant": "acme", "customer": customer, "open_checkouts": [], "dry_run": false,
            "subscriptions": [{ "id": subscription, "status": "active" }],
        })
    );
    // SQLite has no notifications, so the change is found by the next poll.
    app.clock.advance_seconds(5);
    stream
        .wait_for(|subscription| subscription["plan"] == "free" && subscription["can_manage"] == false)
        .await;
    let line = app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&line["reason"], &line["customer_id"]), (&json!("operator"), &json!(customer)));
    let timeline = read_output(&app.run_command(&["tenant", "show", "acme", "--timeline"])).1;
    assert!(
        table_rows(&timeline).last().is_some_and(|last| last.contains("customer.unlinked")),
        "{timeline}"
    );

    let (code, _, err) = read_output(&app.run_command(&["tenant", "unlink", "acme"]));
    assert_eq!((code, err.contains("tenant acme has no customer")), (Some(1), true), "{err}");
    let (code, _, err) = read_output(&app.run_command(&["tenant", "unlink", "a b"]));
    assert_eq!((code, err.contains("TENANT")), (Some(2), true), "{err}");

    app.subscribe_to_pro("acme").await;
    assert_ne!(app.customer_of("acme").await, customer, "the next checkout creates another customer");
    app.stop().await;
}

async fn events_of_unlinked_customer_are_parked_until_linked_again(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.wait_for_refreshes().await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());

    // The subscription's metadata still names the tenant, from Billhook's own checkout.
    app.stripe.update_subscription(&subscription, &json!({ "quantity": 3 })).await;
    let parked = app.wait_for_line("subscription_state", |line| line["event"] == "event.parked").await;
    assert_eq!((&parked["reason"], &parked["level"]), (&json!("customer_unlinked"), &json!("warn")));
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");

    assert!(app.run_command(&["tenant", "link", "birch", &customer]).status.success());
    let response = app.wait_for_plan("birch", "pro").await;
    assert_eq!(response["quantity"], 3);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.clock.advance_seconds(3600);
    app.wait_for_refreshes().await;
    app.stripe.update_subscription(&subscription, &json!({ "quantity": 4 })).await;
    // The double signs by the machine's clock, so its webhook is too old by the test's.
    app.run_backfill_after(300).await;
    app.wait_for_subscription("birch", |subscription| subscription["quantity"] == 4).await;
    app.stop().await;
}

async fn payment_on_open_checkout_of_unlinked_customer_is_parked(database: Database) {
    let app = TestApp::start(database).await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    let customer = app.customer_of("acme").await;
    let (_, out, _) = read_output(&app.run_command(&["tenant", "unlink", "acme"]));
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(out.contains(&format!("{session} is still open")), "{out}");

    app.stripe.pay(session).await;
    let is_session = |line: &serde_json::Value| line["stripe_event_type"] == "checkout.session.completed";
    let line = app.wait_for_line("subscription_state", is_session).await;
    assert_eq!(
        (&line["event"], &line["reason"], &line["level"]),
        (&json!("event.parked"), &json!("customer_unlinked"), &json!("warn"))
    );
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    app.wait_for_plan("acme", "pro").await;
    app.wait_for_checkout(session, "complete").await;
    app.stop().await;
}

async fn import_does_not_relink_unlinked_customer(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());

    let csv = app.dir().join("tenants.csv");
    std::fs::write(&csv, format!("tenant,customer\nacme,{customer}\n")).expect("written");
    let csv = csv.to_str().expect("a path");
    for words in [&["tenant", "import", csv, "--dry-run"][..], &["tenant", "import", csv]] {
        let (code, out, err) = read_output(&app.run_command(words));
        assert_eq!((code, out.contains("1 of 1 line refused")), (Some(1), true), "{out}");
        let refused =
            "line 2: acme: the operator unlinked the customer; link it again with `billhook tenant link`";
        assert!(err.contains(refused), "{err}");
    }
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    let again = json_output(&app, &["tenant", "import", csv]);
    assert_eq!((&again["linked_before"], &again["refused"]), (&json!(1), &json!(0)));
    app.stop().await;
}
