//! HTTPS, as the service speaks it itself.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::connections::http2;
use crate::connections::slow::drip;
use crate::streams::subscription_stream::{following, until_streams};
use crate::support::app::{TestApp, WEBHOOK_SECRET, eventually, stripe_event};
use crate::support::authority::{Authority, Files, Pair, address_of, shown};
use crate::support::event_stream::EventStream;
use crate::support::raw_http::{Raw, is_of_hyper};
use crate::webhooks::webhook_admission::{WEBHOOK, is_known};

/// A client that speaks the latest, and HTTP/1.
async fn connect(authority: &Authority, app: &TestApp) -> Raw {
    Raw::over(authority.connect(app, &[&TLS13], &[b"http/1.1"]).await)
}

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https_webhooks_are_taken_by_either_version_of_http_and_of_tls() {
    let authority = Authority::new();
    let app = TestApp::start_over_https(&authority, &Files::of(&authority.pair())).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let answer = app.deliver(&event).await;
    answer.ok();
    assert!(is_known(&app, &event).await);
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));

    for version in [&TLS12, &TLS13] {
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let stream = authority.connect(&app, &[version], &[protocol, b"other"]).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
            let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
            let body = event.to_string();
            let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
            let answer = if protocol == b"h2" {
                let requests = http2::speak_over(stream).await;
                let fields = [("stripe-signature", &*signature)];
                http2::ask(&requests, "POST", WEBHOOK, &fields, body.as_bytes()).await.expect("an answer")
            } else {
                let mut raw = Raw::over(stream);
                raw.send(format!(
                    "POST {WEBHOOK} HTTP/1.1\r\nHost: a\r\nStripe-Signature: {signature}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
                raw.answer().await.expect("an answer")
            };
            assert_eq!(answer.ok(), json!({ "received": true }));
            assert!(is_known(&app, &event).await);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_under_load_and_no_connection_is_dropped() {
    let authority = Authority::new();
    let files = Files::of(&authority.pair());
    let app = TestApp::start_over_https(&authority, &files).await;
    let mut open = connect(&authority, &app).await;
    let is_over = AtomicBool::new(false);

    let load = async {
        while !is_over.load(SeqCst) {
            let events = [0; 4].map(|_| stripe_event("invoice.upcoming", app.clock_seconds(), |_| {}));
            for answer in app.deliver_all(&events).await {
                answer.ok();
            }
        }
    };
    let replacing = async {
        let written = authority.pair();
        files.write(&written);
        until_shown(&authority, &app, &written).await;
        // As Kubernetes does it.
        let linked = authority.pair();
        let others = Files::of(&linked);
        files.link_to(&others);
        until_shown(&authority, &app, &linked).await;
        is_over.store(true, SeqCst);
    };
    join(load, replacing).await;
    open.send(GET).await;
    open.answer().await.expect("the connection was kept").ok();
    let metrics = app.metrics().await;
    for told in [
        "billhook_tls_certificate_reads_total{outcome=\"taken\"} 2",
        "billhook_tls_certificate_reads_total{outcome=\"refused\"} 0",
        "billhook_connections_ended_total{reason=\"no_tls\"} 0",
    ] {
        assert!(metrics.contains(told), "{told}: {metrics}");
    }
    app.stop().await;
}

/// Waits until whoever comes is shown the pair's certificate.
async fn until_shown(authority: &Authority, app: &TestApp, pair: &Pair) {
    let expected = rustls_pki_types::pem::PemObject::from_pem_slice(pair.certificate.as_bytes());
    let expected: rustls_pki_types::CertificateDer<'_> = expected.expect("a certificate");
    eventually("the new certificate is shown", || async {
        let stream = authority.connect(app, &[&TLS13], &[]).await;
        (shown(&stream) == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_does_not_fit_changes_nothing_and_is_told_once() {
    let authority = Authority::new();
    let first = authority.pair();
    let files = Files::of(&first);
    let app = TestApp::start_process_over_https(&authority, &files).await;
    let read = |outcome: &'static str, times: u32| {
        let app = &app;
        let counted = format!("billhook_tls_certificate_reads_total{{outcome=\"{outcome}\"}} {times}\n");
        eventually("the files are read", move || {
            let counted = counted.clone();
            async move { app.metrics().await.contains(&counted).then_some(()) }
        })
    };

    let second = authority.pair();
    files.write_certificate(&second);
    read("refused", 1).await;
    until_shown(&authority, &app, &first).await;
    // One that is over is none, either.
    files.write(&authority.pair_for("127.0.0.1", -1));
    read("refused", 2).await;
    until_shown(&authority, &app, &first).await;
    // Nor is one that is not good yet.
    files.write(&authority.pair_from_tomorrow());
    read("refused", 3).await;
    until_shown(&authority, &app, &first).await;
    files.write(&second);
    read("taken", 1).await;
    until_shown(&authority, &app, &second).await;

    let told = eventually("each refusal is printed", || async {
        Some(app.stderr()).filter(|printed| printed.matches("stays as it was").count() == 3)
    })
    .await;
    assert!(told.contains("the key's file holds the key of another certificate"), "{told}");

    // Whoever asks by a signal does not wait, and is told whatever comes of it.
    app.hang_up();
    read("taken", 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_over_or_not_good_yet_is_told_at_the_start_and_replaced_without_another() {
    let authority = Authority::new();
    for (pair, told) in [
        (authority.pair_for("127.0.0.1", -1), "the certificate is over"),
        (authority.pair_from_tomorrow(), "the certificate is not good yet"),
    ] {
        let files = Files::of(&pair);
        let app = TestApp::start_process_over_https(&authority, &files).await;
        assert!(app.stderr().contains(told), "{}", app.stderr());
        let new = authority.pair();
        files.write(&new);
        eventually("it is taken", || async { app.metrics().await.contains(ONE_TAKEN).then_some(()) }).await;
        until_shown(&authority, &app, &new).await;
        app.stop().await;
    }
}

const ONE_TAKEN: &str = "billhook_tls_certificate_reads_total{outcome=\"taken\"} 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_good_yet_is_taken_when_its_time_has_come() {
    let authority = Authority::new();
    let files = Files::of(&authority.pair());
    let app = TestApp::start_over_https(&authority, &files).await;
    files.write(&authority.pair_from_tomorrow());
    let refused = "billhook_tls_certificate_reads_total{outcome=\"refused\"} 1\n";
    eventually("it is refused", || async { app.metrics().await.contains(refused).then_some(()) }).await;
    app.clock.advance_seconds(2 * 24 * 60 * 60);
    eventually("it is taken", || async { app.metrics().await.contains(ONE_TAKEN).then_some(()) }).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_never_read_to_its_end_holds_up_no_stop() {
    let authority = Authority::new();
    let files = Files::of(&authority.pair());
    let mut app = TestApp::start_process_over_https(&authority, &files).await;
    // As on a mount that hangs: it can be opened, which the service does now, and nothing comes.
    let hanging = files.hang().await;
    app.interrupt();
    assert_eq!(app.exit_code().await, Some(0), "{}", app.stderr());
    drop(hanging);
}

/// A record of a handshake whose end never comes.
const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_waited_for_ten_seconds_and_no_longer() {
    let authority = Authority::new();
    let app = TestApp::start_over_https(&authority, &Files::of(&authority.pair())).await;
    let silent = [&[][..], &HALF_A_HELLO[..1], HALF_A_HELLO].map(|beginning| begin(&app, beginning, &[]));
    let dripping = begin(&app, HALF_A_HELLO, &[0]).boxed();
    join_all(silent.into_iter().map(FutureExt::boxed).chain([dripping])).await;
    let counted = "billhook_connections_ended_total{reason=\"silent\"} 4";
    eventually("they are counted", || async { app.metrics().await.contains(counted).then_some(()) }).await;
    app.stop().await;
}

/// Sends the beginning of a handshake, and drips more of it, until the connection is closed without a word.
async fn begin(app: &TestApp, beginning: &[u8], more: &[u8]) {
    let mut raw = Raw::over(TcpStream::connect(address_of(app)).await.expect("a connection"));
    raw.send(beginning).await;
    drip(&mut raw, more).await;
    raw.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_head_has_its_ten_seconds_its_one_reading_and_its_callers_end_is_heard() {
    let authority = Authority::new();
    let app = TestApp::start_over_https(&authority, &Files::of(&authority.pair())).await;
    let slow = async {
        let mut raw = connect(&authority, &app).await;
        raw.send("GET /healthz HTTP/1.1\r\nHost: a\r\nX: ").await;
        drip(&mut raw, b"a").await;
        raw.closed().await;
    };
    let ambiguous = async {
        let mut raw = connect(&authority, &app).await;
        let head =
            "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.send(format!("{head}0\r\n\r\n{GET}")).await;
        let answers = raw.answers().await;
        assert!(matches!(&answers[..], [one] if is_of_hyper(one)), "{answers:?}");
    };
    let stream = async {
        let stream = EventStream::open(following(&app, &app.token("acme"))).await;
        until_streams(&app, 1).await;
        drop(stream);
        until_streams(&app, 0).await;
    };
    join(slow, join(ambiguous, stream)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_http_where_https_is_spoken_is_told_and_who_only_looks_in_is_not_counted() {
    let authority = Authority::new();
    let app = TestApp::start_over_https(&authority, &Files::of(&authority.pair())).await;
    // As load balancers look whether somebody listens.
    drop(TcpStream::connect(address_of(&app)).await.expect("a connection"));

    let mut raw = Raw::over(TcpStream::connect(address_of(&app)).await.expect("a connection"));
    raw.send(GET).await;
    let told = raw.unruly_answer().await.expect("an answer");
    assert_eq!((told.status.as_u16(), told.header("connection")), (400, Some("close")));
    assert!(told.text.starts_with("HTTPS is spoken here"), "{}", told.text);
    raw.closed().await;

    // One that does not trust us.
    let stranger = Authority::new().client();
    let refused = stranger.get(format!("{}/healthz", app.url)).timeout(Duration::from_mins(1)).send().await;
    assert!(refused.expect_err("no trust").is_connect());
    let counted = "billhook_connections_ended_total{reason=\"no_tls\"} 2";
    eventually("both are counted", || async { app.metrics().await.contains(counted).then_some(()) }).await;
    app.get("/healthz").await.ok();
    assert!(app.metrics().await.contains(counted), "and nobody else");
    app.stop().await;
}
