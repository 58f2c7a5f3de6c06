//! Tables for people, at most [`LINE_WIDTH`] columns wide. JSON has the same values for tools.

use std::iter;
use std::ops::Range;

use super::text::{INDENT, LINE_WIDTH, wrap};

const SEPARATOR: &str = "  ";

/// The column at which the values of [`fields`] start.
const FIELD_NAME_WIDTH: usize = 20;

/// A table under a heading, each column as wide as its widest cell. If all columns do not fit on
/// one line, every row and the heading continue on indented lines. A continuation line without a
/// value is left out. A cell that fits on no line is cut.
pub(super) fn with_heading<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = iter::once(&heading).chain(rows).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default().min(LINE_WIDTH - INDENT.len())
    });
    let lines = columns_of_lines(&widths);
    let row_lines = |row: &[String; N]| {
        let has_value = |columns: &Range<usize>| {
            columns.start == 0 || row[columns.clone()].iter().any(|cell| !matches!(cell.as_str(), "" | "-"))
        };
        let line = |columns: &Range<usize>| {
            let indent = if columns.start == 0 { "" } else { INDENT };
            let cells = columns.clone().map(|column| {
                let width = widths[column];
                format!("{:<width$}", cut(&row[column], width))
            });
            format!("{indent}{}", cells.collect::<Vec<_>>().join(SEPARATOR)).trim_end().to_owned()
        };
        lines.iter().filter(|columns| has_value(columns)).map(line).collect::<Vec<_>>()
    };
    iter::once(&heading).chain(rows).flat_map(row_lines).collect::<Vec<_>>().join("\n")
}

/// Splits the columns into the lines of a row.
fn columns_of_lines(widths: &[usize]) -> Vec<Range<usize>> {
    let (mut lines, mut start, mut used) = (Vec::new(), 0, 0);
    for (column, width) in widths.iter().enumerate() {
        let needed = if column == 0 { *width } else { SEPARATOR.len() + width };
        if used + needed > LINE_WIDTH {
            lines.push(start..column);
            (start, used) = (column, INDENT.len() + width);
        } else {
            used += needed;
        }
    }
    lines.push(start..widths.len());
    lines
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width - 1).chain(iter::once('…')).collect()
}

/// One line for each field, its value wrapped. A word that is too long for the column of values
/// follows on lines of its own.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let value_column = FIELD_NAME_WIDTH + 1;
    let field = |(name, value): &(&str, String)| {
        let lines = wrap(value, LINE_WIDTH - value_column);
        if lines.iter().any(|line| line.chars().count() > LINE_WIDTH - value_column) {
            let indent = INDENT.repeat(2);
            let lines = wrap(value, LINE_WIDTH - indent.len());
            return format!("{name}\n{indent}{}", lines.join(&format!("\n{indent}")));
        }
        format!("{name:<FIELD_NAME_WIDTH$} {}", lines.join(&format!("\n{:value_column$}", "")))
            .trim_end()
            .to_owned()
    };
    fields.iter().map(field).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    fn assert_fits(table: &str) {
        assert!(table.lines().all(|line| line.chars().count() <= LINE_WIDTH), "{table}");
    }

    #[test]
    fn column_is_as_wide_as_its_widest_cell_or_heading() {
        let rows = [row(["a", "1", ""]), row(["büro", "22", "x"])];
        let table = with_heading(["NAME", "NUMBER", "NOTE"], &rows);
        assert_eq!(table, "NAME  NUMBER  NOTE\na     1\nbüro  22      x");
    }

    #[test]
    fn wide_row_continues_on_indented_lines_without_empty_ones() {
        let (long, longer) = ("l".repeat(40), "m".repeat(60));
        let rows = [row(["a", &long, &longer, "z"]), row(["b", "-", "-", ""])];
        let table = with_heading(["A", "B", "C", "D"], &rows);
        let heading = format!("A  B\n  {:<60}  D", "C");
        assert_eq!(table, format!("{heading}\na  {long}\n  {longer}  z\nb  -"));
        assert_fits(&table);
    }

    #[test]
    fn cell_wider_than_a_line_is_cut() {
        let table = with_heading(["A", "B"], &[row(["a", &"ü".repeat(255)])]);
        assert_fits(&table);
        assert!(table.ends_with("ü…"), "{table}");
    }

    #[test]
    fn field_is_wrapped_and_a_long_word_gets_its_own_line() {
        let shown = fields(&[
            ("tenant", "t".repeat(64)),
            ("payload", "word ".repeat(30).trim_end().to_owned()),
            ("reason", String::new()),
        ]);
        assert_fits(&shown);
        assert!(
            shown.starts_with(&format!("tenant\n    {}\npayload              word", "t".repeat(64))),
            "{shown}"
        );
        assert!(shown.contains(&format!("\n{:21}word", "")) && shown.ends_with("\nreason"), "{shown}");
    }
}
