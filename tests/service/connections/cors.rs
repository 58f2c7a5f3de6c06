//! Cross-origin requests.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};

const PAGE: &str = "https://app.example.com";
const ALLOWED: (&str, &str) = ("--cors-origins", "https://other.example, https://APP.example.com:443");
const SUBSCRIPTION: &str = "/api/billing/subscription/";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

fn with_origin(origin: &str, request: RequestBuilder) -> RequestBuilder {
    request.header("Origin", origin)
}

async fn preflight(app: &TestApp, origin: &str, path: &str) -> ApiResponse {
    let request = with_origin(origin, app.request(Method::OPTIONS, path));
    let request = request.header("Access-Control-Request-Method", "GET");
    app.call(request.header("Access-Control-Request-Headers", "authorization,last-event-id")).await
}

#[tokio::test]
async fn cross_origin_page_is_rejected_by_default() {
    let app = TestApp::start(Database::Sqlite).await;
    let refused = preflight(&app, PAGE, SUBSCRIPTION).await;
    refused.assert_problem(403, "not_allowed");
    assert!(refused.text.contains("BILLHOOK_CORS_ORIGINS"), "{}", refused.text);
    let read = app
        .call(with_origin(PAGE, app.request(Method::GET, SUBSCRIPTION)).bearer_auth(app.token("acme")))
        .await;
    read.ok();
    for response in [refused, read] {
        assert_eq!(response.header(ALLOW_ORIGIN), None, "the browser hides the response from the page");
    }
    app.stop().await;
}

#[tokio::test]
async fn allowed_origin_gets_cors_headers() {
    let app = TestApp::start_with(Database::Sqlite, &[ALLOWED]).await;
    let allowed = preflight(&app, PAGE, SUBSCRIPTION).await;
    assert_eq!((allowed.status.as_u16(), allowed.text.as_str()), (204, ""));
    for (name, value) in [
        (ALLOW_ORIGIN, PAGE),
        ("access-control-allow-methods", "GET, POST"),
        (
            "access-control-allow-headers",
            "authorization, content-type, if-none-match, last-event-id, traceparent",
        ),
        ("access-control-max-age", "7200"),
        ("vary", "Origin"),
    ] {
        assert_eq!(allowed.header(name), Some(value), "{name}");
    }
    assert_eq!(allowed.header("access-control-allow-credentials"), None);

    let get = || with_origin(PAGE, app.request(Method::GET, SUBSCRIPTION));
    let read = app.call(get().bearer_auth(app.token("acme"))).await;
    read.ok();
    let refused = app.call(get()).await;
    refused.assert_problem(401, "not_authenticated");
    for response in [read, refused] {
        assert_eq!(response.header(ALLOW_ORIGIN), Some(PAGE), "the page can read errors, too");
        assert_eq!(response.header("access-control-expose-headers"), Some("etag, retry-after"));
        assert_eq!(response.header("vary"), Some("Origin"));
    }
    let stream = with_origin(PAGE, app.request(Method::GET, STREAM)).bearer_auth(app.token("acme"));
    assert_eq!(EventStream::open(stream).await.header(ALLOW_ORIGIN), Some(PAGE));
    app.stop().await;
}

#[tokio::test]
async fn unlisted_origin_is_rejected_and_same_origin_is_not() {
    let app = TestApp::start_with(Database::Sqlite, &[ALLOWED]).await;
    for origin in
        ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"]
    {
        let refused = preflight(&app, origin, SUBSCRIPTION).await;
        refused.assert_problem(403, "not_allowed");
        assert!(refused.text.contains("BILLHOOK_CORS_ORIGINS"), "{}", refused.text);
        assert_eq!(refused.header(ALLOW_ORIGIN), None);
    }
    let portal = with_origin(&app.url, app.request(Method::POST, "/api/billing/create-portal-session/"));
    let portal = app.call(portal.bearer_auth(app.token("acme"))).await;
    portal.assert_problem(409, "no_customer");
    assert_eq!(portal.header(ALLOW_ORIGIN), None);
    assert_eq!(portal.header("vary"), Some("Origin"), "caches must keep the responses apart by origin");
    app.stop().await;
}

#[tokio::test]
async fn rejected_origin_is_logged_once_a_minute() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    for _ in 0..3 {
        preflight(&app, PAGE, SUBSCRIPTION).await.assert_problem(403, "not_allowed");
    }
    let logged = || app.stderr().matches("rejected a page of another origin").count();
    eventually("the rejection is logged", || async { (logged() > 0).then_some(()) }).await;
    app.get("/healthz").await.ok();
    let stderr = app.stderr();
    assert_eq!(logged(), 1, "{stderr}");
    assert!(stderr.contains(PAGE) && stderr.contains("BILLHOOK_CORS_ORIGINS"), "{stderr}");
    app.stop().await;
}

#[tokio::test]
async fn webhook_and_operator_routes_have_no_cors() {
    let app = TestApp::start_with(Database::Sqlite, &[ALLOWED]).await;
    for path in ["/api/billing/webhook/", "/api/billing/webhook"] {
        let refused = preflight(&app, PAGE, path).await;
        refused.assert_problem(405, "method_not_allowed");
        assert_eq!(refused.header(ALLOW_ORIGIN), None);
        let posted =
            app.call(with_origin(PAGE, app.request(Method::POST, path)).body(json!({}).to_string())).await;
        posted.assert_problem(400, "invalid_signature");
        assert_eq!(posted.header(ALLOW_ORIGIN), None);
    }
    let tenant_path = "/api/billing/tenants/acme/subscription/";
    for (path, status, code) in
        [(tenant_path, 405, "method_not_allowed"), ("/api/billing/nothing/", 404, "not_found")]
    {
        let refused = preflight(&app, PAGE, path).await;
        refused.assert_problem(status, code);
        let read = with_origin(PAGE, app.request(Method::GET, path)).bearer_auth(app.service_token());
        let read = app.call(read).await;
        assert_eq!(read.status.as_u16(), if path == tenant_path { 200 } else { 404 });
        for response in [refused, read] {
            assert_eq!(response.header(ALLOW_ORIGIN), None, "{path}");
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        let read = app.call(with_origin(PAGE, app.request(Method::GET, path))).await;
        assert_eq!((read.status.as_u16(), read.header(ALLOW_ORIGIN)), (200, None), "{path}");
    }
    app.stop().await;
}
