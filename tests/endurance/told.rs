//! What the topic files tell of events, over all rotations, and whether it is as the sender's books have it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ledger::Ledger;

/// The directories in which lines are.
#[derive(Debug, Default)]
pub struct Told(Vec<PathBuf>);

impl Told {
    pub fn look_in(&mut self, dir: &Path) {
        self.0.push(dir.to_owned());
    }

    /// Each event that was acknowledged was applied once, and was verified at least once.
    pub fn assert_each_once(&self, ledger: &Ledger) {
        let applied = self.count("subscription_state", "event.applied");
        let verified = self.count("webhook_signatures", "signature.accepted");
        let acknowledged = ledger.acknowledged();
        for event in &acknowledged {
            assert_eq!(applied.get(event), Some(&1), "the lines of {event}");
            assert!(verified.contains_key(event), "no line tells that {event} was verified");
        }
        assert_eq!(applied.len(), acknowledged.len(), "nothing else was applied");
    }

    /// How often each event is told of in a topic.
    fn count(&self, topic: &str, what: &str) -> HashMap<String, usize> {
        let mut count = HashMap::new();
        for file in self.files_of(topic) {
            let text = fs::read_to_string(&file).expect("the file is text");
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).expect("every line is whole");
                if line["event"] == what {
                    let event = line["stripe_event_id"].as_str().expect("an event");
                    *count.entry(event.to_owned()).or_default() += 1;
                }
            }
        }
        count
    }

    fn files_of(&self, topic: &str) -> Vec<PathBuf> {
        let entries = self.0.iter().flat_map(|dir| fs::read_dir(dir).expect("a directory"));
        let files = entries.map(|entry| entry.expect("an entry").path());
        let is_of = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{topic}.log")))
        };
        files.filter(is_of).collect()
    }
}
