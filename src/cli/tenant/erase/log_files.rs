//! Finds the topic log files that name a tenant. They are not rewritten, because other processes
//! append to them. Rotation deletes them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::text::{count, time_of_seconds};
use crate::domain::ids::{CustomerId, TenantId};
use crate::telemetry::topics::Topic;

/// A file with lines about the tenant, or a file or directory that could not be read and may have
/// such lines.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// How many lines name the tenant. `None` if the file is compressed or could not be read.
    pub(super) lines: Option<u64>,
    /// The time of the last such line, as in the line.
    pub(super) last: Option<String>,
    pub(super) error: Option<String>,
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if let Some(error) = &self.error {
            return write!(f, "{path} may name the tenant; it could not be read: {error}");
        }
        match (self.lines, &self.last) {
            (None, _) => write!(f, "{path} may name the tenant; it is compressed and was not read."),
            (Some(lines), Some(last)) => {
                let last = OffsetDateTime::parse(last, &Rfc3339)
                    .map_or_else(|_| last.clone(), |last| time_of_seconds(last.unix_timestamp()));
                let lines = count(lines, "line");
                write!(
                    f,
                    "{path} names the tenant in {lines}, the last at {last}, until rotation deletes it."
                )
            }
            (Some(lines), None) => write!(f, "{path} names the tenant in {}.", count(lines, "line")),
        }
    }
}

#[derive(Deserialize)]
struct LogLine {
    time: Option<String>,
    tenant_id: Option<String>,
    customer_id: Option<String>,
}

/// Returns the files that name the tenant or one of its customers, sorted by path. A file that
/// cannot be read is listed with the error, since the tenant is erased already.
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

/// The `.2.gz` of `billing.log.2.gz`.
fn suffix(path: &Path) -> Option<&str> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    Topic::ALL.iter().find_map(|topic| name.strip_prefix(topic.as_str())?.strip_prefix(".log"))
}

/// `None` if no line names the tenant, or a rotation has just moved the file.
fn read(path: &Path, tenant: &TenantId, customers: &BTreeSet<CustomerId>) -> io::Result<Option<LogFile>> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let customers: BTreeSet<&str> = customers.iter().map(CustomerId::as_str).collect();
    let (mut lines, mut last, mut line) = (0, None, Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        if let Ok(line) = serde_json::from_slice::<LogLine>(&line) {
            let is_tenants = line.tenant_id.as_deref() == Some(tenant.as_str());
            if is_tenants || line.customer_id.as_deref().is_some_and(|id| customers.contains(id)) {
                lines += 1;
                last = line.time;
            }
        }
        line.clear();
    }
    Ok((lines > 0).then(|| LogFile { path: path.to_owned(), lines: Some(lines), last, error: None }))
}
