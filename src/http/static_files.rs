//! The built page, served from memory. Its files are read once, at the start: what is not among them cannot be asked for,
//! whatever a path says, and no request waits for a disk. poem's own endpoint knows no `HEAD`, serves what begins with a
//! dot and follows links.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use poem::error::NotFoundError;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};

use super::{etag, security};

/// A page has some dozens of files and a few megabytes. Whoever names a wrong directory is told before the memory is full
/// of it.
const FILES: usize = 1000;
const BYTES: u64 = 64 * 1024 * 1024;

/// What is there for whoever asks for a page.
const INDEX: &str = "/index.html";

/// How spans and metrics call all of them.
pub(super) const ROUTE: &str = "/*";

/// Below this is the API, and nothing else.
const API: &str = "/api";

/// Where a bundler puts what has its content's hash in its name.
const ASSETS: &str = "/assets/";

/// The fewest characters of such a hash; Vite's have eight.
const HASH_LENGTH: usize = 8;

/// Asked about each time: the name stays while the content changes.
const REVALIDATED: &str = "no-cache";

/// Kept for good: another content has another name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The files of a built page, by their paths. Cheap to clone.
#[derive(Clone)]
pub struct StaticFiles(Arc<HashMap<String, File>>);

struct File {
    body: Bytes,
    content_type: &'static str,
    etag: String,
    cache_control: &'static str,
}

/// Why a directory is not a built page.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStaticFiles {
    /// It is not there, or not ours to read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("is a directory without an index.html")]
    NoIndex,
    /// It is far more than a page.
    #[error("is a directory of more than {FILES} files")]
    TooMany,
    /// It is far more than a page.
    #[error("is a directory of more than {} MiB", BYTES / 1024 / 1024)]
    TooLarge,
}

impl fmt::Debug for StaticFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticFiles({})", self.0.len())
    }
}

impl StaticFiles {
    /// Reads a directory and all below it, but for what begins with a dot, and for links, which may lead anywhere.
    pub fn read(directory: &Path) -> Result<Self, InvalidStaticFiles> {
        let mut reading = Reading { files: HashMap::new(), seen: 0, bytes: 0 };
        reading.directory(directory, "/")?;
        if reading.files.contains_key(INDEX) {
            Ok(Self(Arc::new(reading.files)))
        } else {
            Err(InvalidStaticFiles::NoIndex)
        }
    }

    /// What there is for the request; the index for whoever asks for a page, since the page itself knows its paths.
    fn find(&self, wanted: &Wanted) -> Option<&File> {
        let path = if wanted.path == "/" { INDEX } else { &wanted.path };
        self.0.get(path).or_else(|| self.0.get(INDEX).filter(|_| wanted.takes_html))
    }
}

/// Answers from the files what the routes do not know.
pub(super) async fn or_static_file<E: Endpoint>(
    files: Option<StaticFiles>,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let wanted = Wanted::by(&request);
    match next.call(request).await {
        Ok(answer) => Ok(answer.into_response()),
        Err(error) if error.is::<NotFoundError>() => {
            let file = files.as_ref().zip(wanted.as_ref()).and_then(|(files, wanted)| files.find(wanted));
            file.zip(wanted.as_ref()).map(|(file, wanted)| file.answer(wanted)).ok_or(error)
        }
        Err(error) => Err(error),
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
    fn new(path: &str, body: Vec<u8>) -> Self {
        let etag = etag::of(&body);
        let cache_control = if has_hash(path) { IMMUTABLE } else { REVALIDATED };
        Self { body: body.into(), content_type: content_type(path), etag, cache_control }
    }

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
        security::protect(&mut answer, security::PAGE);
        answer.set_data(PathPattern(ROUTE.into()));
        answer
    }
}

/// A directory on its way into memory.
struct Reading {
    files: HashMap<String, File>,
    seen: usize,
    bytes: u64,
}

impl Reading {
    /// `path` is what its URL begins with, a slash at its end.
    fn directory(&mut self, directory: &Path, path: &str) -> Result<(), InvalidStaticFiles> {
        for entry in fs::read_dir(directory)? {
            self.entry(&entry?, path)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, path: &str) -> Result<(), InvalidStaticFiles> {
        self.seen += 1;
        if self.seen > FILES {
            return Err(InvalidStaticFiles::TooMany);
        }
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_plain(name)) else {
            tracing::warn!(name = %name.display(), "a file is not served: its name is not plain");
            return Ok(());
        };
        let (kind, path) = (entry.file_type()?, format!("{path}{name}"));
        if kind.is_dir() {
            return self.directory(&entry.path(), &format!("{path}/"));
        }
        if !kind.is_file() {
            tracing::warn!(path, "a file is not served: it is a link, or no file at all");
            return Ok(());
        }
        self.bytes += entry.metadata()?.len();
        if self.bytes > BYTES {
            return Err(InvalidStaticFiles::TooLarge);
        }
        let file = File::new(&path, fs::read(entry.path())?);
        self.files.insert(path, file);
        Ok(())
    }
}

/// Whether a name can stand in a URL as it is, and is not hidden.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'))
}

/// Whether a bundler wrote the content's hash into the name: `/assets/index-CWOGpXpt.js`.
fn has_hash(path: &str) -> bool {
    let name = path.strip_prefix(ASSETS).and_then(|name| name.rsplit('/').next());
    let stem = name.and_then(|name| name.split_once('.')).map(|(stem, _)| stem);
    stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(_, hash)| hash.len() >= HASH_LENGTH)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_hash_in_its_name_is_kept_for_good() {
        for hashed in
            ["/assets/index-CWOGpXpt.js", "/assets/a/logo-B5ZomqiG.css.map", "/assets/x-a-_b3ZomqG1.svg"]
        {
            assert!(has_hash(hashed), "{hashed}");
        }
        for plain in [
            "/index.html",
            "/index-CWOGpXpt.js",
            "/assets/index.js",
            "/assets/my-logo.svg",
            "/assets/-",
            "/assets/",
        ] {
            assert!(!has_hash(plain), "{plain}");
        }
    }

    #[test]
    fn a_name_is_plain_or_it_is_not_served() {
        for good in ["index.html", "index-CWOGpXpt.js", "a_b~c"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [".env", "..", "a b", "a%20b", "ä", "a\\b", "a\nb", "a?b"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
