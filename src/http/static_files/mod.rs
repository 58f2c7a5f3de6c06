//! Serves the built frontend from memory. Start reading at `or_static_file`. `load` reads the
//! directory.
//!
//! The files are read once, at startup, so that no path can reach another file and no request waits
//! for a disk. poem's own endpoint does not support `HEAD`, serves hidden files and follows links.

mod load;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use poem::error::NotFoundError;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};

use super::middleware::security_headers;
use super::{etag, problem};

pub use load::InvalidStaticFiles;

const INDEX: &str = "/index.html";

/// The route of all files in spans and metrics.
pub(super) const ROUTE: &str = "/*";

/// Paths below this are never files.
const API: &str = "/api";

/// Cheap to clone.
#[derive(Clone)]
pub struct StaticFiles(Arc<Files>);

struct Files {
    index: File,
    by_path: HashMap<String, File>,
    skipped: Vec<String>,
}

#[derive(Clone)]
struct File {
    body: Bytes,
    content_type: &'static str,
    etag: String,
    cache_control: &'static str,
}

impl StaticFiles {
    /// Reads a directory recursively. Skips hidden files, and links, which could lead anywhere.
    pub fn read(directory: &Path) -> Result<Self, InvalidStaticFiles> {
        load::load(directory).map(|files| Self(Arc::new(files)))
    }

    /// The files in the directory that are not served, each with the reason.
    pub fn skipped(&self) -> &[String] {
        &self.0.skipped
    }

    fn get(&self, path: &str) -> Option<&File> {
        self.0.by_path.get(if path == "/" { INDEX } else { path })
    }
}

/// Serves paths without a route: the file with that path, or `index.html` if the client accepts
/// HTML, since the frontend has routes of its own.
pub(super) async fn or_static_file<E: Endpoint>(
    files: Option<StaticFiles>,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let file_request = files.zip(FileRequest::parse(&request));
    match (next.call(request).await, file_request) {
        (Err(error), Some((files, request))) if error.is::<NotFoundError>() => {
            if let Some(file) = files.get(&request.path) {
                return Ok(file.response(&request));
            }
            let mut response = if request.accepts_html {
                files.0.index.response(&request)
            } else {
                problem::from_framework(error)
            };
            // A cache must not return one of the two in place of the other.
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
            Ok(response)
        }
        (response, _) => response.map(IntoResponse::into_response),
    }
}

struct FileRequest {
    path: String,
    accepts_html: bool,
    if_none_match: Option<String>,
}

impl FileRequest {
    /// None if the request cannot be for a file.
    fn parse(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_api = path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (is_read && !is_api).then(|| Self {
            path: path.to_owned(),
            accepts_html: request.header(header::ACCEPT).is_some_and(|accept| accept.contains("text/html")),
            if_none_match: request.header(header::IF_NONE_MATCH).map(str::to_owned),
        })
    }
}

impl File {
    /// The same for `HEAD`: the server omits the body.
    fn response(&self, request: &FileRequest) -> Response {
        let is_cached = request.if_none_match.as_ref().is_some_and(|known| etag::matches(known, &self.etag));
        let response = Response::builder()
            .header(header::ETAG, &self.etag)
            .header(header::CACHE_CONTROL, self.cache_control);
        let mut response = if is_cached {
            response.status(StatusCode::NOT_MODIFIED).finish()
        } else {
            response.content_type(self.content_type).body(self.body.clone())
        };
        security_headers::protect(&mut response, security_headers::FRONTEND_CSP);
        response.set_data(PathPattern(ROUTE.into()));
        response
    }
}
