//! Rejects HTTP/1 requests without exactly one host or with an unusual transfer encoding. hyper and
//! `server::inspected_stream` have already rejected the other ambiguous requests.

use poem::http::{HeaderMap, HeaderValue, Version, header};
use poem::{IntoResponse, Request, Response};

use crate::http::problem::{Code, Problem};

/// The response to such a request. It closes the connection, since the start of the next request is
/// uncertain.
pub(super) fn reject_ambiguous(request: &Request) -> Option<Response> {
    let detail = find_problem(request.version(), request.headers())?;
    let mut response = Problem::new(Code::InvalidRequest, detail).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

fn find_problem(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    if version > Version::HTTP_11 {
        return None;
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        // RFC 9112, section 3.2.
        return Some("The request must have exactly one `Host` header. Send one.");
    }
    // hyper accepts any list that ends in `chunked`, and decodes only that.
    let coding = headers.get(header::TRANSFER_ENCODING)?;
    let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    (!is_chunked).then_some(
        "The transfer encoding is not supported. Send `Content-Length` or `Transfer-Encoding: chunked`.",
    )
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderName;

    use super::*;

    fn is_rejected(version: Version, fields: &[(HeaderName, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        find_problem(version, &headers).is_some()
    }

    #[test]
    fn request_without_exactly_one_host_is_rejected() {
        let host = (header::HOST, "a");
        assert!(!is_rejected(Version::HTTP_11, std::slice::from_ref(&host)));
        assert!(!is_rejected(Version::HTTP_10, &[]));
        assert!(!is_rejected(Version::HTTP_2, &[]));
        assert!(is_rejected(Version::HTTP_11, &[]));
        assert!(is_rejected(Version::HTTP_11, &[host.clone(), host.clone()]));
        assert!(is_rejected(Version::HTTP_10, &[host.clone(), host]));
    }

    #[test]
    fn transfer_encoding_other_than_chunked_is_rejected() {
        let coded = |coding| {
            is_rejected(Version::HTTP_11, &[(header::HOST, "a"), (header::TRANSFER_ENCODING, coding)])
        };
        assert!(!coded("chunked") && !coded(" Chunked "));
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "", "xchunked", "chunked;a=b"] {
            assert!(coded(coding), "{coding:?}");
        }
    }
}
