//! HTTPS served by Billhook itself: versions, reloads of the certificate, limits, plain HTTP on the
//! port.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::connections::http2;
use crate::connections::slow_clients::drip;
use crate::streams::subscription_stream::{stream_request, wait_for_stream_count};
use crate::support::app::{TestApp, WEBHOOK_SECRET, eventually, stripe_event};
use crate::support::certificate_authority::{
    CertificateAndKey, CertificateAuthority, CertificateFiles, address_of, server_certificate,
};
use crate::support::event_stream::EventStream;
use crate::support::raw_http::{RawConnection, is_from_hyper};
use crate::webhooks::webhook_admission::{WEBHOOK, is_in_inbox};

/// Connects with TLS 1.3 and HTTP/1.1.
async fn connect(authority: &CertificateAuthority, app: &TestApp) -> RawConnection {
    RawConnection::over(authority.connect(app, &[&TLS13], &[b"http/1.1"]).await)
}

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_accepts_webhooks_over_each_http_and_tls_version() {
    let authority = CertificateAuthority::new();
    let app = TestApp::start_over_https(&authority, &CertificateFiles::new(&authority.issue())).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let response = app.deliver(&event).await;
    response.ok();
    assert!(is_in_inbox(&app, &event).await);
    assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"));

    for version in [&TLS12, &TLS13] {
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let stream = authority.connect(&app, &[version], &[protocol, b"other"]).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
            let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
            let body = event.to_string();
            let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
            let response = if protocol == b"h2" {
                let requests = http2::handshake_over(stream).await;
                let fields = [("stripe-signature", &*signature)];
                http2::send(&requests, "POST", WEBHOOK, &fields, body.as_bytes()).await.expect("a response")
            } else {
                let mut raw = RawConnection::over(stream);
                raw.send(format!(
                    "POST {WEBHOOK} HTTP/1.1\r\nHost: a\r\nStripe-Signature: {signature}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
                raw.response().await.expect("a response")
            };
            assert_eq!(response.ok(), json!({ "received": true }));
            assert!(is_in_inbox(&app, &event).await);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_reload_under_load_drops_no_connection() {
    let authority = CertificateAuthority::new();
    let files = CertificateFiles::new(&authority.issue());
    let app = TestApp::start_over_https(&authority, &files).await;
    let mut open = connect(&authority, &app).await;
    let is_replaced = AtomicBool::new(false);

    let load = async {
        while !is_replaced.load(SeqCst) {
            let events = [0; 4].map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {}));
            for response in app.deliver_all(&events).await {
                response.ok();
            }
        }
    };
    let replacing = async {
        let second = authority.issue();
        files.write(&second);
        wait_for_certificate(&authority, &app, &second).await;
        // Kubernetes replaces the files by links.
        let third = authority.issue();
        let others = CertificateFiles::new(&third);
        files.replace_with_links_to(&others);
        wait_for_certificate(&authority, &app, &third).await;
        is_replaced.store(true, SeqCst);
    };
    join(load, replacing).await;
    open.send(GET).await;
    open.response().await.expect("the connection was kept").ok();
    let metrics = app.metrics().await;
    for line in [
        "billhook_tls_certificate_reads_total{outcome=\"taken\"} 2",
        "billhook_tls_certificate_reads_total{outcome=\"refused\"} 0",
        "billhook_connections_ended_total{reason=\"no_tls\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    app.stop().await;
}

/// Waits until new connections get the pair's certificate.
async fn wait_for_certificate(authority: &CertificateAuthority, app: &TestApp, pair: &CertificateAndKey) {
    let expected = rustls_pki_types::pem::PemObject::from_pem_slice(pair.certificate.as_bytes());
    let expected: rustls_pki_types::CertificateDer<'_> = expected.expect("a certificate");
    eventually("the new certificate is served", || async {
        let stream = authority.connect(app, &[&TLS13], &[]).await;
        (server_certificate(&stream) == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_certificate_is_not_loaded_and_logged_once() {
    let authority = CertificateAuthority::new();
    let first = authority.issue();
    let files = CertificateFiles::new(&first);
    let app = TestApp::start_process_over_https(&authority, &files).await;
    let read = |outcome: &'static str, times: u32| {
        let app = &app;
        let counted = format!("billhook_tls_certificate_reads_total{{outcome=\"{outcome}\"}} {times}\n");
        eventually("the files are read", move || {
            let counted = counted.clone();
            async move { app.metrics().await.contains(&counted).then_some(()) }
        })
    };

    let second = authority.issue();
    files.write_certificate(&second);
    read("refused", 1).await;
    wait_for_certificate(&authority, &app, &first).await;
    // An expired certificate is rejected, too.
    files.write(&authority.issue_for("127.0.0.1", -1));
    read("refused", 2).await;
    wait_for_certificate(&authority, &app, &first).await;
    // So is one that is not valid yet.
    files.write(&authority.issue_valid_from_tomorrow());
    read("refused", 3).await;
    wait_for_certificate(&authority, &app, &first).await;
    files.write(&second);
    read("taken", 1).await;
    wait_for_certificate(&authority, &app, &second).await;

    let stderr = eventually("each rejection is logged", || async {
        Some(app.stderr()).filter(|printed| printed.matches("keeping the old one").count() == 3)
    })
    .await;
    assert!(stderr.contains("the key file contains the key of another certificate"), "{stderr}");

    // A SIGHUP reloads at once, and is counted even if the files have not changed.
    app.send_sighup();
    read("taken", 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_certificate_at_start_is_logged_and_replaced() {
    let authority = CertificateAuthority::new();
    for (pair, warning) in [
        (authority.issue_for("127.0.0.1", -1), "the certificate has expired"),
        (authority.issue_valid_from_tomorrow(), "the certificate is not valid yet"),
    ] {
        let files = CertificateFiles::new(&pair);
        let app = TestApp::start_process_over_https(&authority, &files).await;
        assert!(app.stderr().contains(warning), "{}", app.stderr());
        let new = authority.issue();
        files.write(&new);
        eventually("the new certificate is loaded", || async {
            app.metrics().await.contains(ONE_TAKEN).then_some(())
        })
        .await;
        wait_for_certificate(&authority, &app, &new).await;
        app.stop().await;
    }
}

const ONE_TAKEN: &str = "billhook_tls_certificate_reads_total{outcome=\"taken\"} 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn future_certificate_is_loaded_when_it_becomes_valid() {
    let authority = CertificateAuthority::new();
    let files = CertificateFiles::new(&authority.issue());
    let app = TestApp::start_over_https(&authority, &files).await;
    files.write(&authority.issue_valid_from_tomorrow());
    let refused = "billhook_tls_certificate_reads_total{outcome=\"refused\"} 1\n";
    eventually("it is rejected", || async { app.metrics().await.contains(refused).then_some(()) }).await;
    app.clock.advance_seconds(2 * 24 * 60 * 60);
    eventually("it is loaded", || async { app.metrics().await.contains(ONE_TAKEN).then_some(()) }).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_certificate_file_does_not_delay_shutdown() {
    let authority = CertificateAuthority::new();
    let files = CertificateFiles::new(&authority.issue());
    let mut app = TestApp::start_process_over_https(&authority, &files).await;
    // As on a hanging mount: the service opens the file now, and reading it never ends.
    let hanging = files.block_reads().await;
    app.send_sigint();
    assert_eq!(app.exit_code().await, Some(0), "{}", app.stderr());
    drop(hanging);
}

/// An incomplete TLS record with a ClientHello.
const HALF_CLIENT_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn unfinished_handshake_is_closed_after_10_seconds() {
    let authority = CertificateAuthority::new();
    let app = TestApp::start_over_https(&authority, &CertificateFiles::new(&authority.issue())).await;
    let silent =
        [&[][..], &HALF_CLIENT_HELLO[..1], HALF_CLIENT_HELLO].map(|start| send_handshake(&app, start, &[]));
    let dripping = send_handshake(&app, HALF_CLIENT_HELLO, &[0]).boxed();
    join_all(silent.into_iter().map(FutureExt::boxed).chain([dripping])).await;
    let counted = "billhook_connections_ended_total{reason=\"silent\"} 4";
    eventually("the connections are counted", || async {
        app.metrics().await.contains(counted).then_some(())
    })
    .await;
    app.stop().await;
}

/// Sends the start of a handshake and drips more of it, until the service closes the connection
/// without a response.
async fn send_handshake(app: &TestApp, start: &[u8], more: &[u8]) {
    let mut raw = RawConnection::over(TcpStream::connect(address_of(app)).await.expect("a connection"));
    raw.send(start).await;
    drip(&mut raw, more).await;
    raw.assert_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_connections_have_the_same_limits_as_plain_ones() {
    let authority = CertificateAuthority::new();
    let app = TestApp::start_over_https(&authority, &CertificateFiles::new(&authority.issue())).await;
    let slow = async {
        let mut raw = connect(&authority, &app).await;
        raw.send("GET /healthz HTTP/1.1\r\nHost: a\r\nX: ").await;
        drip(&mut raw, b"a").await;
        raw.assert_closed().await;
    };
    let ambiguous = async {
        let mut raw = connect(&authority, &app).await;
        let head =
            "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.send(format!("{head}0\r\n\r\n{GET}")).await;
        let responses = raw.responses().await;
        assert!(matches!(&responses[..], [one] if is_from_hyper(one)), "{responses:?}");
    };
    let stream = async {
        let stream = EventStream::open(stream_request(&app, &app.token("acme"))).await;
        wait_for_stream_count(&app, 1).await;
        drop(stream);
        wait_for_stream_count(&app, 0).await;
    };
    join(slow, join(ambiguous, stream)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_on_https_port_gets_400_and_probe_is_not_counted() {
    let authority = CertificateAuthority::new();
    let app = TestApp::start_over_https(&authority, &CertificateFiles::new(&authority.issue())).await;
    // Connect and close, as load balancers probe a port.
    drop(TcpStream::connect(address_of(&app)).await.expect("a connection"));

    let mut raw = RawConnection::over(TcpStream::connect(address_of(&app)).await.expect("a connection"));
    raw.send(GET).await;
    let response = raw.unchecked_response().await.expect("a response");
    assert_eq!((response.status.as_u16(), response.header("connection")), (400, Some("close")));
    assert!(response.text.starts_with("This port serves HTTPS only"), "{}", response.text);
    raw.assert_closed().await;

    // A client that does not trust the certificate.
    let untrusting_client = CertificateAuthority::new().client();
    let refused =
        untrusting_client.get(format!("{}/healthz", app.url)).timeout(Duration::from_mins(1)).send().await;
    assert!(refused.expect_err("the certificate is not trusted").is_connect());
    let counted = "billhook_connections_ended_total{reason=\"no_tls\"} 2";
    eventually("both are counted", || async { app.metrics().await.contains(counted).then_some(()) }).await;
    app.get("/healthz").await.ok();
    assert!(app.metrics().await.contains(counted), "no other connection is counted");
    app.stop().await;
}
