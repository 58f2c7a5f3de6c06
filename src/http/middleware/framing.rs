//! Requests of HTTP/1 that are not plainly one request to one host. What hyper refuses itself never comes here, nor what
//! `server::request_framing` has it refuse; this is what both leave to see.

use poem::http::{HeaderMap, HeaderValue, Version, header};
use poem::{IntoResponse, Request, Response};

use crate::http::problem::{Code, Problem};

/// The refusal of such a request. It closes the connection: where the next request starts is not certain.
pub(super) fn refuse(request: &Request) -> Option<Response> {
    let how = why_not(request.version(), request.headers())?;
    let mut refusal = Problem::new(Code::InvalidRequest, how).into_response();
    refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(refusal)
}

fn why_not(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    if version > Version::HTTP_11 {
        return None;
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        // RFC 9112, section 3.2.
        return Some("Send one `Host`.");
    }
    // hyper takes whatever ends in `chunked`, and undoes that alone.
    let coding = headers.get(header::TRANSFER_ENCODING)?;
    let is_plain = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    (!is_plain).then_some("Send `Content-Length`, or `Transfer-Encoding: chunked` and nothing else.")
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderName;

    use super::*;

    fn is_refused(version: Version, fields: &[(HeaderName, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        why_not(version, &headers).is_some()
    }

    #[test]
    fn a_request_goes_to_one_host() {
        let host = (header::HOST, "a");
        assert!(!is_refused(Version::HTTP_11, std::slice::from_ref(&host)));
        assert!(!is_refused(Version::HTTP_10, &[]));
        assert!(!is_refused(Version::HTTP_2, &[]));
        assert!(is_refused(Version::HTTP_11, &[]));
        assert!(is_refused(Version::HTTP_11, &[host.clone(), host.clone()]));
        assert!(is_refused(Version::HTTP_10, &[host.clone(), host]));
    }

    #[test]
    fn a_body_is_chunked_and_nothing_else() {
        let coded = |coding| {
            is_refused(Version::HTTP_11, &[(header::HOST, "a"), (header::TRANSFER_ENCODING, coding)])
        };
        assert!(!coded("chunked") && !coded(" Chunked "));
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "", "xchunked", "chunked;a=b"] {
            assert!(coded(coding), "{coding:?}");
        }
    }
}
