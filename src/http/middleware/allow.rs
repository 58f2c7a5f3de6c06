//! Which methods a path takes, for whoever tried another: a 405 lists them (RFC 9110, section 15.5.6).

use std::sync::Arc;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};

/// Adds `Allow` to a 405; `of_path` knows the methods.
pub(in crate::http) async fn add_allow_header<E: Endpoint>(
    of_path: fn(&str) -> Option<&'static str>,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let methods = of_path(request.uri().path());
    let mut answer = next.call(request).await?.into_response();
    if let Some(methods) = methods.filter(|_| answer.status() == StatusCode::METHOD_NOT_ALLOWED) {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    Ok(answer)
}
