//! The findings of all checks, as a table and as JSON.

use std::fmt;
use std::io::IsTerminal;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::CommandError;
use crate::cli::text::{LINE_WIDTH, wrap};
use crate::store::StoreError;

/// The column at which the text of a finding starts: the health and the check are before it.
const TEXT_COLUMN: usize = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    /// Good.
    Green,
    /// Works, but needs attention.
    Yellow,
    /// Does not work.
    Red,
    /// Was not checked.
    Skipped,
}

/// In JSON, the text is `says`.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    health: Health,
    #[serde(rename = "says")]
    text: String,
    /// How to fix the problem. `None` if there is none, or nothing was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The findings in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn green(&mut self, check: &'static str, text: impl fmt::Display) {
        self.0.push(Finding { check, health: Health::Green, text: text.to_string(), fix: None });
    }

    pub(super) fn yellow(&mut self, check: &'static str, text: impl fmt::Display, fix: impl fmt::Display) {
        let (text, fix) = (text.to_string(), Some(fix.to_string()));
        self.0.push(Finding { check, health: Health::Yellow, text, fix });
    }

    pub(super) fn red(&mut self, check: &'static str, text: impl fmt::Display, fix: impl fmt::Display) {
        let (text, fix) = (text.to_string(), Some(fix.to_string()));
        self.0.push(Finding { check, health: Health::Red, text, fix });
    }

    pub(super) fn database_error(&mut self, check: &'static str, error: &StoreError) {
        self.red(check, error, "look at the database's log");
    }

    /// Records that checks were not made, and why.
    pub(super) fn skip(&mut self, checks: &[&'static str], why: impl fmt::Display) {
        for check in checks {
            self.0.push(Finding { check, health: Health::Skipped, text: why.to_string(), fix: None });
        }
    }

    /// A table with colours on a terminal, and the number of findings of each health.
    pub(super) fn as_text(&self) -> String {
        let in_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let [green, yellow, red, skipped] = Health::ALL.map(|health| self.count(health));
        let heading = format!("{:<7} {:<14} {}", "HEALTH", "CHECK", "FINDING");
        let summary = format!("{green} green, {yellow} yellow, {red} red, {skipped} skipped");
        let findings = self.0.iter().map(|finding| finding.lines(in_colour));
        std::iter::once(heading).chain(findings).chain([summary]).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn as_json(&self) -> Value {
        let [green, yellow, red, skipped] = Health::ALL.map(|health| self.count(health));
        let summary = json!({ "green": green, "yellow": yellow, "red": red, "skipped": skipped });
        json!({ "healthy": red == 0, "summary": summary, "checks": self.0 })
    }

    /// Success unless a check is red.
    pub(super) fn conclude(&self) -> Result<(), CommandError> {
        match self.count(Health::Red) {
            0 => Ok(()),
            1 => Err(CommandError::Failed(format!("1 of {} checks is red", self.0.len()))),
            reds => Err(CommandError::Failed(format!("{reds} of {} checks are red", self.0.len()))),
        }
    }

    fn count(&self, health: Health) -> usize {
        self.0.iter().filter(|finding| finding.health == health).count()
    }
}

impl Finding {
    /// The text and the fix, each wrapped.
    fn lines(&self, in_colour: bool) -> String {
        let mut lines = wrap(&self.text, LINE_WIDTH - TEXT_COLUMN);
        if let Some(fix) = &self.fix {
            lines.extend(wrap(&format!("Fix: {fix}"), LINE_WIDTH - TEXT_COLUMN));
        }
        let text = lines.join(&format!("\n{:TEXT_COLUMN$}", ""));
        format!("{} {:<14} {text}", self.health.word(in_colour), self.check)
    }
}

impl Health {
    const ALL: [Self; 4] = [Self::Green, Self::Yellow, Self::Red, Self::Skipped];

    /// The word, padded to the longest one.
    fn word(self, in_colour: bool) -> String {
        let (word, colour) = match self {
            Self::Green => ("green  ", 32),
            Self::Yellow => ("yellow ", 33),
            Self::Red => ("red    ", 31),
            Self::Skipped => ("skipped", 90),
        };
        if in_colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_finding_is_wrapped_below_its_column() {
        let mut report = Report::default();
        report.green("database", "answers");
        report.red("configuration", "word ".repeat(20).trim_end(), "run `billhook migrate`");
        let text = report.as_text();
        assert!(
            text.starts_with("HEALTH  CHECK          FINDING\ngreen   database       answers\nred     "),
            "{text}"
        );
        assert!(
            text.contains(&format!("\n{:23}word", "")) && text.contains(&format!("\n{:23}Fix: run", "")),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= LINE_WIDTH), "{text}");
        assert!(text.ends_with("\n1 green, 0 yellow, 1 red, 0 skipped"), "{text}");
    }
}
