//! Compares the topic logs, over all rotated files, with the events that the load sent.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ledger::Ledger;

/// The directories with topic files.
#[derive(Debug, Default)]
pub struct LogAudit(Vec<PathBuf>);

impl LogAudit {
    pub fn add_dir(&mut self, dir: &Path) {
        self.0.push(dir.to_owned());
    }

    /// Each acknowledged event has one line that it was applied, and at least one that its
    /// signature was accepted.
    pub fn assert_one_line_per_event(&self, ledger: &Ledger) {
        let applied = self.count("subscription_state", "event.applied");
        let verified = self.count("webhook_signatures", "signature.accepted");
        let acknowledged = ledger.acknowledged();
        for event in &acknowledged {
            assert_eq!(applied.get(event), Some(&1), "lines of {event}");
            assert!(verified.contains_key(event), "no line says that {event} was verified");
        }
        assert_eq!(applied.len(), acknowledged.len(), "no other event was applied");
    }

    /// Lines with this `event` name in a topic, by Stripe event id.
    fn count(&self, topic: &str, event_name: &str) -> HashMap<String, usize> {
        let mut count = HashMap::new();
        for file in self.files_of(topic) {
            let text = fs::read_to_string(&file).expect("the file is text");
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).expect("every line is whole");
                if line["event"] == event_name {
                    let id = line["stripe_event_id"].as_str().expect("an event id");
                    *count.entry(id.to_owned()).or_default() += 1;
                }
            }
        }
        count
    }

    fn files_of(&self, topic: &str) -> Vec<PathBuf> {
        let entries = self.0.iter().flat_map(|dir| fs::read_dir(dir).expect("a directory"));
        let files = entries.map(|entry| entry.expect("an entry").path());
        let matches = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{topic}.log")))
        };
        files.filter(matches).collect()
    }
}
