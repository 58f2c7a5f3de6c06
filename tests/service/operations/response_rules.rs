//! The rules for every response. The harness checks each response; here requests of every kind are
//! sent.

use reqwest::Method;
use serde_json::Value;

use crate::support::app::TestApp;
use crate::support::database::Database;

const CONTRACT: &str = include_str!("../../../openapi/billhook.json");

#[tokio::test]
async fn every_response_has_security_headers_and_errors_are_problems() {
    let app = TestApp::start(Database::Sqlite).await;
    let contract: Value = serde_json::from_str(CONTRACT).expect("JSON");
    let paths = contract["paths"].as_object().expect("paths").keys();
    let paths = paths.map(|path| path.replace("{tenant}", "acme").replace("{session_id}", "cs_test_1"));
    let others =
        ["/", "/docs", "/openapi.json", "/nowhere", "/api", "/api/billing/webhook/x", "/%00", "/..%2f"];
    let mut seen = std::collections::BTreeSet::new();
    for path in paths.chain(others.map(str::to_owned)) {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            for token in [None, Some(app.token("acme")), Some(app.service_token())] {
                if path.ends_with("/events/") && method == Method::GET && token.is_some() {
                    // A stream does not end by itself. Its own tests check the rules.
                    continue;
                }
                let request = app.request(method.clone(), &path);
                let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
                let response = app.call(request).await;
                let is_private =
                    path.starts_with("/api/") || path == "/readyz" || response.status.as_u16() >= 400;
                assert!(
                    !is_private || response.header("cache-control") == Some("no-store"),
                    "{path}: {response:?}"
                );
                assert_eq!(response.header("access-control-allow-origin"), None, "{path}");
                seen.insert(response.status.as_u16());
            }
        }
    }
    let expected = [200, 400, 401, 403, 404, 405];
    assert!(expected.iter().all(|status| seen.contains(status)), "{seen:?}");
    app.stop().await;
}
