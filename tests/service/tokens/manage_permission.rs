//! Who may open checkout and portal. By default every member of a tenant may. The operator can
//! require a role or a scope.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};
use crate::support::event_stream::{EventStream, STREAM};

on_both_databases!(member_can_read_and_only_owner_can_manage);

const ROLES: (&str, &str) = ("--jwt-manage-roles", "owner, billing admin");

fn token(app: &TestApp, roles: &Value) -> String {
    app.token_with(&json!({ "tenant": "acme", "sub": "of-acme", "roles": roles }))
}

/// Whether the subscription reports `may_manage`. Asserts that checkout and portal both agree.
async fn may_manage(app: &TestApp, token: &str) -> bool {
    let read = app.subscription(token).await.ok();
    let may = read["may_manage"].as_bool().expect("a boolean");
    for response in [app.check_out(token, &json!({})).await, app.open_portal(token, &json!({})).await] {
        if may {
            response.ok();
        } else {
            response.assert_problem(403, "not_allowed");
            let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
            assert!(detail.contains("Ask an administrator of your organization"), "{detail}");
        }
    }
    may
}

async fn member_can_read_and_only_owner_can_manage(database: Database) {
    let app = TestApp::start_with(database, &[ROLES]).await;
    let (owner, member) = (token(&app, &json!("owner")), token(&app, &json!(["member"])));
    assert!(!may_manage(&app, &member).await);
    assert!(app.stripe.requests().await.is_empty(), "Stripe was not called");
    assert!(may_manage(&app, &owner).await);
    assert!(!may_manage(&app, &member).await, "nor once the tenant has a customer");

    let [of_owner, of_member] = [app.subscription(&owner).await, app.subscription(&member).await];
    let etag = of_owner.header("etag").expect("an ETag");
    assert_ne!(of_member.header("etag"), Some(etag), "another response has another ETag");
    assert_eq!(app.subscription_if_none_match(&owner, etag).await.status, 304);
    assert_eq!(app.subscription_if_none_match(&member, etag).await.ok()["may_manage"], false);
    for (token, may) in [(&owner, true), (&member, false)] {
        let request = app.request(Method::GET, STREAM).bearer_auth(token);
        let mut stream = EventStream::open(request.header("Last-Event-ID", etag)).await;
        if may {
            assert_eq!(stream.next().await, crate::support::event_stream::StreamMessage::Heartbeat);
        } else {
            assert_eq!(stream.next_subscription().await["may_manage"], false);
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn every_member_can_manage_by_default() {
    let app = TestApp::start(Database::Sqlite).await;
    assert!(may_manage(&app, &app.token("acme")).await);
    app.stop().await;
}

#[tokio::test]
async fn manage_scope_is_required_alone_or_with_role() {
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

    let settings = [scope, ROLES, ("--jwt-scope", "billing:read")];
    let app = TestApp::start_with(Database::Sqlite, &settings).await;
    let with =
        |scope: &str, role: &str| app.token_with(&json!({ "tenant": "acme", "scope": scope, "roles": role }));
    assert!(may_manage(&app, &with("billing:read billing:manage", "billing admin")).await);
    assert!(!may_manage(&app, &with("billing:read billing:manage", "member")).await);
    assert!(!may_manage(&app, &with("billing:read", "owner")).await);
    app.subscription(&with("billing:manage", "owner")).await.assert_problem(403, "not_allowed");
    app.stop().await;
}

#[tokio::test]
async fn roles_are_read_from_configured_claim() {
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
        assert!(
            !may_manage(&app, &token(&app, &json!("owner"))).await,
            "{claim}: a role in another claim does not count"
        );
        app.stop().await;
    }
}

#[tokio::test]
async fn similar_role_name_does_not_match() {
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
async fn service_token_opens_no_portal_despite_role_and_scope() {
    let settings = [ROLES, ("--jwt-manage-scope", "billing:manage")];
    let app = TestApp::start_with(Database::Sqlite, &settings).await;
    app.check_out(
        &app.token_with(&json!({ "tenant": "acme", "roles": "owner", "scope": "billing:manage" })),
        &json!({}),
    )
    .await
    .ok();
    let service = app.token_with(
        &json!({ "tenant": "acme", "roles": "owner", "scope": "billing:manage billing:service" }),
    );
    app.open_portal(&service, &json!({})).await.assert_problem(403, "not_allowed");
    app.check_out(&service, &json!({})).await.assert_problem(403, "not_allowed");
    assert_eq!(app.tenant_subscription("acme", &service).await.ok()["may_manage"], false);
    app.stop().await;
}

#[tokio::test]
async fn owner_of_one_tenant_is_no_owner_in_another() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES]).await;
    assert!(may_manage(&app, &token(&app, &json!("owner"))).await);
    let in_birch = app.token_with(&json!({ "tenant": "birch", "sub": "of-acme", "roles": "member" }));
    assert!(!may_manage(&app, &in_birch).await);
    app.stop().await;
}

#[tokio::test]
async fn rejected_member_is_logged_counted_and_uses_no_quota() {
    let app = TestApp::start_with(Database::Sqlite, &[ROLES, ("--throttle-per-minute", "1")]).await;
    let member = token(&app, &json!("member"));
    for _ in 0..5 {
        app.open_portal(&member, &json!({})).await.assert_problem(403, "not_allowed");
        app.check_out(&member, &json!("nonsense")).await.assert_problem(403, "not_allowed");
    }
    let failure = app.wait_for_line("billing", |line| line["event"] == "portal.create.failure").await;
    assert_eq!(
        (&failure["outcome"], &failure["level"], &failure["tenant_id"], &failure["user_id"]),
        (&json!("not_allowed"), &json!("warn"), &json!("acme"), &json!("of-acme"))
    );
    let metrics = app.metrics().await;
    for expected in [
        r#"billhook_portal_sessions_total{outcome="not_allowed"} 5"#,
        r#"billhook_checkout_sessions_total{outcome="not_allowed"} 5"#,
    ] {
        assert!(metrics.lines().any(|line| line == expected), "{expected}");
    }
    app.check_out(&token(&app, &json!("owner")), &json!({})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn member_without_role_can_refresh_checkout() {
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
