//! Reads a CSV file of tenants and customers line by line. It holds one line at a time, and an
//! error in one line does not affect other lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, StringRecord};

use crate::domain::ids::{CustomerId, InvalidId, TenantId};

/// Both ids take at most 320 bytes, and an export may have more columns.
const MAX_LINE_BYTES: usize = 4096;

const MAX_COLUMNS: usize = 64;

/// A line that is not empty.
#[derive(Debug)]
pub(super) struct CsvLine {
    /// Counts from 1, as editors do.
    pub(super) number: u64,
    pub(super) link: Result<(TenantId, CustomerId), LineError>,
}

/// Why a line cannot be read. Never quotes the line, which may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    #[error("is longer than {MAX_LINE_BYTES} bytes or {MAX_COLUMNS} columns, or has several records")]
    TooLong,
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("has a different number of columns than the header")]
    ColumnCount,
    #[error("has a tenant that is {0}")]
    Tenant(InvalidId),
    #[error("has a customer that is {0}")]
    Customer(InvalidId),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CsvError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("does not start with a line that names the columns `tenant` and `customer`, once each")]
    NoHeader,
}

pub(super) struct CsvLines<R> {
    file: BufReader<R>,
    number: u64,
    header: Header,
}

/// The positions of the two columns, and how many columns there are.
#[derive(Debug, Clone, Copy)]
struct Header {
    tenant: usize,
    customer: usize,
    columns: usize,
}

impl CsvLines<File> {
    /// Opens a file. Also returns its size in bytes.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), CsvError> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((Self::of(file)?, bytes))
    }
}

impl<R: Read> CsvLines<R> {
    fn of(file: R) -> Result<Self, CsvError> {
        let header = Header { tenant: 0, customer: 0, columns: 0 };
        let mut lines = Self { file: BufReader::new(file), number: 0, header };
        let first = lines.next_line()?.ok_or(CsvError::NoHeader)?;
        // Spreadsheets write a byte order mark first.
        let first = first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&first);
        let names = columns(first).map_err(|_| CsvError::NoHeader)?;
        lines.header = Header::of(&names).ok_or(CsvError::NoHeader)?;
        Ok(lines)
    }

    /// Returns the next line that is not empty, and how many bytes were read for it.
    pub(super) fn next(&mut self) -> Result<Option<(CsvLine, u64)>, io::Error> {
        let mut bytes = 0;
        while let Some(line) = self.next_line()? {
            bytes += line.len() as u64;
            if !line.trim_ascii().is_empty() {
                let link = self.header.read(&line);
                return Ok(Some((CsvLine { number: self.number, link }, bytes)));
            }
        }
        Ok(None)
    }

    /// Returns the next line with its line feed. A line that is too long is cut one byte after the
    /// limit.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, io::Error> {
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        (&mut self.file).take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > MAX_LINE_BYTES {
            self.skip_line(line.last() == Some(&b'\n'))?;
        }
        Ok(Some(line))
    }

    fn skip_line(&mut self, mut is_over: bool) -> Result<(), io::Error> {
        while !is_over {
            let rest = self.file.fill_buf()?;
            let end = rest.iter().position(|byte| *byte == b'\n');
            is_over = end.is_some() || rest.is_empty();
            let used = end.map_or(rest.len(), |end| end + 1);
            self.file.consume(used);
        }
        Ok(())
    }
}

/// Splits a line into columns. A quoted column ends with its line, so that a missing quote does not
/// swallow other lines.
fn columns(line: &[u8]) -> Result<StringRecord, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong);
    }
    let line = line.trim_ascii_end();
    let mut columns = ByteRecord::new();
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(line);
    reader.read_byte_record(&mut columns).map_err(|_| LineError::ColumnCount)?;
    // A carriage return alone also ends a record, and the rest of the line would be lost.
    let is_one_record = reader.position().byte() >= line.len() as u64;
    if columns.len() > MAX_COLUMNS || !is_one_record {
        return Err(LineError::TooLong);
    }
    StringRecord::from_byte_record(columns).map_err(|_| LineError::NotUtf8)
}

impl Header {
    fn of(names: &StringRecord) -> Option<Self> {
        let only = |name: &str| {
            let mut positions = names.iter().enumerate().filter(|(_, one)| one.trim() == name);
            let (position, _) = positions.next()?;
            positions.next().is_none().then_some(position)
        };
        Some(Self { tenant: only("tenant")?, customer: only("customer")?, columns: names.len() })
    }

    fn read(&self, line: &[u8]) -> Result<(TenantId, CustomerId), LineError> {
        let columns = columns(line)?;
        match (columns.get(self.tenant), columns.get(self.customer)) {
            (Some(tenant), Some(customer)) if columns.len() == self.columns => Ok((
                TenantId::parse(tenant.trim()).map_err(LineError::Tenant)?,
                CustomerId::parse(customer.trim()).map_err(LineError::Customer)?,
            )),
            _ => Err(LineError::ColumnCount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Vec<(u64, String)> {
        let mut lines = CsvLines::of(file.as_bytes()).expect("a header");
        let mut read = Vec::new();
        while let Some((CsvLine { number, link }, _)) = lines.next().expect("the line is read") {
            let link = link.map(|(tenant, customer)| format!("{tenant} {customer}"));
            read.push((number, link.unwrap_or_else(|error| error.to_string())));
        }
        read
    }

    fn expected(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    #[test]
    fn columns_are_found_by_name_and_others_are_ignored() {
        let file = "\u{feff}\"customer\" , name, tenant\r\ncus_1,\"Acme, Inc.\",acme\r\n\r\ncus_2,,\"birch\"";
        assert_eq!(read(file), expected(&[(2, "acme cus_1"), (4, "birch cus_2")]));
    }

    #[test]
    fn error_in_one_line_does_not_affect_other_lines() {
        let long = "x".repeat(10_000);
        let many = "a,".repeat(100);
        let file = format!(
            "tenant,customer\nacme,cus_1\n\"birch,cus_2\na b,cus_3\ncedar,sub_4\nelm,cus_5,more\n{long},cus_6\n{many}\nfir,cus_8\n"
        );
        let columns = "has a different number of columns than the header";
        let tenant = "has a tenant that is not a tenant id (1 to 63 letters, digits, `_`, `-`, `.`; not `.` or `..`, and not starting with `-`)";
        let customer = "has a customer that is not a Stripe customer id (`cus_...`)";
        let too_long = "is longer than 4096 bytes or 64 columns, or has several records";
        assert_eq!(
            read(&file),
            expected(&[
                (2, "acme cus_1"),
                (3, columns),
                (4, tenant),
                (5, customer),
                (6, columns),
                (7, too_long),
                (8, too_long),
                (9, "fir cus_8"),
            ])
        );
        let mut lines = CsvLines::of(&b"tenant,customer\nac\xffme,cus_1\n"[..]).expect("a header");
        let (line, _) = lines.next().expect("the line is read").expect("a line");
        assert_eq!(line.link, Err(LineError::NotUtf8));
    }

    #[test]
    fn carriage_return_alone_loses_no_record() {
        let file = "tenant,customer\nacme,cus_1\rbirch,cus_2\ncedar,\u{a0}cus_3\u{a0}\n";
        let several = "is longer than 4096 bytes or 64 columns, or has several records";
        assert_eq!(read(file), expected(&[(2, several), (3, "cedar cus_3")]));
        assert!(matches!(CsvLines::of(&b"tenant,customer\racme,cus_1\r"[..]), Err(CsvError::NoHeader)));
    }

    #[test]
    fn file_without_a_header_of_both_columns_is_refused() {
        for file in ["", "\n", "acme,cus_1\n", "tenant\n", "tenant,customer,tenant\n", "\"tenant,customer\n"]
        {
            assert!(matches!(CsvLines::of(file.as_bytes()), Err(CsvError::NoHeader)), "{file:?}");
        }
    }
}
