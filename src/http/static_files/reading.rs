//! Reading the page's directory into memory.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use super::{File, INDEX, Page};
use crate::http::etag;

/// A page has some dozens of files and a few megabytes. Whoever names a wrong directory is told before the memory is full
/// of it.
const FILES: usize = 1000;
const BYTES: u64 = 64 * 1024 * 1024;

/// Where a bundler puts what has its content's hash in its name.
const ASSETS: &str = "/assets/";

/// The characters of such a hash, as Vite writes it: in base64url.
const HASH_LENGTH: usize = 8;

/// Asked about each time: the name stays while the content changes.
const REVALIDATED: &str = "no-cache";

/// Kept for good: another content has another name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Why a directory is not a built page.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStaticFiles {
    /// It is not there, or not ours to read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("is a directory without an index.html")]
    NoIndex,
    /// It may be a page, of which nothing would be served.
    #[error(
        "is a directory whose index.html is a link, and links are not followed: put the files themselves there"
    )]
    IndexIsLink,
    /// It is far more than a page.
    #[error("is a directory of more than {FILES} files")]
    TooMany,
    /// It is far more than a page.
    #[error("is a directory of more than {} MiB", BYTES / 1024 / 1024)]
    TooLarge,
}

/// Reads a directory and all below it, but for what begins with a dot, and for links, which may lead anywhere.
pub(super) fn read(directory: &Path) -> Result<Page, InvalidStaticFiles> {
    let mut reading = Reading { files: HashMap::new(), skipped: Vec::new(), seen: 0, bytes: 0 };
    reading.directory(directory, "/")?;
    let Reading { files, skipped, .. } = reading;
    match files.get(INDEX).cloned() {
        Some(index) => Ok(Page { index, files, skipped }),
        None if directory.join(&INDEX[1..]).is_symlink() => Err(InvalidStaticFiles::IndexIsLink),
        None => Err(InvalidStaticFiles::NoIndex),
    }
}

/// A directory on its way into memory.
struct Reading {
    files: HashMap<String, File>,
    skipped: Vec<String>,
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
            let name = name.to_string_lossy();
            self.skipped.push(format!("{path}{}: its name is not plain", name.escape_debug()));
            return Ok(());
        };
        let (kind, path) = (entry.file_type()?, format!("{path}{name}"));
        if kind.is_dir() {
            return self.directory(&entry.path(), &format!("{path}/"));
        }
        if !kind.is_file() {
            self.skipped.push(format!("{path}: it is a link, or no file at all"));
            return Ok(());
        }
        self.bytes += entry.metadata()?.len();
        if self.bytes > BYTES {
            return Err(InvalidStaticFiles::TooLarge);
        }
        let file = file(&path, fs::read(entry.path())?);
        self.files.insert(path, file);
        Ok(())
    }
}

fn file(path: &str, body: Vec<u8>) -> File {
    let etag = etag::of(&body);
    let cache_control = if has_hash(path) { IMMUTABLE } else { REVALIDATED };
    File { body: body.into(), content_type: content_type(path), etag, cache_control }
}

/// Whether a name can stand in a URL as it is, and is not hidden.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'))
}

/// Whether a bundler wrote the content's hash into the name: `/assets/index-CWOGpXpt.js`. A name that only looks so would
/// be kept for a year whatever becomes of its content, so a word or a number in that place does not do. A hash that looks
/// like one costs a question each time.
fn has_hash(path: &str) -> bool {
    let name = path.strip_prefix(ASSETS).and_then(|name| name.rsplit('/').next());
    let stem = name.and_then(|name| name.split_once('.')).map(|(stem, _)| stem);
    let hash = stem.and_then(|stem| {
        let (before, hash) = stem.split_at_checked(stem.len().checked_sub(HASH_LENGTH)?)?;
        before.ends_with('-').then_some(hash.as_bytes())
    });
    hash.is_some_and(|hash| {
        // A word has its only capital in front.
        let is_mixed =
            hash[1..].iter().any(u8::is_ascii_uppercase) && hash.iter().any(u8::is_ascii_lowercase);
        is_mixed && hash.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

fn content_type(path: &str) -> &'static str {
    let ending = path.rsplit('.').next().unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
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
    use std::os::unix::fs::symlink;

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn page_with(names: &[&str]) -> TempDir {
        let dir = tempdir().expect("a directory");
        for name in names {
            fs::write(dir.path().join(name), name).expect("written");
        }
        dir
    }

    fn why_not(dir: &TempDir) -> InvalidStaticFiles {
        read(dir.path()).err().expect("it is no page")
    }

    #[test]
    fn what_has_a_hash_in_its_name_is_kept_for_good() {
        for hashed in [
            "/assets/index-CWOGpXpt.js",
            "/assets/a/logo-B5ZomqiG.css.map",
            "/assets/x-a-_b3Zom.svg",
            "/assets/hero-background-d0Wn_-2x.jpg",
        ] {
            assert!(has_hash(hashed), "{hashed}");
        }
        for plain in [
            "/index.html",
            "/index-CWOGpXpt.js",
            "/assets/index.js",
            "/assets/my-logo.svg",
            "/assets/hero-background.jpg",
            "/assets/logo-vertical.svg",
            "/assets/logo-VERTICAL.svg",
            "/assets/logo-Vertical.svg",
            "/assets/photo-20240101.jpg",
            "/assets/index-CWOGpXpt9.js",
            "/assets/indexCWOGpXpt.js",
            "/assets/CWOGpXpt.js",
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

    #[test]
    fn a_file_has_the_type_that_its_ending_says_in_whatever_case() {
        for (path, content_type_of_it) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/a.mjs", "text/javascript; charset=utf-8"),
            ("/a.min.CSS", "text/css; charset=utf-8"),
            ("/a.js.map", "application/json"),
            ("/site.webmanifest", "application/manifest+json"),
            ("/LOGO.PNG", "image/png"),
            ("/Photo.JPeg", "image/jpeg"),
            ("/font.woff2", "font/woff2"),
            ("/LICENSE", "application/octet-stream"),
            ("/a.html.exe", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), content_type_of_it, "{path}");
        }
    }

    #[test]
    fn what_is_far_more_than_a_page_is_told_before_it_is_read() {
        let many = page_with(&["index.html"]);
        for number in 1..FILES {
            fs::write(many.path().join(format!("{number}.txt")), "").expect("written");
        }
        assert_eq!(read(many.path()).expect("as many as there may be").files.len(), FILES);
        fs::write(many.path().join("more.txt"), "").expect("written");
        assert!(matches!(why_not(&many), InvalidStaticFiles::TooMany));

        let large = page_with(&["index.html"]);
        // It has a length, and takes no room.
        let file = fs::File::create(large.path().join("film.mp4")).expect("a file");
        file.set_len(BYTES).expect("it is long");
        assert!(matches!(why_not(&large), InvalidStaticFiles::TooLarge));
    }

    #[test]
    fn an_index_that_is_a_link_is_told_from_none() {
        let dir = page_with(&["real.html"]);
        assert!(matches!(why_not(&dir), InvalidStaticFiles::NoIndex));
        symlink("real.html", dir.path().join("index.html")).expect("a link");
        let told = why_not(&dir).to_string();
        assert!(told.contains("index.html is a link"), "{told}");
    }

    #[test]
    fn what_is_skipped_is_told_by_name_and_never_breaks_a_line() {
        let dir = page_with(&["index.html", ".env", "a\nb.txt"]);
        symlink("index.html", dir.path().join("link.html")).expect("a link");
        let mut skipped = read(dir.path()).expect("a page").skipped;
        skipped.sort();
        let expected = [
            "/.env: its name is not plain",
            r"/a\nb.txt: its name is not plain",
            "/link.html: it is a link, or no file at all",
        ];
        assert_eq!(skipped, expected);
    }
}
