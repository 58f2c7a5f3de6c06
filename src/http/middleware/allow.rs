//! The methods of a path, for a client that tried another one: a 405 lists them (RFC 9110, section 15.5.6).

use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};

/// Adds `Allow` to a 405, if the methods of its path are known.
pub(super) fn add_header(response: &mut Response, methods: Option<&'static str>) {
    if let Some(methods) = methods.filter(|_| response.status() == StatusCode::METHOD_NOT_ALLOWED) {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
}
