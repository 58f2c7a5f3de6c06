//! Tenant names that look like a path segment or a command-line option.

use serde_json::json;

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(tenant_stored_under_refused_name_stays_readable);

const REFUSED: [&str; 5] = [".", "..", "-", "--json", "-x"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_named_like_a_path_or_option_is_refused() {
    let app = TestApp::start(Database::Sqlite).await;
    for name in REFUSED {
        app.subscription(&app.token(name)).await.assert_problem(401, "not_authenticated");
        app.check_out(&app.token(name), &json!({})).await.assert_problem(401, "not_authenticated");
        for words in [
            &["tenant", "link", "--", name, "cus_1"][..],
            &["token", "--user=u", &format!("--tenant={name}")],
        ] {
            let refused = app.run_command(words);
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(2), "{text}");
            assert!(text.contains("not `.` or `..`, and not starting with `-`"), "{text}");
        }
    }
    let service = app.service_token();
    for path in ["-", "--json"] {
        let refused = app.tenant_subscription(path, &service).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.text);
    }

    // An event does not link such a tenant either.
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": ".." });
    });
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "parked");
    app.stop().await;
}

/// Earlier versions accepted such names.
async fn tenant_stored_under_refused_name_stays_readable(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    app.subscribe_to_pro("birch").await;
    let customer = app.customer_of("acme").await;
    app.stop_service().await;
    for table in ["checkout", "event", "refresh", "subscription", "transition"] {
        app.database.execute(&format!("UPDATE {table} SET tenant_id = '..' WHERE tenant_id = 'acme'")).await;
    }
    app.database.execute("UPDATE tenant SET id = '..' WHERE id = 'acme'").await;
    app.start_service().await;

    let event = stripe_event("customer.subscription.updated", app.clock_seconds() + 10, |object| {
        object["id"] = json!(subscription);
        object["customer"] = json!(customer);
        object["items"]["data"][0]["quantity"] = json!(7);
    });
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "applied");
    app.deliver(&event).await.ok();

    let output = |words: &[&str]| {
        let output = app.run_command(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let listed = output(&["tenant", "list"]);
    assert!(listed.contains("..") && listed.contains("birch"), "{listed}");
    assert!(output(&["tenant", "show", ".."]).contains(&customer));
    output(&["tenant", "show", "..", "--timeline"]);
    let events = output(&["event", "list", "--tenant", "..", "--outcome", "applied", "--json"]);
    assert!(events.contains("customer.subscription.updated"), "{events}");
    output(&["reconcile", "--apply"]);
    assert!(output(&["tenant", "unlink", ".."]).contains("from tenant .."));
    app.stop().await;
}
