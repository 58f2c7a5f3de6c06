//! What holds of every answer. The harness looks at each; here each kind is asked for.

use reqwest::Method;
use serde_json::Value;

use crate::support::app::TestApp;
use crate::support::database::Database;

const CONTRACT: &str = include_str!("../../../openapi/billhook.json");

#[tokio::test]
async fn whatever_is_asked_of_whatever_path_the_answer_is_protected_and_what_is_wrong_is_a_problem() {
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
                    // A stream does not end by itself; its own stories hold it to the rules.
                    continue;
                }
                let request = app.request(method.clone(), &path);
                let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
                let answer = app.call(request).await;
                let is_private =
                    path.starts_with("/api/") || path == "/readyz" || answer.status.as_u16() >= 400;
                assert!(
                    !is_private || answer.header("cache-control") == Some("no-store"),
                    "{path}: {answer:?}"
                );
                assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
                seen.insert(answer.status.as_u16());
            }
        }
    }
    let expected = [200, 400, 401, 403, 404, 405];
    assert!(expected.iter().all(|status| seen.contains(status)), "{seen:?}");
    app.stop().await;
}
