//! Who may open checkout and portal: not any member of a tenant, where the operator says so.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(a_member_reads_what_only_an_owner_may_change);

const ROLES: (&str, &str) = ("--jwt-manage-roles", "owner, billing admin");

fn token(app: &TestApp, roles: &Value) -> String {
    app.token_with(&json!({ "tenant": "acme", "sub": "of-acme", "roles": roles }))
}

/// Whether the bearer is let to both, or to neither; and that the subscription says the same.
async fn may_manage(app: &TestApp, token: &str) -> bool {
    let read = app.subscription(token).await.ok();
    let may = read["may_manage"].as_bool().expect("it is said");
    for answer in [app.check_out(token, &json!({})).await, app.open_portal(token, &json!({})).await] {
        if may {
            answer.ok();
        } else {
            answer.assert_is(403, "not_allowed");
            let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
            assert!(detail.contains("Ask an owner of your organisation"), "{detail}");
        }
    }
    may
}

async fn a_member_reads_what_only_an_owner_may_change(database: Database) {
    let app = TestApp::start_with(database, &[ROLES]).await;
    let (owner, member) = (token(&app, &json!("owner")), token(&app, &json!(["member"])));
    assert!(!may_manage(&app, &member).await);
    assert!(app.stripe.requests().await.is_empty(), "Stripe has heard nothing of it");
    assert!(may_manage(&app, &owner).await);
    assert!(!may_manage(&app, &member).await, "also when there is a customer to manage");

    let [of_owner, of_member] = [app.subscription(&owner).await, app.subscription(&member).await];
    let etag = of_owner.header("etag").expect("an ETag");
    assert_ne!(of_member.header("etag"), Some(etag), "what differs has another ETag");
    assert_eq!(app.subscription_unless(&owner, etag).await.status, 304);
    assert_eq!(app.subscription_unless(&member, etag).await.ok()["may_manage"], false);
    for (token, may) in [(&owner, true), (&member, false)] {
        let request = app.request(Method::GET, STREAM).bearer_auth(token);
        let mut stream = EventStream::open(request.header("Last-Event-ID", etag)).await;
        if may {
            assert_eq!(stream.next().await, crate::support::event_stream::Heard::Heartbeat);
        } else {
            assert_eq!(stream.next_subscription().await["may_manage"], false);
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn where_nothing_is_asked_every_member_may() {
    let app = TestApp::start(Database::Sqlite).await;
    assert!(may_manage(&app, &app.token("acme")).await);
    app.stop().await;
}

#[tokio::test]
async fn a_scope_will_do_or_is_asked_for_beside_the_role() {
    let scope = ("--jwt-manage-scope", "billing:manage");
    let app = TestApp::start_with(Database::Sqlite, &[scope]).await;
    let with = |others: Value| {
        let mut claims = json!({ "tenant": "acme" });
        claims.as_object_mut().expect("an object").extend(others.as_object().expect("an object").clone());
        app.token_with(&claims)
    };
    assert!(may_manage(&app, &with(json!({ "scope": "openid billing:manage" }))).await);
    assert!(!may_manage(&app, &with(json!({ "scope": "openid" }))).await);
    assert!(!may_manage(&app, &with(json!({ "roles": ["owner", "billing:manage"] }))).await);
    app.stop().await;

    let asks = [scope, ROLES, ("--jwt-scope", "billing:read")];
    let app = TestApp::start_with(Database::Sqlite, &asks).await;
    let with =
        |scope: &str, role: &str| app.token_with(&json!({ "tenant": "acme", "scope": scope, "roles": role }));
    assert!(may_manage(&app, &with("billing:read billing:manage", "billing admin")).await);
    assert!(!may_manage(&app, &with("billing:read billing:manage", "member")).await);
    assert!(!may_manage(&app, &with("billing:read", "owner")).await);
    app.subscription(&with("billing:manage", "owner")).await.assert_is(403, "not_allowed");
    app.stop().await;
}

#[tokio::test]
async fn roles_stand_where_the_operator_says() {
    for (claim, claims) in [
        ("groups", json!({ "groups": ["owner"] })),
        ("realm_access.roles", json!({ "realm_access": { "roles": ["member", "owner"] } })),
        ("https://example.com/roles", json!({ "https://example.com/roles": "owner" })),
        ("cognito:groups", json!({ "cognito:groups": ["owner"] })),
    ] {
        let app = TestApp::start_with(Database::Sqlite, &[ROLES, ("--jwt-role-claim", claim)]).await;
        let mut claims = claims;
        claims["tenant"] = "acme".into();
        assert!(may_manage(&app, &app.token_with(&claims)).await, "{claim}");
        assert!(!may_manage(&app, &token(&app, &json!("owner"))).await, "{claim}: elsewhere is nowhere");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_role_that_is_not_quite_the_one_is_another() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES]).await;
    for roles in [
        json!(null),
        json!(""),
        json!("Owner"),
        json!("owner "),
        json!("owner member"),
        json!("owner, billing admin"),
        json!("billing"),
        json!([]),
        json!([["owner"]]),
        json!({ "owner": true }),
        json!(["ownership"]),
        json!(true),
        json!(0),
    ] {
        assert!(!may_manage(&app, &token(&app, &roles)).await, "{roles}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_service_token_opens_no_portal_whatever_else_it_has() {
    let asks = [ROLES, ("--jwt-manage-scope", "billing:manage")];
    let app = TestApp::start_with(Database::Sqlite, &asks).await;
    app.check_out(
        &app.token_with(&json!({ "tenant": "acme", "roles": "owner", "scope": "billing:manage" })),
        &json!({}),
    )
    .await
    .ok();
    let service = app.token_with(
        &json!({ "tenant": "acme", "roles": "owner", "scope": "billing:manage billing:service" }),
    );
    app.open_portal(&service, &json!({})).await.assert_is(403, "not_allowed");
    app.check_out(&service, &json!({})).await.assert_is(403, "not_allowed");
    assert_eq!(app.subscription_of("acme", &service).await.ok()["may_manage"], false);
    app.stop().await;
}

#[tokio::test]
async fn an_owner_of_one_tenant_is_nobody_in_another() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES]).await;
    assert!(may_manage(&app, &token(&app, &json!("owner"))).await);
    let in_birch = app.token_with(&json!({ "tenant": "birch", "sub": "of-acme", "roles": "member" }));
    assert!(!may_manage(&app, &in_birch).await);
    app.stop().await;
}

#[tokio::test]
async fn a_member_that_tries_is_told_counted_and_takes_nothing_of_the_owners_quota() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES, ("--throttle-per-minute", "1")]).await;
    let member = token(&app, &json!("member"));
    for _ in 0..5 {
        app.open_portal(&member, &json!({})).await.assert_is(403, "not_allowed");
        app.check_out(&member, &json!("nonsense")).await.assert_is(403, "not_allowed");
    }
    let tried = app.line("billing", |line| line["event"] == "portal.create.failure").await;
    assert_eq!(
        (&tried["outcome"], &tried["level"], &tried["tenant_id"], &tried["user_id"]),
        (&json!("not_allowed"), &json!("warn"), &json!("acme"), &json!("of-acme"))
    );
    let metrics = app.metrics().await;
    for told in [
        r#"billhook_portal_sessions_total{outcome="not_allowed"} 5"#,
        r#"billhook_checkout_sessions_total{outcome="not_allowed"} 5"#,
    ] {
        assert!(metrics.lines().any(|line| line == told), "{told}");
    }
    app.check_out(&token(&app, &json!("owner")), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn whoever_is_back_from_a_checkout_may_have_it_looked_at() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES]).await;
    let (owner, member) = (token(&app, &json!("owner")), token(&app, &json!("member")));
    let bought = app.check_out(&owner, &json!({})).await.ok();
    let path =
        format!("/api/billing/checkout-sessions/{}/refresh/", bought["session_id"].as_str().expect("an id"));
    for (token, may) in [(&owner, true), (&member, false)] {
        assert_eq!(app.post(&path, token, &json!({})).await.ok()["may_manage"], may);
    }
    app.stop().await;
}
