//! Reads the frontend's directory into memory.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use super::{File, Files, INDEX};
use crate::http::etag;

/// A frontend has dozens of files and a few megabytes. With these limits a wrong directory is an
/// error before it fills the memory.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where bundlers put files with a content hash in their name.
const ASSETS_PATH: &str = "/assets/";

/// Characters of a content hash: Vite writes 8, in base64url.
const HASH_LENGTH: usize = 8;

/// For files whose content can change under the same name.
const REVALIDATE: &str = "no-cache";

/// For files that get another name when their content changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

#[derive(Debug, thiserror::Error)]
pub enum InvalidStaticFiles {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is a directory without an index.html")]
    NoIndex,
    #[error("is a directory whose index.html is a link; links are not followed, so copy the files there")]
    IndexIsLink,
    #[error("is a directory of more than {MAX_FILES} files")]
    TooManyFiles,
    #[error("is a directory of more than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
}

pub(super) fn load(directory: &Path) -> Result<Files, InvalidStaticFiles> {
    let mut loader = Loader::default();
    loader.add_directory(directory, "/")?;
    let Loader { by_path, skipped, .. } = loader;
    match by_path.get(INDEX).cloned() {
        Some(index) => Ok(Files { index, by_path, skipped }),
        None if directory.join(&INDEX[1..]).is_symlink() => Err(InvalidStaticFiles::IndexIsLink),
        None => Err(InvalidStaticFiles::NoIndex),
    }
}

#[derive(Default)]
struct Loader {
    by_path: HashMap<String, File>,
    skipped: Vec<String>,
    entries: usize,
    bytes: u64,
}

impl Loader {
    /// `path` is the directory's URL path, with a trailing slash.
    fn add_directory(&mut self, directory: &Path, path: &str) -> Result<(), InvalidStaticFiles> {
        for entry in fs::read_dir(directory)? {
            self.add_entry(&entry?, path)?;
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &DirEntry, path: &str) -> Result<(), InvalidStaticFiles> {
        self.entries += 1;
        if self.entries > MAX_FILES {
            return Err(InvalidStaticFiles::TooManyFiles);
        }
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_servable(name)) else {
            let name = name.to_string_lossy();
            self.skipped
                .push(format!("{path}{}: hidden, or a special character in its name", name.escape_debug()));
            return Ok(());
        };
        let (kind, path) = (entry.file_type()?, format!("{path}{name}"));
        if kind.is_dir() {
            return self.add_directory(&entry.path(), &format!("{path}/"));
        }
        if !kind.is_file() {
            self.skipped.push(format!("{path}: a link or a special file"));
            return Ok(());
        }
        self.bytes += entry.metadata()?.len();
        if self.bytes > MAX_BYTES {
            return Err(InvalidStaticFiles::TooLarge);
        }
        let file = file(&path, fs::read(entry.path())?);
        self.by_path.insert(path, file);
        Ok(())
    }
}

fn file(path: &str, body: Vec<u8>) -> File {
    let etag = etag::of(&body);
    let cache_control = if has_hash(path) { IMMUTABLE } else { REVALIDATE };
    File { body: body.into(), content_type: content_type(path), etag, cache_control }
}

/// Whether a name is not hidden and needs no escaping in a URL.
fn is_servable(name: &str) -> bool {
    !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'))
}

/// Whether the name has a content hash: `/assets/index-CWOGpXpt.js`. A false match would be cached
/// for a year even if the content changes, so a hash that could be a word or a number does not
/// count. That costs only a revalidation per use.
fn has_hash(path: &str) -> bool {
    let name = path.strip_prefix(ASSETS_PATH).and_then(|name| name.rsplit('/').next());
    let stem = name.and_then(|name| name.split_once('.')).map(|(stem, _)| stem);
    let hash = stem.and_then(|stem| {
        let (before, hash) = stem.split_at_checked(stem.len().checked_sub(HASH_LENGTH)?)?;
        before.ends_with('-').then_some(hash.as_bytes())
    });
    hash.is_some_and(|hash| {
        // The only capital of a word is its first letter.
        let is_mixed =
            hash[1..].iter().any(u8::is_ascii_uppercase) && hash.iter().any(u8::is_ascii_lowercase);
        is_mixed && hash.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit('.').next().unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
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

    fn directory_with(names: &[&str]) -> TempDir {
        let dir = tempdir().expect("a directory");
        for name in names {
            fs::write(dir.path().join(name), name).expect("written");
        }
        dir
    }

    fn load_error(dir: &TempDir) -> InvalidStaticFiles {
        load(dir.path()).err().expect("an error")
    }

    #[test]
    fn content_hash_in_name_is_recognised() {
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
    fn hidden_and_unsafe_names_are_not_servable() {
        for good in ["index.html", "index-CWOGpXpt.js", "a_b~c"] {
            assert!(is_servable(good), "{good}");
        }
        for bad in [".env", "..", "a b", "a%20b", "ä", "a\\b", "a\nb", "a?b"] {
            assert!(!is_servable(bad), "{bad}");
        }
    }

    #[test]
    fn content_type_follows_the_extension_in_any_case() {
        for (path, expected) in [
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
            assert_eq!(content_type(path), expected, "{path}");
        }
    }

    #[test]
    fn too_large_directory_is_rejected() {
        let many = directory_with(&["index.html"]);
        for number in 1..MAX_FILES {
            fs::write(many.path().join(format!("{number}.txt")), "").expect("written");
        }
        assert_eq!(load(many.path()).expect("the maximum").by_path.len(), MAX_FILES);
        fs::write(many.path().join("more.txt"), "").expect("written");
        assert!(matches!(load_error(&many), InvalidStaticFiles::TooManyFiles));

        let large = directory_with(&["index.html"]);
        // A sparse file.
        let file = fs::File::create(large.path().join("film.mp4")).expect("a file");
        file.set_len(MAX_BYTES).expect("a length");
        assert!(matches!(load_error(&large), InvalidStaticFiles::TooLarge));
    }

    #[test]
    fn linked_index_has_its_own_error() {
        let dir = directory_with(&["real.html"]);
        assert!(matches!(load_error(&dir), InvalidStaticFiles::NoIndex));
        symlink("real.html", dir.path().join("index.html")).expect("a link");
        let error = load_error(&dir).to_string();
        assert!(error.contains("index.html is a link"), "{error}");
    }

    #[test]
    fn skipped_files_are_listed_with_escaped_names() {
        let dir = directory_with(&["index.html", ".env", "a\nb.txt"]);
        symlink("index.html", dir.path().join("link.html")).expect("a link");
        let mut skipped = load(dir.path()).expect("loaded").skipped;
        skipped.sort();
        let expected = [
            "/.env: hidden, or a special character in its name",
            r"/a\nb.txt: hidden, or a special character in its name",
            "/link.html: a link or a special file",
        ];
        assert_eq!(skipped, expected);
    }
}
