//! The topic log files that name a tenant. They are only ever appended to, by other processes too, so they are not rewritten:
//! rotation deletes them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::ids::{CustomerId, TenantId};
use crate::telemetry::topics::Topic;

/// A file that has lines about the tenant, or may have; or the directory, if its files could not be
/// listed.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// How many. None: it is compressed, or could not be read.
    pub(super) lines: Option<u64>,
    /// The time of the last of them.
    pub(super) last: Option<String>,
    /// Why it could not be read.
    pub(super) error: Option<String>,
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if let Some(error) = &self.error {
            return write!(f, "{path} may name the tenant; it cannot be read: {error}");
        }
        match (self.lines, &self.last) {
            (None, _) => write!(f, "{path} may name the tenant; it cannot be read here."),
            (Some(lines), Some(last)) => {
                write!(
                    f,
                    "{path} names the tenant in {lines} lines, the last of {last}, until rotation deletes it."
                )
            }
            (Some(lines), None) => write!(f, "{path} names the tenant in {lines} lines."),
        }
    }
}

/// What of a line names a tenant.
#[derive(Deserialize)]
struct Names {
    time: Option<String>,
    tenant_id: Option<String>,
    customer_id: Option<String>,
}

/// The files of the directory that name the tenant or one of its customers, by their names. One that
/// cannot be read is listed with the reason: the tenant is erased already.
pub(super) fn find_in_logs(dir: &Path, tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> Vec<LogFile> {
    let unread = |path, error: Option<io::Error>| {
        let error = error.map(|error| error.to_string());
        LogFile { path, lines: None, last: None, error }
    };
    let paths: Vec<PathBuf> =
        match fs::read_dir(dir).and_then(|found| found.map(|one| Ok(one?.path())).collect()) {
            Ok(paths) => paths,
            Err(error) => return vec![unread(dir.to_owned(), Some(error))],
        };
    let mut files = Vec::new();
    for path in paths {
        match suffix(&path) {
            Some(suffix) if suffix.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                match read(&path, tenant, customers) {
                    Ok(file) => files.extend(file),
                    Err(error) => files.push(unread(path, Some(error))),
                }
            }
            Some(_) => files.push(unread(path, None)),
            None => {}
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// What follows `billing.log` in `billing.log.2.gz`.
fn suffix(path: &Path) -> Option<&str> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    Topic::ALL.iter().find_map(|topic| name.strip_prefix(topic.as_str())?.strip_prefix(".log"))
}

/// None where no line names the tenant, or the file has just been moved by a rotation.
fn read(path: &Path, tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> io::Result<Option<LogFile>> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let customers: BTreeSet<&str> = customers.iter().map(CustomerId::as_str).collect();
    let (mut lines, mut last, mut line) = (0, None, Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        if let Ok(names) = serde_json::from_slice::<Names>(&line) {
            let is_tenants = names.tenant_id.as_deref() == Some(tenant.as_str());
            if is_tenants || names.customer_id.as_deref().is_some_and(|id| customers.contains(id)) {
                lines += 1;
                last = names.time;
            }
        }
        line.clear();
    }
    Ok((lines > 0).then(|| LogFile { path: path.to_owned(), lines: Some(lines), last, error: None }))
}
