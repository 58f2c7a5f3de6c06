//! Tables for people: one line a row, each column as wide as its widest cell.

/// A table under a heading.
pub(super) fn under<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let all: Vec<&[String; N]> = std::iter::once(&heading).chain(rows).collect();
    lines(&all)
}

/// A table whose lines speak for themselves. A column in which nothing stands takes no room.
pub(super) fn plain<const N: usize>(rows: &[[String; N]]) -> String {
    lines(&rows.iter().collect::<Vec<_>>())
}

/// One thing, a line for each of its fields.
pub(super) fn fields(of: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{name:<20} {value}");
    of.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What stands for nothing.
pub(super) fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

fn lines<const N: usize>(rows: &[&[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &&[String; N]| {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let line = cells.map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> [String; 3] {
        cells.map(str::to_owned)
    }

    #[test]
    fn each_column_is_as_wide_as_its_widest_cell_or_its_heading() {
        let rows = [row(["a", "1", ""]), row(["büro", "22", "x"])];
        assert_eq!(under(["NAME", "NUMBER", "NOTE"], &rows), "NAME  NUMBER  NOTE\na     1\nbüro  22      x");
        assert_eq!(plain(&rows[..1]), "a  1");
    }
}
