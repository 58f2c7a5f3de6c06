//! A customer that the operator takes from its tenant.

use serde_json::json;

use crate::operations::events::{json_of, told};
use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(
    a_tenant_that_is_unlinked_is_free_at_once_and_its_page_hears_it,
    what_an_unlinked_customer_still_says_waits_until_the_operator_links_it,
    who_pays_on_a_page_that_was_open_waits_and_is_told_of,
    an_import_does_not_bring_back_what_was_unlinked,
);

async fn a_tenant_that_is_unlinked_is_free_at_once_and_its_page_hears_it(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let request = app.request(reqwest::Method::GET, STREAM).bearer_auth(app.token("acme"));
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next_subscription().await["plan"], "pro");

    let (code, dry, err) = told(&app.run_command(&["tenant", "unlink", "acme", "--dry-run"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(dry.starts_with(&format!("Would take {customer} from tenant acme.\n")), "{dry}");
    assert!(dry.contains(&format!("{subscription} (active) would be held no longer")), "{dry}");
    assert_eq!(app.customer_of("acme").await, customer, "a dry run changes nothing");

    let unlinked = json_of(&app, &["tenant", "unlink", "acme"]);
    assert_eq!(
        unlinked,
        json!({
            "tenant": "acme", "customer": customer, "open_checkouts": [], "dry_run": false,
            "subscriptions": [{ "id": subscription, "status": "active" }],
        })
    );
    // On SQLite nothing tells of it, and it is found at the next look.
    app.clock.advance_seconds(5);
    stream.until(|answer| answer["plan"] == "free" && answer["can_manage"] == false).await;
    let line = app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;
    assert_eq!((&line["reason"], &line["customer_id"]), (&json!("operator"), &json!(customer)));
    let story = told(&app.run_command(&["tenant", "show", "acme", "--timeline"])).1;
    assert!(story.lines().last().is_some_and(|last| last.contains("customer.unlinked")), "{story}");

    let (code, _, err) = told(&app.run_command(&["tenant", "unlink", "acme"]));
    assert_eq!((code, err.contains("tenant acme has no customer")), (Some(1), true), "{err}");
    let (code, _, err) = told(&app.run_command(&["tenant", "unlink", "a b"]));
    assert_eq!((code, err.contains("TENANT")), (Some(2), true), "{err}");

    app.make_pro("acme").await;
    assert_ne!(app.customer_of("acme").await, customer, "the next checkout makes another one");
    app.stop().await;
}

async fn what_an_unlinked_customer_still_says_waits_until_the_operator_links_it(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.until_nothing_is_asked().await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());

    // Our own checkout has written the tenant into the subscription's metadata.
    app.stripe.change(&subscription, &json!({ "quantity": 3 })).await;
    let parked = app.line("subscription_state", |line| line["event"] == "event.parked").await;
    assert_eq!((&parked["reason"], &parked["level"]), (&json!("customer_unlinked"), &json!("warn")));
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");

    assert!(app.run_command(&["tenant", "link", "birch", &customer]).status.success());
    let answer = app.until_plan("birch", "pro").await;
    assert_eq!(answer["quantity"], 3);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    app.clock.advance_seconds(3600);
    app.until_nothing_is_asked().await;
    app.stripe.change(&subscription, &json!({ "quantity": 4 })).await;
    // The double signs by the machine's clock, so its webhook is too old here.
    app.next_backfill(300).await;
    app.until("birch", |answer| answer["quantity"] == 4).await;
    app.stop().await;
}

async fn who_pays_on_a_page_that_was_open_waits_and_is_told_of(database: Database) {
    let app = TestApp::start(database).await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    let customer = app.customer_of("acme").await;
    let (_, out, _) = told(&app.run_command(&["tenant", "unlink", "acme"]));
    assert!(out.contains(&format!("{session} is still open")), "{out}");

    app.stripe.pay(session).await;
    let is_session = |line: &serde_json::Value| line["stripe_event_type"] == "checkout.session.completed";
    let line = app.line("subscription_state", is_session).await;
    assert_eq!(
        (&line["event"], &line["reason"], &line["level"]),
        (&json!("event.parked"), &json!("customer_unlinked"), &json!("warn"))
    );
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    app.until_plan("acme", "pro").await;
    app.until_checkout(session, "complete").await;
    app.stop().await;
}

async fn an_import_does_not_bring_back_what_was_unlinked(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());

    let csv = app.dir().join("tenants.csv");
    std::fs::write(&csv, format!("tenant,customer\nacme,{customer}\n")).expect("written");
    let csv = csv.to_str().expect("a path");
    for words in [&["tenant", "import", csv, "--dry-run"][..], &["tenant", "import", csv]] {
        let (code, out, err) = told(&app.run_command(words));
        assert_eq!((code, out.contains("1 of 1 lines are refused")), (Some(1), true), "{out}");
        let refused =
            "line 2: acme: the customer was taken from its tenant; `billhook tenant link` links it again";
        assert!(err.contains(refused), "{err}");
    }
    assert!(app.run_command(&["tenant", "link", "acme", &customer]).status.success());
    let again = json_of(&app, &["tenant", "import", csv]);
    assert_eq!((&again["linked_before"], &again["refused"]), (&json!(1), &json!(0)));
    app.stop().await;
}
