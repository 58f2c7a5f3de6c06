//! The lines of a CSV file of tenants and customers, one at a time: whatever is in the file, no more of it is held than a
//! line, and what is wrong with one line is wrong with no other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, StringRecord};

use crate::domain::ids::{CustomerId, InvalidId, TenantId};

/// The most bytes of a line: both ids at their longest take 320, and an export may have columns of its own.
const LINE: usize = 4096;

/// The most columns of a line.
const COLUMNS: usize = 64;

/// A line that has something in it.
#[derive(Debug)]
pub(super) struct Line {
    /// Which, from 1, as editors count.
    pub(super) number: u64,
    /// What it says.
    pub(super) says: Result<(TenantId, CustomerId), BadLine>,
}

/// Why a line says nothing that can be understood. Never repeats it: it can be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    /// Longer than any that is meant.
    #[error("is longer than {LINE} bytes or {COLUMNS} columns, or has several records")]
    TooLong,
    /// Not UTF-8.
    #[error("is not UTF-8")]
    NotText,
    /// Fewer or more columns than the header.
    #[error("has another number of columns than the header")]
    Columns,
    /// A name that no tenant has.
    #[error("has a tenant that is {0}")]
    Tenant(InvalidId),
    /// A name that no customer has.
    #[error("has a customer that is {0}")]
    Customer(InvalidId),
}

/// Why there are no lines to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLines {
    /// The file.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Its first line.
    #[error("does not begin with a line that names the columns `tenant` and `customer`, once each")]
    NoHeader,
}

/// The lines of a file.
pub(super) struct Lines<R> {
    file: BufReader<R>,
    number: u64,
    header: Header,
}

/// Where the two columns stand, and among how many.
#[derive(Debug, Clone, Copy)]
struct Header {
    tenant: usize,
    customer: usize,
    columns: usize,
}

impl Lines<File> {
    /// Opens a file, and says how many bytes it has.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), NoLines> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((Self::of(file)?, bytes))
    }
}

impl<R: Read> Lines<R> {
    fn of(file: R) -> Result<Self, NoLines> {
        let header = Header { tenant: 0, customer: 0, columns: 0 };
        let mut lines = Self { file: BufReader::new(file), number: 0, header };
        let first = lines.next_line()?.ok_or(NoLines::NoHeader)?;
        // Spreadsheets write a mark before all else.
        let first = first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&first);
        let names = columns(first).map_err(|_| NoLines::NoHeader)?;
        lines.header = Header::of(&names).ok_or(NoLines::NoHeader)?;
        Ok(lines)
    }

    /// The next line that has something in it, and how many bytes were read for it.
    pub(super) fn next(&mut self) -> Result<Option<(Line, u64)>, io::Error> {
        let mut bytes = 0;
        while let Some(line) = self.next_line()? {
            bytes += line.len() as u64;
            if !line.trim_ascii().is_empty() {
                let says = self.header.read(&line);
                return Ok(Some((Line { number: self.number, says }, bytes)));
            }
        }
        Ok(None)
    }

    /// The next line with its end, cut behind the bound if it is longer.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, io::Error> {
        let mut line = Vec::new();
        let limit = LINE as u64 + 1;
        (&mut self.file).take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > LINE {
            self.skip_line(line.last() == Some(&b'\n'))?;
        }
        Ok(Some(line))
    }

    fn skip_line(&mut self, is_over: bool) -> Result<(), io::Error> {
        let mut is_over = is_over;
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

/// The columns of a line. A quote ends with its line, so that one that nobody closed swallows no other line.
fn columns(line: &[u8]) -> Result<StringRecord, BadLine> {
    if line.len() > LINE {
        return Err(BadLine::TooLong);
    }
    let line = line.trim_ascii_end();
    let mut columns = ByteRecord::new();
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(line);
    reader.read_byte_record(&mut columns).map_err(|_| BadLine::Columns)?;
    // A carriage return alone ends a record too: what stands behind it would be lost.
    let is_one_record = reader.position().byte() >= line.len() as u64;
    if columns.len() > COLUMNS || !is_one_record {
        return Err(BadLine::TooLong);
    }
    StringRecord::from_byte_record(columns).map_err(|_| BadLine::NotText)
}

impl Header {
    fn of(names: &StringRecord) -> Option<Self> {
        let only = |name: &str| {
            let mut places =
                names.iter().enumerate().filter(|(_, one)| one.trim() == name).map(|(place, _)| place);
            places.next().filter(|_| places.next().is_none())
        };
        Some(Self { tenant: only("tenant")?, customer: only("customer")?, columns: names.len() })
    }

    fn read(&self, line: &[u8]) -> Result<(TenantId, CustomerId), BadLine> {
        let columns = columns(line)?;
        match (columns.get(self.tenant), columns.get(self.customer)) {
            (Some(tenant), Some(customer)) if columns.len() == self.columns => Ok((
                TenantId::parse(tenant.trim()).map_err(BadLine::Tenant)?,
                CustomerId::parse(customer.trim()).map_err(BadLine::Customer)?,
            )),
            _ => Err(BadLine::Columns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Vec<(u64, String)> {
        let mut lines = Lines::of(file.as_bytes()).expect("a header");
        let mut said = Vec::new();
        while let Some((Line { number, says }, _)) = lines.next().expect("it is read") {
            let says = says.map(|(tenant, customer)| format!("{tenant} {customer}"));
            said.push((number, says.unwrap_or_else(|error| error.to_string())));
        }
        said
    }

    fn said(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(number, says)| (*number, (*says).to_owned())).collect()
    }

    #[test]
    fn columns_are_found_by_their_names_and_others_are_passed_over() {
        let file = "\u{feff}\"customer\" , name, tenant\r\ncus_1,\"Acme, Inc.\",acme\r\n\r\ncus_2,,\"birch\"";
        assert_eq!(read(file), said(&[(2, "acme cus_1"), (4, "birch cus_2")]));
    }

    #[test]
    fn what_is_wrong_with_one_line_is_wrong_with_no_other() {
        let long = "x".repeat(10_000);
        let many = "a,".repeat(100);
        let file = format!(
            "tenant,customer\nacme,cus_1\n\"birch,cus_2\na b,cus_3\ncedar,sub_4\nelm,cus_5,more\n{long},cus_6\n{many}\nfir,cus_8\n"
        );
        let columns = "has another number of columns than the header";
        let tenant = "has a tenant that is not a tenant id (1 to 63 of letters, digits, `_`, `-`, `.`; not `.` or `..`, and not starting with `-`)";
        let customer = "has a customer that is not a Stripe customer id (`cus_...`)";
        let too_long = "is longer than 4096 bytes or 64 columns, or has several records";
        assert_eq!(
            read(&file),
            said(&[
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
        let mut lines = Lines::of(&b"tenant,customer\nac\xffme,cus_1\n"[..]).expect("a header");
        let (line, _) = lines.next().expect("it is read").expect("a line");
        assert_eq!(line.says, Err(BadLine::NotText));
    }

    #[test]
    fn carriage_return_alone_loses_no_record() {
        let file = "tenant,customer\nacme,cus_1\rbirch,cus_2\ncedar,\u{a0}cus_3\u{a0}\n";
        let several = "is longer than 4096 bytes or 64 columns, or has several records";
        assert_eq!(read(file), said(&[(2, several), (3, "cedar cus_3")]));
        assert!(matches!(Lines::of(&b"tenant,customer\racme,cus_1\r"[..]), Err(NoLines::NoHeader)));
    }

    #[test]
    fn without_a_header_that_names_both_nothing_is_read() {
        for file in ["", "\n", "acme,cus_1\n", "tenant\n", "tenant,customer,tenant\n", "\"tenant,customer\n"]
        {
            assert!(matches!(Lines::of(file.as_bytes()), Err(NoLines::NoHeader)), "{file:?}");
        }
    }
}
