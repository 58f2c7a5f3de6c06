//! `BILLHOOK_STATIC_DIR`: serves a built page next to the API.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use reqwest::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;

const INDEX: &str = "<!doctype html><title>The page</title>";
const SCRIPT: &str = "/assets/index-CWOGpXpt.js";
const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A bundler's output in `page/`, with files in and around it that must not be served.
fn built_page() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, text).expect("the file is written");
    };
    write("secret.txt", "canary");
    write("page/index.html", INDEX);
    write("page/icon.svg", "<svg/>");
    write(&format!("page{SCRIPT}"), "run()");
    write("page/.env", "canary");
    write("page/.git/config", "canary");
    write("page/odd name.txt", "canary");
    symlink(dir.path().join("secret.txt"), dir.path().join("page/link.txt")).expect("a link");
    symlink(dir.path(), dir.path().join("page/up")).expect("a link");
    dir
}

async fn start_with_page(dir: &Path) -> TestApp {
    let page = dir.join("page");
    TestApp::start_with(Database::Sqlite, &[("--static-dir", page.to_str().expect("a path"))]).await
}

async fn browse(app: &TestApp, path: &str) -> ApiResponse {
    app.call(app.request(Method::GET, path).header("Accept", BROWSER)).await
}

#[tokio::test]
async fn page_is_served_with_security_headers() {
    let (page, mut app) = (built_page(), TestApp::start(Database::Sqlite).await);
    browse(&app, "/").await.assert_problem(404, "not_found");
    app.stop_service().await;
    app.start_service_with("--static-dir", page.path().join("page").to_str().expect("a path")).await;

    for path in ["/", "/index.html", "/billing", "/billing/", "/any/where?a=b"] {
        let response = browse(&app, path).await;
        assert_eq!((response.status.as_u16(), response.text.as_str()), (200, INDEX), "{path}");
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(response.header("cache-control"), Some("no-cache"));
        let is_a_file = ["/", "/index.html"].contains(&path);
        assert_eq!(response.header("vary"), (!is_a_file).then_some("Accept"), "{path}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
        let policy = response.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(response.header("permissions-policy").is_some_and(|policy| policy.contains("camera=()")));
    }
    let script = app.get(SCRIPT).await;
    assert_eq!(script.text, "run()");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let icon = app.get("/icon.svg").await;
    assert_eq!(
        (icon.header("content-type"), icon.header("cache-control")),
        (Some("image/svg+xml"), Some("no-cache"))
    );
    app.stop().await;
}

#[tokio::test]
async fn matching_etag_returns_304_and_head_has_no_body() {
    let page = built_page();
    let app = start_with_page(page.path()).await;
    let index = app.get("/").await;
    let etag = index.header("etag").expect("an ETag").to_owned();
    let again = app.call(app.request(Method::GET, "/").header("If-None-Match", &etag)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(etag.as_str()));
    let other_path = app.request(Method::GET, "/billing").header("Accept", BROWSER);
    let again = app.call(other_path.header("If-None-Match", &etag)).await;
    assert_eq!((again.status.as_u16(), again.header("vary")), (304, Some("Accept")));
    let head = app.call(app.request(Method::HEAD, "/")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    for name in ["etag", "content-type", "content-length", "cache-control"] {
        assert_eq!(head.header(name), index.header(name), "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn static_page_does_not_shadow_the_api() {
    let page = built_page();
    let app = start_with_page(page.path()).await;
    for path in
        ["/api", "/api/", "/api/billing/nothing/", "/api/billing/subscription/nothing/", "/api/x.html"]
    {
        browse(&app, path).await.assert_problem(404, "not_found");
    }
    browse(&app, "/api/billing/subscription/").await.assert_problem(401, "not_authenticated");
    browse(&app, "/api/billing/webhook/").await.assert_problem(405, "method_not_allowed");
    assert_eq!(browse(&app, "/healthz").await.ok()["status"], "alive");
    assert!(browse(&app, "/openapi.json").await.ok()["openapi"].is_string());
    let docs = browse(&app, "/docs").await;
    assert!(docs.text.contains("SwaggerUIBundle"));
    let policy = docs.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains("script-src 'unsafe-inline'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );

    let nothing = app.get("/nothing.js").await;
    nothing.assert_problem(404, "not_found");
    assert_eq!(nothing.header("vary"), Some("Accept"), "a browser gets the page here");
    app.get("/assets").await.assert_problem(404, "not_found");
    app.call(app.request(Method::POST, "/").header("Accept", BROWSER)).await.assert_problem(404, "not_found");
    app.stop().await;
}

#[tokio::test]
async fn hidden_linked_and_outside_files_are_not_served() {
    let page = built_page();
    let app = start_with_page(page.path()).await;
    for path in [
        "/.env",
        "/.git/config",
        "/link.txt",
        "/up/secret.txt",
        "/odd%20name.txt",
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..\\..\\secret.txt",
        "/index.html%00",
    ] {
        let response = get_raw_path(&app, path).await;
        assert!(response.starts_with("HTTP/1.1 4"), "{path}: {response}");
        assert!(!response.contains("canary"), "{path}: {response}");
    }
    fs::write(page.path().join("page/later.txt"), "canary").expect("the file is written");
    app.get("/later.txt").await.assert_problem(404, "not_found");
    app.stop().await;
}

#[tokio::test]
async fn skipped_files_are_logged_at_start() {
    let page = built_page();
    let directory = page.path().join("page");
    let serves = [("--static-dir", directory.to_str().expect("a path"))];
    let app = TestApp::start_process_with(Database::Sqlite, &serves, &[]).await;
    let stderr = app.stderr();
    for skipped in ["/link.txt: a link", "/up: a link", "/.env: hidden"] {
        assert!(stderr.contains(&format!("skipped a file of BILLHOOK_STATIC_DIR: {skipped}")), "{stderr}");
    }
    app.stop().await;
}

/// Requests a path that client libraries would normalize.
async fn get_raw_path(app: &TestApp, path: &str) -> String {
    let address = app.url.strip_prefix("http://").expect("an address");
    let mut connection = TcpStream::connect(address).await.expect("the service listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut response = String::new();
    connection.read_to_string(&mut response).await.expect("a response");
    response
}

#[tokio::test]
async fn static_files_are_one_route_in_metrics() {
    let page = built_page();
    let app = start_with_page(page.path()).await;
    for path in ["/", SCRIPT, "/billing"] {
        browse(&app, path).await;
    }
    let line = r#"billhook_http_request_duration_seconds_count{method="GET",route="/*",status="200"} 3"#;
    eventually("the requests are counted", || async { app.metrics().await.contains(line).then_some(()) })
        .await;
    app.stop().await;
}
