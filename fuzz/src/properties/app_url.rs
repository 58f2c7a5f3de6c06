//! The app's URL, its origin and return paths. They are compared with the `url` crate's parser,
//! which follows the WHATWG URL Standard as browsers do.

use std::sync::LazyLock;

use url::{Position, Url};

use crate::domain::app_url::{AppUrl, Origin, ReturnPath};

static APPS: LazyLock<Vec<(Url, AppUrl)>> = LazyLock::new(|| {
    let apps = [
        "https://app.example.com",
        "https://shared.example.com/acme",
        "http://localhost:5173/",
        "http://[::1]:8080/app/",
        "https://192.0.2.1",
    ];
    let read = |app| (Url::parse(app).expect("a URL"), AppUrl::parse(app).expect("an app URL"));
    apps.into_iter().map(read).collect()
});

const MAX_PATH_LENGTH: usize = 1024;

/// Random bytes as a return path, joined to one of the apps.
pub fn return_path(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (url, app) = &APPS[text.len() % APPS.len()];
    match ReturnPath::parse(text) {
        Ok(path) => {
            assert_eq!(path.as_str(), text);
            assert!(text.len() <= MAX_PATH_LENGTH && text.bytes().all(|b| b.is_ascii_graphic()), "{text:?}");
            assert_in_app(url, app, &path);
        }
        Err(_) => assert!(!is_plain_path(url, text), "{text:?} is refused without reason"),
    }
}

fn assert_in_app(url: &Url, app: &AppUrl, path: &ReturnPath) {
    let joined = app.join(path);
    let target = Url::parse(&joined).expect("a URL");
    assert_eq!(target.origin(), url.origin(), "{joined:?}");
    assert_eq!((target.username(), target.password()), ("", None), "{joined:?}");
    let base = url.path().trim_end_matches('/');
    let below = target.path().strip_prefix(base).unwrap_or_default();
    assert!(below.starts_with('/') && !below.starts_with("//"), "{joined:?} leaves the app's path");

    let alone = url.join(path.as_str()).expect("a relative URL");
    assert_eq!(alone.origin(), url.origin(), "{:?} alone leads to another origin", path.as_str());
}

/// Whether a browser on the app's page resolves the text to the same path, unchanged. Only for
/// characters that need no encoding.
fn is_plain_path(url: &Url, text: &str) -> bool {
    let plain = text.starts_with('/')
        && text.len() <= MAX_PATH_LENGTH
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&b));
    plain
        && url
            .join(text)
            .is_ok_and(|there| there.origin() == url.origin() && there[Position::BeforePath..] == *text)
}

/// Random bytes as the app's URL.
pub fn app_url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(app) = AppUrl::parse(text) else { return };
    let url = Url::parse(&app.to_string()).expect("an app URL is a URL");
    assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{app}");
    assert_eq!((url.username(), url.password()), ("", None), "{app}");
    assert_eq!((url.query(), url.fragment()), (None, None), "{app}");
    assert_eq!(AppUrl::parse(&app.to_string()).as_ref(), Ok(&app));
    assert_in_app(
        &url,
        &app,
        &ReturnPath::parse("/billing?a=//evil.example#/@evil.example").expect("a path"),
    );
}

/// Random bytes as an origin.
pub fn origin(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(origin) = Origin::parse(text) else { return };
    let url = Url::parse(origin.as_str()).expect("an origin is a URL");
    assert_eq!(url.origin().ascii_serialization(), origin.as_str(), "serialized as browsers do");
    assert_eq!(url.origin(), Url::parse(text).expect("a URL").origin(), "{text:?}");
    assert_eq!(Origin::parse(origin.as_str()).as_ref(), Ok(&origin));
    let is_loopback = match url.host().expect("a host") {
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    assert!(url.scheme() == "https" || is_loopback, "{text:?} is http to another host");
}
