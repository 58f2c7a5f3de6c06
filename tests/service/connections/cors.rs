//! Pages of other origins.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::answer::Answer;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM};

const PAGE: &str = "https://app.example.com";
const ALLOWED: (&str, &str) = ("--cors-origins", "https://other.example, https://APP.example.com:443");
const SUBSCRIPTION: &str = "/api/billing/subscription/";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

fn from(origin: &str, request: RequestBuilder) -> RequestBuilder {
    request.header("Origin", origin)
}

async fn preflight(app: &TestApp, origin: &str, path: &str) -> Answer {
    let request = from(origin, app.request(Method::OPTIONS, path));
    let request = request.header("Access-Control-Request-Method", "GET");
    app.call(request.header("Access-Control-Request-Headers", "authorization,last-event-id")).await
}

#[tokio::test]
async fn no_other_page_may_ask_unless_it_is_listed() {
    let app = TestApp::start(Database::Sqlite).await;
    let refused = preflight(&app, PAGE, SUBSCRIPTION).await;
    refused.assert_is(403, "not_allowed");
    assert!(refused.text.contains("BILLHOOK_CORS_ORIGINS"), "{}", refused.text);
    let asked =
        app.call(from(PAGE, app.request(Method::GET, SUBSCRIPTION)).bearer_auth(app.token("acme"))).await;
    asked.ok();
    for answer in [refused, asked] {
        assert_eq!(answer.header(ALLOW_ORIGIN), None, "a browser shows it to nobody");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_listed_page_is_told_what_it_may_send_and_read() {
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

    let get = || from(PAGE, app.request(Method::GET, SUBSCRIPTION));
    let read = app.call(get().bearer_auth(app.token("acme"))).await;
    read.ok();
    let refused = app.call(get()).await;
    refused.assert_is(401, "not_authenticated");
    for answer in [read, refused] {
        assert_eq!(answer.header(ALLOW_ORIGIN), Some(PAGE), "what goes wrong can be read too");
        assert_eq!(answer.header("access-control-expose-headers"), Some("etag, retry-after"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let stream = from(PAGE, app.request(Method::GET, STREAM)).bearer_auth(app.token("acme"));
    assert_eq!(EventStream::open(stream).await.header(ALLOW_ORIGIN), Some(PAGE));
    app.stop().await;
}

#[tokio::test]
async fn a_page_that_is_not_listed_is_refused_by_name_and_our_own_needs_no_listing() {
    let app = TestApp::start_with(Database::Sqlite, &[ALLOWED]).await;
    for stranger in
        ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"]
    {
        let refused = preflight(&app, stranger, SUBSCRIPTION).await;
        refused.assert_is(403, "not_allowed");
        assert!(refused.text.contains("BILLHOOK_CORS_ORIGINS"), "{}", refused.text);
        assert_eq!(refused.header(ALLOW_ORIGIN), None);
    }
    let portal = from(&app.url, app.request(Method::POST, "/api/billing/create-portal-session/"));
    let portal = app.call(portal.bearer_auth(app.token("acme"))).await;
    portal.assert_is(409, "no_customer");
    assert_eq!(portal.header(ALLOW_ORIGIN), None);
    assert_eq!(portal.header("vary"), Some("Origin"), "for a cache, another page's answer is another");
    app.stop().await;
}

#[tokio::test]
async fn refused_page_is_logged_once_a_minute() {
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    for _ in 0..3 {
        preflight(&app, PAGE, SUBSCRIPTION).await.assert_is(403, "not_allowed");
    }
    let logged = || app.stderr().matches("refused a page of another origin").count();
    eventually("the page is logged", || async { (logged() > 0).then_some(()) }).await;
    app.get("/healthz").await.ok();
    let stderr = app.stderr();
    assert_eq!(logged(), 1, "{stderr}");
    assert!(stderr.contains(PAGE) && stderr.contains("BILLHOOK_CORS_ORIGINS"), "{stderr}");
    app.stop().await;
}

#[tokio::test]
async fn neither_the_webhook_nor_what_is_for_operators_is_for_pages() {
    let app = TestApp::start_with(Database::Sqlite, &[ALLOWED]).await;
    for path in ["/api/billing/webhook/", "/api/billing/webhook"] {
        let refused = preflight(&app, PAGE, path).await;
        refused.assert_is(405, "method_not_allowed");
        assert_eq!(refused.header(ALLOW_ORIGIN), None);
        let posted = app.call(from(PAGE, app.request(Method::POST, path)).body(json!({}).to_string())).await;
        posted.assert_is(400, "invalid_signature");
        assert_eq!(posted.header(ALLOW_ORIGIN), None);
    }
    let of_any_tenant = "/api/billing/tenants/acme/subscription/";
    for (path, status, code) in
        [(of_any_tenant, 405, "method_not_allowed"), ("/api/billing/nothing/", 404, "not_found")]
    {
        let refused = preflight(&app, PAGE, path).await;
        refused.assert_is(status, code);
        let read = from(PAGE, app.request(Method::GET, path)).bearer_auth(app.service_token());
        let read = app.call(read).await;
        assert_eq!(read.status.as_u16(), if path == of_any_tenant { 200 } else { 404 });
        for answer in [refused, read] {
            assert_eq!(answer.header(ALLOW_ORIGIN), None, "{path}");
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        let read = app.call(from(PAGE, app.request(Method::GET, path))).await;
        assert_eq!((read.status.as_u16(), read.header(ALLOW_ORIGIN)), (200, None), "{path}");
    }
    app.stop().await;
}
