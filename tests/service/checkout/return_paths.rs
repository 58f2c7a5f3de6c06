//! Return URLs: whatever path the client sends, Stripe returns the browser to the app.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::support::app::{APP_URL, TestApp};
use crate::support::database::Database;

pub const PORTAL: &str = "/api/billing/create-portal-session/";
pub const CHECKOUT: &str = "/api/billing/create-checkout-session/";

/// Another host, in every notation that some parser has read as one. `@@` stands for the host.
const DISGUISES: &str = r"
    //@@ ///@@ ////@@ /\@@ \/@@ \\@@ /\/@@ //\@@ /\\@@ https://@@ https:@@ https:/@@ http://@@ HTTPS://@@ ftp://@@
    javascript:alert(1)//@@ data:text/html,@@ vbscript:@@ @@ .@@ :80@@ ?//@@ #//@@ ;//@@ //[::ffff:192.0.2.1]/@@
    //0xC0000201/@@ //3221225985/@@ //@@%40 //app.example.com%40@@ //@@#app.example.com //@@?app.example.com
    /%2f@@ /%2F%2F@@ %2f%2f@@ /%5c@@ /%5C%5C@@ /%252f%252f@@ /%09/@@ /%0a/@@ /%0d%0a/@@ /%00/@@ /%20/@@ /..%2f..%2f@@
    /&#47;@@ /..//@@ /../..//@@ /./@@ /.//@@ /a/../../@@ /;//@@ /?next=//@@ /#//@@ /http://@@ /https:@@ /:80@@ /@@
    /%40@@ /{CHECKOUT_SESSION_ID}//@@";

/// Characters that some parsers drop or ignore.
const DROPPED: &str =
    "\t\n\r \0\u{b}\u{c}\u{1b}\u{7f}\u{85}\u{a0}\u{ad}\u{200b}\u{200d}\u{2028}\u{202e}\u{3000}\u{feff}";

/// Characters that normalize to a slash, backslash, dot, colon or at sign.
const LOOKALIKES: &str = "\u{ff0f}\u{2044}\u{2215}\u{29f8}\u{ff3c}\u{2216}\u{3002}\u{ff0e}\u{ff1a}\u{ff20}";

fn disguises() -> Vec<String> {
    let host = "evil.example";
    let written = DISGUISES.split_whitespace().map(|disguise| disguise.replace("@@", host));
    let users = ["/@", "@", ":@", "//app.example.com@", "//app.example.com:443@", "/user:pass@"];
    let users = users.map(|user| format!("{user}{host}"));
    let dropped = DROPPED.chars().flat_map(|c| {
        [format!("/{c}/{host}"), format!("{c}//{host}"), format!("/{c}\\{host}"), format!("//{host}{c}")]
    });
    let lookalikes = LOOKALIKES.chars().flat_map(|c| [format!("/{c}{host}"), format!("{c}{c}{host}")]);
    let long = ["/".repeat(1025), format!("/{}", "a".repeat(1024)), format!("/{}//{host}", "a/".repeat(500))];
    written.chain(users).chain(dropped).chain(lookalikes).chain(long).chain([String::new()]).collect()
}

#[tokio::test]
async fn disguised_return_path_leads_to_app_or_is_rejected() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "6000")]).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for (route, field, param) in [
        (PORTAL, "return_path", "return_url"),
        (CHECKOUT, "success_path", "success_url"),
        (CHECKOUT, "cancel_path", "cancel_url"),
    ] {
        let before = sent(&app, route).await.len();
        let (mut accepted, mut rejected) = (Vec::new(), 0);
        for path in disguises() {
            let response = app.post(route, &token, &json!({ field: path })).await;
            if response.status == 200 {
                accepted.push(path);
            } else {
                rejected += 1;
                response.assert_problem(400, "invalid_request");
                assert!(
                    !response.text.contains("evil"),
                    "the response does not repeat the path: {}",
                    response.text
                );
            }
        }
        assert!(accepted.len() > 20 && rejected > 100, "{} accepted, {rejected} rejected", accepted.len());
        let sent = sent(&app, route).await.split_off(before);
        assert_eq!(sent.len(), accepted.len(), "Stripe gets no rejected path");
        for (request, path) in sent.iter().zip(&accepted) {
            assert_leads_to_app(request["params"][param].as_str().expect("a URL"), path);
        }
    }
    app.stop().await;
}

/// The value that is checked is the one that is sent.
#[tokio::test]
async fn duplicate_return_path_is_checked_as_sent() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({})).await.ok();
    for (body, is_accepted) in [
        (r#"{"return_path":"/good","return_path":"//evil.example"}"#, false),
        (r#"{"return_path":"//evil.example","return_path":"/good"}"#, true),
        (r#"{"return_path":"/good","return\u005fpath":"//evil.example"}"#, false),
    ] {
        let request = app.request(Method::POST, PORTAL).bearer_auth(&token);
        let response = app.call(request.header("Content-Type", "application/json").body(body)).await;
        if response.status == 200 {
            assert!(is_accepted, "{body}");
            let sent = sent(&app, PORTAL).await;
            assert_eq!(sent.last().expect("a session")["params"]["return_url"], format!("{APP_URL}/good"));
        } else {
            response.assert_problem(400, "invalid_request");
        }
    }
    app.stop().await;
}

/// The requests that Stripe got for this route.
pub async fn sent(app: &TestApp, route: &str) -> Vec<Value> {
    let sessions = if route == PORTAL { "/v1/billing_portal/sessions" } else { "/v1/checkout/sessions" };
    app.stripe.requests_to("POST", sessions).await
}

/// Parses the URL as browsers do (<https://url.spec.whatwg.org>).
fn assert_leads_to_app(url: &str, path: &str) {
    let read = Url::parse(url).unwrap_or_else(|error| panic!("{path:?} became {url:?}: {error}"));
    let app = Url::parse(APP_URL).expect("a URL");
    assert_eq!(read.origin(), app.origin(), "{path:?} became {url:?}");
    assert_eq!((read.username(), read.password()), ("", None), "{path:?} became {url:?}");
    // It also leads to the app for a parser that compares only the prefix or resolves the path
    // against the app's URL.
    assert_eq!(url.strip_prefix(APP_URL).and_then(|rest| rest.chars().next()), Some('/'), "{url:?}");
    let joined = app.join(&url[APP_URL.len()..]).expect("a URL");
    assert_eq!(joined.origin(), app.origin(), "{path:?} became {url:?}");
}
