//! Records the owner of each id and what each caller has seen, and finds leaks.

use std::collections::{BTreeSet, HashMap};

use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;

/// Callers and owners are the two tenants, by index, then a buyer who used a tenant's name, and a
/// tenant without billing.
pub const IMPOSTOR: usize = 2;
pub const STRANGER: usize = 3;
const OWNER_COUNT: usize = 4;

/// Prefixes of the ids that belong to an owner. Prices, products and portal configurations belong
/// to none.
const OWNED_ID_PREFIXES: [&str; 13] =
    ["cus_", "sub_", "cs_", "in_", "evt_", "pi_", "pm_", "si_", "bps_", "req_", "il_", "seti_", "ch_"];

#[derive(Default)]
pub struct LeakDetector {
    owners: [Owner; OWNER_COUNT],
    observations: Vec<Observation>,
}

/// What no other caller may see.
#[derive(Default)]
struct Owner {
    /// Long and random, so that any occurrence in a text counts.
    ids: BTreeSet<String>,
    /// May be part of a longer name, so that only whole words count.
    name: Option<String>,
    /// Its prices, plan and quantities, which the other tenant does not have.
    purchases: Vec<String>,
}

struct Observation {
    by: usize,
    what: String,
    text: String,
}

impl LeakDetector {
    pub fn name(&mut self, who: usize, name: &str) {
        self.owners[who].name = Some(name.to_owned());
    }

    pub fn buys(&mut self, who: usize, purchases: impl IntoIterator<Item = String>) {
        self.owners[who].purchases.extend(purchases);
    }

    pub fn owns(&mut self, who: usize, id: impl Into<String>) {
        self.owners[who].ids.insert(id.into());
    }

    /// All ids in a Stripe object belong to its owner.
    pub fn owns_all_in(&mut self, who: usize, object: &Value) {
        match object {
            Value::String(text) if OWNED_ID_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) => {
                self.owns(who, text);
            }
            Value::Array(values) => values.iter().for_each(|value| self.owns_all_in(who, value)),
            Value::Object(fields) => fields.values().for_each(|value| self.owns_all_in(who, value)),
            _ => {}
        }
    }

    pub fn saw(&mut self, by: usize, what: impl Into<String>, text: impl Into<String>) {
        self.observations.push(Observation { by, what: what.into(), text: text.into() });
    }

    /// Checks that no caller has seen anything of another owner.
    pub fn check_observations(&self) -> Result<(), String> {
        for Observation { by, what, text } in &self.observations {
            for (other, owner) in self.owners.iter().enumerate().filter(|(other, _)| other != by) {
                let purchases =
                    || owner.purchases.iter().find(|purchase| has_word(text, purchase)).map(String::as_str);
                if let Some(found) = owner.in_text(text).or_else(purchases) {
                    return Err(format!("{by} saw `{found}`, which belongs to {other}, in {what}:\n{text}"));
                }
            }
        }
        Ok(())
    }

    /// The trace ids and request ids on a log line belong to the line's tenant.
    pub fn learn_from_lines(&mut self, lines: &[Value]) {
        for line in lines {
            let is_owner =
                |owner: &Owner| owner.name.as_deref().is_some_and(|name| line["tenant_id"] == name);
            let Some(who) = self.owners.iter().position(is_owner) else { continue };
            for field in ["journey_id", "trace_id", "span_id", "stripe_request_id"] {
                if let Some(id) = line[field].as_str() {
                    self.owns(who, id);
                }
            }
        }
    }

    /// Checks that a log line, row or span names at most one owner.
    pub fn check_single_owner(&self, what: &str, text: &str) -> Result<(), String> {
        let found = self.found_in(text);
        if found.len() > 1 { Err(format!("{what} names {found:?}: {text}")) } else { Ok(()) }
    }

    /// Checks that no span and no trace names two owners, and that no span of one owner links to
    /// another's trace. The span of a batch has no owner and may link to many.
    pub fn check_spans(&self, spans: &[SpanData]) -> Result<(), String> {
        let mut traces = HashMap::new();
        for span in spans {
            let text = text_of(span);
            self.check_single_owner("a span", &text)?;
            if let Some((who, found)) = self.found_in(&text).pop() {
                let trace = span.span_context.trace_id();
                let (first, _) = *traces.entry(trace).or_insert((who, found));
                if first != who {
                    return Err(format!("trace {trace} names {first} and, with `{found}`, {who}: {text}"));
                }
            }
        }
        for span in spans {
            let Some((who, _)) = traces.get(&span.span_context.trace_id()) else { continue };
            for link in span.links.iter() {
                let linked = link.span_context.trace_id();
                if let Some((other, found)) = traces.get(&linked).filter(|(other, _)| other != who) {
                    let text = text_of(span);
                    return Err(format!(
                        "a span of {who} links to trace {linked}, where `{found}` belongs to {other}: {text}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The owners that a text names, each with the id or name found.
    fn found_in(&self, text: &str) -> Vec<(usize, &str)> {
        let owners = self.owners.iter().enumerate();
        owners.filter_map(|(who, owner)| Some((who, owner.in_text(text)?))).collect()
    }
}

impl Owner {
    fn in_text(&self, text: &str) -> Option<&str> {
        let id = self.ids.iter().find(|id| text.contains(id.as_str())).map(String::as_str);
        id.or_else(|| self.name.as_deref().filter(|name| has_word(text, name)))
    }
}

/// Whether the text contains the word, not as part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_name_char) && !text[at + word.len()..].starts_with(is_name_char)
    })
}

/// Everything in a span except its links.
fn text_of(span: &SpanData) -> String {
    let SpanData { name, attributes, events, status, .. } = span;
    format!("{name} {attributes:?} {events:?} {status:?}")
}
