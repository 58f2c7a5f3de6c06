//! Serving a built page beside the API.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use reqwest::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::answer::Answer;
use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;

const INDEX: &str = "<!doctype html><title>The page</title>";
const SCRIPT: &str = "/assets/index-CWOGpXpt.js";
const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A page as a bundler leaves it, beside something that is nobody's business.
fn built() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, text).expect("written");
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

async fn serving(page: &Path) -> TestApp {
    let page = page.join("page");
    TestApp::start_with(Database::Sqlite, &[("--static-dir", page.to_str().expect("a path"))]).await
}

async fn browse(app: &TestApp, path: &str) -> Answer {
    app.call(app.request(Method::GET, path).header("Accept", BROWSER)).await
}

#[tokio::test]
async fn the_page_is_served_with_what_keeps_it_safe() {
    let (page, mut app) = (built(), TestApp::start(Database::Sqlite).await);
    browse(&app, "/").await.assert_is(404, "not_found");
    app.go_down().await;
    app.come_back_with("--static-dir", page.path().join("page").to_str().expect("a path")).await;

    for path in ["/", "/index.html", "/billing", "/billing/", "/any/where?a=b"] {
        let answer = browse(&app, path).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, INDEX), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        let is_a_file = ["/", "/index.html"].contains(&path);
        assert_eq!(answer.header("vary"), (!is_a_file).then_some("Accept"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(answer.header("permissions-policy").is_some_and(|policy| policy.contains("camera=()")));
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
async fn what_a_client_has_is_not_sent_again_and_a_head_has_no_body() {
    let page = built();
    let app = serving(page.path()).await;
    let index = app.get("/").await;
    let etag = index.header("etag").expect("an ETag").to_owned();
    let again = app.call(app.request(Method::GET, "/").header("If-None-Match", &etag)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(etag.as_str()));
    let of_a_path = app.request(Method::GET, "/billing").header("Accept", BROWSER);
    let again = app.call(of_a_path.header("If-None-Match", &etag)).await;
    assert_eq!((again.status.as_u16(), again.header("vary")), (304, Some("Accept")));
    let head = app.call(app.request(Method::HEAD, "/")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    for name in ["etag", "content-type", "content-length", "cache-control"] {
        assert_eq!(head.header(name), index.header(name), "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_api_and_its_page_stay_what_they_are() {
    let page = built();
    let app = serving(page.path()).await;
    for path in
        ["/api", "/api/", "/api/billing/nothing/", "/api/billing/subscription/nothing/", "/api/x.html"]
    {
        browse(&app, path).await.assert_is(404, "not_found");
    }
    browse(&app, "/api/billing/subscription/").await.assert_is(401, "not_authenticated");
    browse(&app, "/api/billing/webhook/").await.assert_is(405, "method_not_allowed");
    assert_eq!(browse(&app, "/healthz").await.ok()["status"], "alive");
    assert!(browse(&app, "/openapi.json").await.ok()["openapi"].is_string());
    let docs = browse(&app, "/docs").await;
    assert!(docs.text.contains("SwaggerUIBundle"));
    let policy = docs.header("content-security-policy").expect("a policy of its own");
    assert!(
        policy.contains("script-src 'unsafe-inline'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );

    let nothing = app.get("/nothing.js").await;
    nothing.assert_is(404, "not_found");
    assert_eq!(nothing.header("vary"), Some("Accept"), "a browser would get the page");
    app.get("/assets").await.assert_is(404, "not_found");
    app.call(app.request(Method::POST, "/").header("Accept", BROWSER)).await.assert_is(404, "not_found");
    app.stop().await;
}

#[tokio::test]
async fn only_what_is_the_pages_own_is_served() {
    let page = built();
    let app = serving(page.path()).await;
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
        let answer = as_written(&app, path).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(!answer.contains("canary"), "{path}: {answer}");
    }
    fs::write(page.path().join("page/later.txt"), "canary").expect("written");
    app.get("/later.txt").await.assert_is(404, "not_found");
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_told_at_the_start() {
    let page = built();
    let directory = page.path().join("page");
    let serves = [("--static-dir", directory.to_str().expect("a path"))];
    let app = TestApp::start_process_with(Database::Sqlite, &serves, &[]).await;
    let told = app.stderr();
    for skipped in ["/link.txt: it is a link", "/up: it is a link", "/.env: its name is not plain"] {
        assert!(told.contains(&format!("a file of BILLHOOK_STATIC_DIR is not served: {skipped}")), "{told}");
    }
    app.stop().await;
}

/// Asks for a path that no client library would leave as it is.
async fn as_written(app: &TestApp, path: &str) -> String {
    let address = app.url.strip_prefix("http://").expect("an address");
    let mut connection = TcpStream::connect(address).await.expect("the service listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn all_its_files_are_one_route() {
    let page = built();
    let app = serving(page.path()).await;
    for path in ["/", SCRIPT, "/billing"] {
        browse(&app, path).await;
    }
    let line = r#"billhook_http_request_duration_seconds_count{method="GET",route="/*",status="200"} 3"#;
    eventually("they are counted", || async { app.metrics().await.contains(line).then_some(()) }).await;
    app.stop().await;
}
