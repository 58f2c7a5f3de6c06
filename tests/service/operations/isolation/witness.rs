//! What belongs to whom, and who has seen what.

use std::collections::{BTreeSet, HashMap};

use opentelemetry_sdk::trace::SpanData;
use serde_json::Value;

/// Who has something, or asks: the two tenants, by their place; whoever bought in the name of one of them; and a tenant
/// that has nothing.
pub const IMPOSTOR: usize = 2;
pub const STRANGER: usize = 3;
const ALL: usize = 4;

/// How the ids of what is somebody's own begin. Prices, products and portal configurations are the shop's.
const KINDS: [&str; 13] =
    ["cus_", "sub_", "cs_", "in_", "evt_", "pi_", "pm_", "si_", "bps_", "req_", "il_", "seti_", "ch_"];

#[derive(Default)]
pub struct Witness {
    owners: [Owner; ALL],
    seen: Vec<Seen>,
}

/// What nobody else may see.
#[derive(Default)]
struct Owner {
    /// Long and random: wherever one stands it is no coincidence.
    ids: BTreeSet<String>,
    /// Names, which may be a part of other names.
    name: Option<String>,
    /// What it buys, as answers tell it. The other tenant does not buy it.
    goods: Vec<String>,
}

struct Seen {
    by: usize,
    what: String,
    text: String,
}

impl Witness {
    pub fn name(&mut self, who: usize, name: &str) {
        self.owners[who].name = Some(name.to_owned());
    }

    pub fn sells(&mut self, who: usize, goods: impl IntoIterator<Item = String>) {
        self.owners[who].goods.extend(goods);
    }

    pub fn owns(&mut self, who: usize, id: impl Into<String>) {
        self.owners[who].ids.insert(id.into());
    }

    /// All ids in an object of Stripe's are its owner's.
    pub fn owns_all_in(&mut self, who: usize, object: &Value) {
        match object {
            Value::String(text) if KINDS.iter().any(|kind| text.starts_with(kind)) => self.owns(who, text),
            Value::Array(values) => values.iter().for_each(|value| self.owns_all_in(who, value)),
            Value::Object(fields) => fields.values().for_each(|value| self.owns_all_in(who, value)),
            _ => {}
        }
    }

    /// Somebody was shown something.
    pub fn saw(&mut self, by: usize, what: impl Into<String>, text: impl Into<String>) {
        self.seen.push(Seen { by, what: what.into(), text: text.into() });
    }

    /// Nobody has seen anything of another's.
    pub fn check_what_was_seen(&self) -> Result<(), String> {
        for Seen { by, what, text } in &self.seen {
            for (other, owner) in self.owners.iter().enumerate().filter(|(other, _)| other != by) {
                let goods = || owner.goods.iter().find(|goods| has_word(text, goods)).map(String::as_str);
                if let Some(found) = owner.in_text(text).or_else(goods) {
                    return Err(format!("{by} saw `{found}`, which is {other}'s, in {what}:\n{text}"));
                }
            }
        }
        Ok(())
    }

    /// What a line says beside its tenant's name is that tenant's: its traces, its requests.
    pub fn learn_from_lines(&mut self, lines: &[Value]) {
        for line in lines {
            let of = |owner: &Owner| owner.name.as_deref().is_some_and(|name| line["tenant_id"] == name);
            let Some(who) = self.owners.iter().position(of) else { continue };
            for field in ["journey_id", "trace_id", "span_id", "stripe_request_id"] {
                if let Some(id) = line[field].as_str() {
                    self.owns(who, id);
                }
            }
        }
    }

    /// No text, be it a line or a row, tells of two.
    pub fn check_apart(&self, what: &str, text: &str) -> Result<(), String> {
        let found = self.found_in(text);
        if found.len() > 1 { Err(format!("{what} tells of {found:?}: {text}")) } else { Ok(()) }
    }

    /// No span tells of two, no trace has spans of two, and no span of one links to a trace of another. What takes up the
    /// events of many at once is nobody's span, and may link to each.
    pub fn check_spans(&self, spans: &[SpanData]) -> Result<(), String> {
        let mut traces = HashMap::new();
        for span in spans {
            let text = text_of(span);
            self.check_apart("a span", &text)?;
            if let Some((who, found)) = self.found_in(&text).pop() {
                let trace = span.span_context.trace_id();
                let (first, _) = *traces.entry(trace).or_insert((who, found));
                if first != who {
                    return Err(format!(
                        "trace {trace} tells of {first} and, with `{found}`, of {who}: {text}"
                    ));
                }
            }
        }
        for span in spans {
            let Some((who, _)) = traces.get(&span.span_context.trace_id()) else { continue };
            for link in span.links.iter() {
                let there = link.span_context.trace_id();
                if let Some((other, found)) = traces.get(&there).filter(|(other, _)| other != who) {
                    let text = text_of(span);
                    return Err(format!(
                        "a span of {who} links to {there}, where `{found}` is {other}'s: {text}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Of whom the text tells, and by what.
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

/// Whether the word stands in the text, and not as a part of another name.
fn has_word(text: &str, word: &str) -> bool {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_of_a_name) && !text[at + word.len()..].starts_with(is_of_a_name)
    })
}

/// All that a span says but for whom it links to.
fn text_of(span: &SpanData) -> String {
    let SpanData { name, attributes, events, status, .. } = span;
    format!("{name} {attributes:?} {events:?} {status:?}")
}
