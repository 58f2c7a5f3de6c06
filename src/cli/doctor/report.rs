//! What was found.

use std::fmt;
use std::io::IsTerminal;

use serde::Serialize;

use crate::cli::CommandError;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    /// As it should be.
    Green,
    /// Works, and wants to be looked at.
    Yellow,
    /// Refuses to work.
    Red,
    /// Was not looked at.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    health: Health,
    /// What is so.
    says: String,
    /// What mends it, unless it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// All that was looked at, in the order of its looking.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn green(&mut self, check: &'static str, says: impl fmt::Display) {
        self.0.push(Finding { check, health: Health::Green, says: says.to_string(), mend: None });
    }

    pub(super) fn yellow(&mut self, check: &'static str, says: impl fmt::Display, mend: impl fmt::Display) {
        self.add(check, Health::Yellow, says, mend);
    }

    pub(super) fn red(&mut self, check: &'static str, says: impl fmt::Display, mend: impl fmt::Display) {
        self.add(check, Health::Red, says, mend);
    }

    /// Notes checks that were not made, and why.
    pub(super) fn skip(&mut self, checks: &[&'static str], why: impl fmt::Display) {
        for check in checks {
            self.0.push(Finding { check, health: Health::Skipped, says: why.to_string(), mend: None });
        }
    }

    fn add(&mut self, check: &'static str, health: Health, says: impl fmt::Display, mend: impl fmt::Display) {
        self.0.push(Finding { check, health, says: says.to_string(), mend: Some(mend.to_string()) });
    }

    /// A line for each, in colour on a terminal, and how many there are of each health.
    pub(super) fn as_lines(&self) -> String {
        let in_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let lines = self.0.iter().map(|finding| finding.line(in_colour));
        lines.chain([self.summary()]).collect::<Vec<_>>().join("\n")
    }

    fn summary(&self) -> String {
        let [green, yellow, red, skipped] = Health::ALL.map(|health| self.count(health));
        format!("{green} green, {yellow} yellow, {red} red, {skipped} skipped")
    }

    pub(super) fn as_json(&self) -> String {
        let [green, yellow, red, skipped] = Health::ALL.map(|health| self.count(health));
        let summary = serde_json::json!({ "green": green, "yellow": yellow, "red": red, "skipped": skipped });
        let report = serde_json::json!({ "healthy": red == 0, "summary": summary, "checks": self.0 });
        format!("{report:#}")
    }

    /// Success unless something refuses to work.
    pub(super) fn conclude(&self) -> Result<(), CommandError> {
        match self.count(Health::Red) {
            0 => Ok(()),
            reds => Err(CommandError::Failed(format!("{reds} of {} checks are red", self.0.len()))),
        }
    }

    fn count(&self, health: Health) -> usize {
        self.0.iter().filter(|finding| finding.health == health).count()
    }
}

impl Finding {
    fn line(&self, in_colour: bool) -> String {
        let Self { check, health, says, mend } = self;
        let health = health.word(in_colour);
        match mend {
            Some(mend) => format!("{health} {check:<16} {says}: {mend}"),
            None => format!("{health} {check:<16} {says}"),
        }
    }
}

impl Health {
    const ALL: [Self; 4] = [Self::Green, Self::Yellow, Self::Red, Self::Skipped];

    /// The word, as wide as the widest, in its colour if that can be shown.
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
