//! Journey ids and W3C `traceparent` values, in the format of Trace Context, level 1
//! (<https://www.w3.org/TR/trace-context-1/#traceparent-header>).

use std::fmt;
use std::str::FromStr;

/// Of version 00: `00-` + 32 + `-` + 16 + `-` + 2.
const TRACEPARENT_LENGTH: usize = 55;

/// The only flag that level 1 defines.
const SAMPLED_FLAG: u8 = 0x01;

/// Does not contain the rejected text, which may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct InvalidJourney(&'static str);

const NOT_A_JOURNEY: InvalidJourney = InvalidJourney("a journey id (32 lower-case hex digits, not all zero)");
const NOT_A_TRACEPARENT: InvalidJourney = InvalidJourney("a traceparent (W3C Trace Context)");

/// The trace id of the journey's root span. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyId([u8; 16]);

impl JourneyId {
    /// Accepts 32 lower-case hex digits that are not all zero.
    pub fn parse(text: &str) -> Result<Self, InvalidJourney> {
        lower_hex(text.as_bytes()).and_then(not_zero).map(Self).ok_or(NOT_A_JOURNEY)
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, InvalidJourney> {
        not_zero(bytes).map(Self).ok_or(NOT_A_JOURNEY)
    }

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

/// Everything that follows one checkout, or a subscription that no checkout of ours created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey {
    /// The root span.
    pub origin: Traceparent,
    pub started_at_ms: i64,
}

impl Journey {
    pub fn id(&self) -> JourneyId {
        self.origin.trace_id()
    }

    /// Whether events still add steps to the journey's trace.
    pub fn is_open(&self, window_hours: u32, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.started_at_ms) <= i64::from(window_hours) * 3_600_000
    }
}

/// A reference to a span, which another process can continue or link to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace_id: JourneyId,
    span_id: [u8; 8],
    sampled: bool,
}

impl Traceparent {
    /// Fails if the span id is all zero.
    pub fn new(trace_id: JourneyId, span_id: [u8; 8], sampled: bool) -> Result<Self, InvalidJourney> {
        let span_id = not_zero(span_id).ok_or(NOT_A_TRACEPARENT)?;
        Ok(Self { trace_id, span_id, sampled })
    }

    /// Parses version 00 strictly. Of later versions it reads the fields of version 00, as the
    /// standard requires. Flags that level 1 does not define are dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidJourney> {
        parse_traceparent(text.as_bytes()).ok_or(NOT_A_TRACEPARENT)
    }

    pub fn trace_id(self) -> JourneyId {
        self.trace_id
    }

    pub fn span_id(self) -> [u8; 8] {
        self.span_id
    }

    /// 16 lower-case hex digits.
    pub fn span_id_hex(self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.span_id))
    }

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
        write!(f, "00-{}-", self.trace_id)?;
        write_hex(f, &self.span_id)?;
        f.write_str(if self.sampled { "-01" } else { "-00" })
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn parse_traceparent(text: &[u8]) -> Option<Traceparent> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_LENGTH)?;
    let [version] = lower_hex(&known[..2])?;
    let is_complete = match version {
        0x00 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if !is_complete || [known[2], known[35], known[52]] != *b"---" {
        return None;
    }
    let [flags] = lower_hex(&known[53..])?;
    Some(Traceparent {
        trace_id: JourneyId(not_zero(lower_hex(&known[3..35])?)?),
        span_id: not_zero(lower_hex(&known[36..52])?)?,
        sampled: flags & SAMPLED_FLAG != 0,
    })
}

/// Exactly `2 * N` lower-case hex digits. The standard forbids upper case, which `hex` accepts.
fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !digits.iter().any(u8::is_ascii_uppercase);
    (is_lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

fn not_zero<const N: usize>(bytes: [u8; N]) -> Option<[u8; N]> {
    (bytes != [0; N]).then_some(bytes)
}

/// Writes all digits in one call, since every log line and row has several ids.
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
    fn journey_id_is_32_lower_case_hex_digits_and_not_all_zero() {
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
    fn traceparent_parses_back_to_the_same_text() {
        for text in [format!("00-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-00")] {
            assert_eq!(Traceparent::parse(&text).expect("well-formed").to_string(), text);
        }
    }

    #[test]
    fn traceparent_has_trace_id_span_id_and_flag() {
        let traceparent = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-01")).expect("well-formed");
        assert_eq!(traceparent.trace_id().to_string(), TRACE);
        assert_eq!(traceparent.span_id_hex(), SPAN);
        assert!(traceparent.sampled());
        let same = Traceparent::new(traceparent.trace_id(), traceparent.span_id(), true);
        assert_eq!(same, Ok(traceparent));
        assert!(Traceparent::new(traceparent.trace_id(), [0; 8], true).is_err());
    }

    #[test]
    fn traceparent_drops_unknown_flags() {
        let traceparent = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-fe")).expect("well-formed");
        assert!(!traceparent.sampled());
        assert_eq!(traceparent.to_string(), format!("00-{TRACE}-{SPAN}-00"));
    }

    #[test]
    fn traceparent_of_version_00_is_parsed_strictly() {
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
    fn traceparent_of_later_version_has_the_known_fields() {
        let known = Traceparent::parse(&format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01")), known);
        assert_eq!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds")), known);
        assert!(Traceparent::parse(&format!("cc-{TRACE}-{SPAN}-01.what")).is_err());
    }
}
