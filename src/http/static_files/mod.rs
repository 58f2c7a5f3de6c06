//! The built page, served from memory. Its files are read once, at the start: what is not among them cannot be asked for,
//! whatever a path says, and no request waits for a disk. poem's own endpoint knows no `HEAD`, serves what begins with a
//! dot and follows links. Start reading at `or_static_file`; `reading` reads the directory.

mod reading;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use poem::error::NotFoundError;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};

use super::middleware::security_headers;
use super::{etag, problem};

pub use reading::InvalidStaticFiles;

/// What is there for whoever asks for a page.
const INDEX: &str = "/index.html";

/// How spans and metrics call all of them.
pub(super) const ROUTE: &str = "/*";

/// Below this is the API, and nothing else.
const API: &str = "/api";

/// The files of a built page. Cheap to clone.
#[derive(Clone)]
pub struct StaticFiles(Arc<Page>);

struct Page {
    index: File,
    /// All of them, by their paths.
    files: HashMap<String, File>,
    /// What is in the directory and not served, each with the reason.
    skipped: Vec<String>,
}

#[derive(Clone)]
struct File {
    body: Bytes,
    content_type: &'static str,
    etag: String,
    cache_control: &'static str,
}

impl fmt::Debug for StaticFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticFiles({})", self.0.files.len())
    }
}

impl StaticFiles {
    /// Reads a directory and all below it, but for what begins with a dot, and for links, which may lead anywhere.
    pub fn read(directory: &Path) -> Result<Self, InvalidStaticFiles> {
        reading::read(directory).map(|page| Self(Arc::new(page)))
    }

    /// What is in the directory and not served, each with the reason.
    pub fn skipped(&self) -> &[String] {
        &self.0.skipped
    }

    fn get(&self, path: &str) -> Option<&File> {
        self.0.files.get(if path == "/" { INDEX } else { path })
    }
}

/// Answers from the files what the routes do not know: with the file of that path, or with the index for whoever asks for
/// a page, since the page itself knows its paths.
pub(super) async fn or_static_file<E: Endpoint>(
    files: Option<StaticFiles>,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let wanted = files.zip(Wanted::by(&request));
    match (next.call(request).await, wanted) {
        (Err(error), Some((files, wanted))) if error.is::<NotFoundError>() => {
            if let Some(file) = files.get(&wanted.path) {
                return Ok(file.answer(&wanted));
            }
            let mut answer = if wanted.takes_html {
                files.0.index.answer(&wanted)
            } else {
                problem::from_framework(error)
            };
            // A cache that has one of the two must not give it to whoever would get the other.
            answer.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
            Ok(answer)
        }
        (answer, _) => answer.map(IntoResponse::into_response),
    }
}

/// What a request wants, if it can be a file.
struct Wanted {
    path: String,
    takes_html: bool,
    if_none_match: Option<String>,
}

impl Wanted {
    fn by(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_api = path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (reads && !is_api).then(|| Self {
            path: path.to_owned(),
            takes_html: request.header(header::ACCEPT).is_some_and(|accept| accept.contains("text/html")),
            if_none_match: request.header(header::IF_NONE_MATCH).map(str::to_owned),
        })
    }
}

impl File {
    /// A `HEAD` gets the same: the server leaves the body out.
    fn answer(&self, wanted: &Wanted) -> Response {
        let is_known = wanted.if_none_match.as_ref().is_some_and(|known| etag::is_named(known, &self.etag));
        let answer = Response::builder()
            .header(header::ETAG, &self.etag)
            .header(header::CACHE_CONTROL, self.cache_control);
        let mut answer = if is_known {
            answer.status(StatusCode::NOT_MODIFIED).finish()
        } else {
            answer.content_type(self.content_type).body(self.body.clone())
        };
        security_headers::protect(&mut answer, security_headers::PAGE);
        answer.set_data(PathPattern(ROUTE.into()));
        answer
    }
}
