//! The journey: everything that followed one checkout, known by the trace id of the request that began it; and the
//! W3C `traceparent` that carries such an id from one place to another.
//!
//! The format is W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/#traceparent-header>).

use std::fmt;
use std::str::FromStr;

/// The length of a version 00 `traceparent`: `00-` + 32 + `-` + 16 + `-` + 2.
const TRACEPARENT_LENGTH: usize = 55;

/// The only flag that level 1 defines.
const SAMPLED: u8 = 0x01;

/// Why a text is not what it was taken for. Never repeats the text, which may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct InvalidJourney(&'static str);

const NOT_A_JOURNEY: InvalidJourney = InvalidJourney("a journey id (32 lower-case hex digits, not all zero)");
const NOT_A_TRACEPARENT: InvalidJourney = InvalidJourney("a traceparent (W3C Trace Context)");

/// A journey's id, which is the trace id of the request that began it. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyId([u8; 16]);

impl JourneyId {
    /// Reads 32 lower-case hex digits that are not all zero.
    pub fn parse(text: &str) -> Result<Self, InvalidJourney> {
        lower_hex(text.as_bytes()).and_then(not_zero).map(Self).ok_or(NOT_A_JOURNEY)
    }

    /// Takes the bytes of a trace id; all zero is no trace.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, InvalidJourney> {
        not_zero(bytes).map(Self).ok_or(NOT_A_JOURNEY)
    }

    /// The bytes of the trace id.
    pub fn as_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl FromStr for JourneyId {
    type Err = InvalidJourney;

    fn from_str(text: &str) -> Result<Self, InvalidJourney> {
        Self::parse(text)
    }
}

impl fmt::Display for JourneyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl serde::Serialize for JourneyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for JourneyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One checkout's journey: where it began and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey {
    /// The span that began it.
    pub origin: Traceparent,
    /// When, in Unix milliseconds.
    pub began_at_ms: i64,
}

impl Journey {
    /// Its id: the trace id of its origin.
    pub fn id(&self) -> JourneyId {
        self.origin.journey_id()
    }

    /// Whether what happens now still leaves a mark in the journey's own trace. Nothing holds a trace open for longer.
    pub fn is_open(&self, window_hours: u32, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.began_at_ms) <= i64::from(window_hours) * 3_600_000
    }
}

/// One span, named so that another process can continue it or link to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    journey_id: JourneyId,
    span_id: [u8; 8],
    sampled: bool,
}

impl Traceparent {
    /// Names a span; a span id of all zero is no span.
    pub fn new(journey_id: JourneyId, span_id: [u8; 8], sampled: bool) -> Result<Self, InvalidJourney> {
        let span_id = not_zero(span_id).ok_or(NOT_A_TRACEPARENT)?;
        Ok(Self { journey_id, span_id, sampled })
    }

    /// Reads version 00 to the letter, and of a later version the fields that version 00 knows, as the standard asks.
    /// Flags that level 1 does not define are dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidJourney> {
        read_traceparent(text.as_bytes()).ok_or(NOT_A_TRACEPARENT)
    }

    /// The trace that the span belongs to.
    pub fn journey_id(self) -> JourneyId {
        self.journey_id
    }

    /// The span itself.
    pub fn span_id(self) -> [u8; 8] {
        self.span_id
    }

    /// The span's id as it is written: 16 lower-case hex digits.
    pub fn span_id_hex(self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.span_id))
    }

    /// Whether the span is recorded where it was made.
    pub fn sampled(self) -> bool {
        self.sampled
    }
}

impl FromStr for Traceparent {
    type Err = InvalidJourney;

    fn from_str(text: &str) -> Result<Self, InvalidJourney> {
        Self::parse(text)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.journey_id)?;
        write_hex(f, &self.span_id)?;
        f.write_str(if self.sampled { "-01" } else { "-00" })
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn read_traceparent(text: &[u8]) -> Option<Traceparent> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_LENGTH)?;
    let [version] = lower_hex(&known[..2])?;
    let ends_well = match version {
        0x00 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if !ends_well || [known[2], known[35], known[52]] != *b"---" {
        return None;
    }
    let [flags] = lower_hex(&known[53..])?;
    Some(Traceparent {
        journey_id: JourneyId(not_zero(lower_hex(&known[3..35])?)?),
        span_id: not_zero(lower_hex(&known[36..52])?)?,
        sampled: flags & SAMPLED != 0,
    })
}

/// Exactly `2 * N` lower-case hex digits. The standard forbids upper case, so `hex::decode` alone is too kind.
fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !digits.iter().any(u8::is_ascii_uppercase);
    (lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

fn not_zero<const N: usize>(bytes: [u8; N]) -> Option<[u8; N]> {
    (bytes != [0; N]).then_some(bytes)
}

/// At once, for every line and row has several of them.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut digits = [0; 32];
    let digits = &mut digits[..2 * bytes.len()];
    hex::encode_to_slice(bytes, digits).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_journey_id_is_32_lower_case_hex_digits_and_not_all_zero() {
        let journey = JourneyId::parse(TRACE).expect("the standard's own example");
        assert_eq!(journey.to_string(), TRACE);
        assert_eq!(JourneyId::from_bytes(journey.as_bytes()), Ok(journey));

        let upper = TRACE.to_uppercase();
        for bad in
            ["", "0af7", &upper, &"0".repeat(32), &"g".repeat(32), &format!("{TRACE}0"), &"é".repeat(16)]
        {
            assert!(JourneyId::parse(bad).is_err(), "{bad}");
        }
        assert!(JourneyId::from_bytes([0; 16]).is_err());
    }

    #[test]
    fn a_traceparent_reads_back_as_it_was_written() {
        for text in [format!("00-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-00")] {
            assert_eq!(Traceparent::parse(&text).expect("well-formed").to_string(), text);
        }
    }

    #[test]
    fn a_traceparent_gives_its_trace_its_span_and_its_flag() {
        let traceparent = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-01")).expect("well-formed");
        assert_eq!(traceparent.journey_id().to_string(), TRACE);
        assert_eq!(traceparent.span_id_hex(), SPAN);
        assert!(traceparent.sampled());
        let same = Traceparent::new(traceparent.journey_id(), traceparent.span_id(), true);
        assert_eq!(same, Ok(traceparent));
        assert!(Traceparent::new(traceparent.journey_id(), [0; 8], true).is_err());
    }

    #[test]
    fn unknown_flags_are_dropped() {
        let traceparent = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-fe")).expect("well-formed");
        assert!(!traceparent.sampled());
        assert_eq!(traceparent.to_string(), format!("00-{TRACE}-{SPAN}-00"));
    }

    #[test]
    fn version_00_is_read_to_the_letter() {
        let zero_trace = "0".repeat(32);
        let zero_span = "0".repeat(16);
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0G"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{zero_span}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("é-{TRACE}-{SPAN}-01"),
        ] {
            assert!(Traceparent::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_the_known_fields_are_read() {
        let known = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01")), known);
        assert_eq!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds")), known);
        assert!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01.what")).is_err());
    }
}
