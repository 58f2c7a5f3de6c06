//! How commands write text for people: the width of a line, wrapping, plurals, and the one format
//! of a time.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The columns of the narrowest terminal that output is written for.
pub(super) const LINE_WIDTH: usize = 80;

/// Starts the second and later lines of a row or a sentence.
pub(super) const INDENT: &str = "  ";

/// RFC 3339 in UTC, in whole seconds: `2026-11-30T18:50:43Z`. JSON and log lines have milliseconds.
pub(super) fn time(at_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000));
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{at_ms} ms"))
}

pub(super) fn time_of_seconds(at_seconds: i64) -> String {
    time(at_seconds.saturating_mul(1000))
}

/// "-" stands for a missing value.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The number with its noun: `1 tenant`, `2 tenants`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Wraps the lines that are too long. They continue on indented lines, as a row of a table does.
pub(super) fn wrap_lines(text: &str) -> String {
    let wrapped = |line: &str| {
        if line.chars().count() <= LINE_WIDTH {
            return line.to_owned();
        }
        wrap(line, LINE_WIDTH - INDENT.len()).join(&format!("\n{INDENT}"))
    };
    text.lines().map(wrapped).collect::<Vec<_>>().join("\n")
}

/// Breaks a text at spaces into lines of at most `width` columns. A word or a command in backticks
/// that is longer stays whole, so that it can be copied.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut in_backticks = false;
    for word in text.split(|c: char| {
        in_backticks ^= c == '`';
        c == ' ' && !in_backticks
    }) {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc3339_in_utc_without_a_fraction() {
        assert_eq!(time(1_796_064_643_999), "2026-11-30T18:50:43Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
        assert_eq!(time_of_seconds(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn long_line_continues_on_an_indented_line() {
        let (short, long) = ("s".repeat(80), format!("{} end", "l".repeat(77)));
        assert_eq!(wrap_lines(&format!("{short}\n{long}")), format!("{short}\n{}\n  end", "l".repeat(77)));
    }

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|number| count(number, "tenant")), ["0 tenants", "1 tenant", "2 tenants"]);
    }

    #[test]
    fn wrap_keeps_long_words_and_commands_whole() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(
            wrap("set `A B C` or https://example.com", 10),
            ["set", "`A B C` or", "https://example.com"]
        );
        assert_eq!(wrap("", 4), [""]);
    }
}
