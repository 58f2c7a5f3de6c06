//! A topic log line. [`Line`] is the allow-list of its fields, so that no secret, e-mail address or
//! URL gets in.

use std::time::Duration;

use serde::{Serialize, Serializer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::Topic;
use crate::domain::ids::{CustomerId, EventId, SecretName, SubscriptionId, TenantId, UserId};
use crate::domain::journey::{JourneyId, Traceparent};
use crate::telemetry::redact::{hash_if_email, replace_special_chars, truncate};
use crate::telemetry::spans::current_trace;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    /// Rejected or unexpected, but handled.
    Warn,
    /// The operator must act.
    Error,
}

/// Fields that are not set are left out.
///
/// ```
/// # use std::time::Duration;
/// # use billhook::domain::ids::{CustomerId, TenantId};
/// # use billhook::telemetry::topics::{Level, Line, Topic};
/// # let (tenant, customer) = (TenantId::parse("acme").unwrap(), CustomerId::parse("cus_1").unwrap());
/// # let (now, elapsed) = (0, Duration::ZERO);
/// Line::new(Topic::Billing, Level::Info, "portal.create.success", now)
///     .tenant(&tenant)
///     .customer(&customer)
///     .stripe_request("req_1")
///     .duration(elapsed)
///     .traced();
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Line {
    #[serde(rename = "time", serialize_with = "as_rfc3339")]
    at_ms: i64,
    level: Level,
    pub(super) topic: Topic,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<SubscriptionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_event_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journey_id: Option<JourneyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<JourneyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_name: Option<SecretName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<u64>,
}

impl Line {
    /// `at_ms` is in milliseconds of the Unix epoch.
    pub fn new(topic: Topic, level: Level, event: &'static str, at_ms: i64) -> Self {
        Self {
            at_ms,
            level,
            topic,
            event,
            outcome: None,
            tenant_id: None,
            user_id: None,
            customer_id: None,
            subscription_id: None,
            stripe_event_id: None,
            stripe_event_type: None,
            stripe_request_id: None,
            journey_id: None,
            trace_id: None,
            span_id: None,
            duration_ms: None,
            from: None,
            to: None,
            reason: None,
            skew_seconds: None,
            secret_name: None,
            suppressed: None,
        }
    }

    pub fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    pub fn tenant<'a>(self, tenant: impl Into<Option<&'a TenantId>>) -> Self {
        Self { tenant_id: tenant.into().cloned(), ..self }
    }

    /// Hashed if it contains an `@`, because it is then an e-mail address.
    pub fn user<'a>(self, user: impl Into<Option<&'a UserId>>) -> Self {
        Self { user_id: user.into().map(|user| hash_if_email(user.as_str())), ..self }
    }

    /// Hashed if it contains an `@`.
    pub fn customer<'a>(self, customer: impl Into<Option<&'a CustomerId>>) -> Self {
        Self { customer_id: customer.into().map(|customer| hash_if_email(customer.as_str())), ..self }
    }

    pub fn subscription<'a>(self, subscription: impl Into<Option<&'a SubscriptionId>>) -> Self {
        Self { subscription_id: subscription.into().cloned(), ..self }
    }

    pub fn stripe_event<'a>(self, event: impl Into<Option<&'a EventId>>) -> Self {
        Self { stripe_event_id: event.into().cloned(), ..self }
    }

    pub fn stripe_event_type<'a>(self, event_type: impl Into<Option<&'a str>>) -> Self {
        Self { stripe_event_type: event_type.into().map(replace_special_chars), ..self }
    }

    /// Stripe's id of our request, to quote to Stripe's support.
    pub fn stripe_request<'a>(self, request_id: impl Into<Option<&'a str>>) -> Self {
        Self { stripe_request_id: request_id.into().map(replace_special_chars), ..self }
    }

    pub fn journey(self, journey: impl Into<Option<JourneyId>>) -> Self {
        Self { journey_id: journey.into(), ..self }
    }

    /// Sets the caller's trace, if it is in one.
    pub fn traced(self) -> Self {
        self.in_trace(current_trace())
    }

    /// Sets a trace other than the caller's.
    pub fn in_trace(self, trace: impl Into<Option<Traceparent>>) -> Self {
        let trace = trace.into();
        let trace_id = trace.map(Traceparent::trace_id);
        Self { trace_id, span_id: trace.map(Traceparent::span_id_hex), ..self }
    }

    pub fn duration(self, duration: Duration) -> Self {
        Self { duration_ms: Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// The subscription's status before and after.
    pub fn transition<'a>(self, from: impl Into<Option<&'a str>>, to: impl Into<Option<&'a str>>) -> Self {
        Self {
            from: from.into().map(replace_special_chars),
            to: to.into().map(replace_special_chars),
            ..self
        }
    }

    /// A text of ours, never client input.
    pub fn reason<'a>(self, reason: impl Into<Option<&'a str>>) -> Self {
        Self { reason: reason.into().map(truncate), ..self }
    }

    /// The signature's timestamp relative to our clock.
    pub fn skew_seconds(self, skew: impl Into<Option<i64>>) -> Self {
        Self { skew_seconds: skew.into(), ..self }
    }

    /// The name of the secret that verified the signature.
    pub fn secret_name<'a>(self, name: impl Into<Option<&'a SecretName>>) -> Self {
        Self { secret_name: name.into().cloned(), ..self }
    }

    /// How many lines like this one were suppressed since the last one.
    pub fn suppressed(self, lines: u64) -> Self {
        Self { suppressed: (lines > 0).then_some(lines), ..self }
    }
}

pub(super) fn json_lines<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("strings and numbers serialize to JSON");
        text.push(b'\n');
    }
    text
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(TIME)
        .expect("a date-time has every component of the format")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
fn as_rfc3339<S: Serializer>(at_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at_ms))
}

/// The first line's time in milliseconds of the Unix epoch.
pub(super) fn time_of(line: &[u8]) -> Option<i64> {
    let text = line.strip_prefix(br#"{"time":""#)?.split(|byte| *byte == b'"').next()?;
    let time = PrimitiveDateTime::parse(str::from_utf8(text).ok()?, TIME).ok()?.assume_utc();
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use rustix::pipe::PIPE_BUF;

    use super::*;

    const NOON: i64 = 1_767_268_800_123;

    fn info(topic: Topic, event: &'static str) -> Line {
        Line::new(topic, Level::Info, event, NOON)
    }

    fn json(line: &Line) -> String {
        serde_json::to_string(line).expect("JSON")
    }

    fn traceparent() -> Traceparent {
        Traceparent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well-formed")
    }

    #[test]
    fn full_line_has_every_field_in_order() {
        let line = Line::new(Topic::SubscriptionState, Level::Warn, "subscription.transition", NOON)
            .outcome("applied")
            .tenant(&TenantId::parse("acme").expect("tenant"))
            .user(&UserId::parse("user-1").expect("user"))
            .customer(&CustomerId::parse("cus_1").expect("customer"))
            .subscription(&SubscriptionId::parse("sub_1").expect("subscription"))
            .stripe_event(&EventId::parse("evt_1").expect("event"))
            .stripe_event_type("customer.subscription.updated")
            .stripe_request("req_1")
            .journey(traceparent().trace_id())
            .in_trace(traceparent())
            .duration(Duration::from_millis(42))
            .transition("trialing", "active")
            .reason("paid")
            .skew_seconds(-3)
            .secret_name(&SecretName::parse("new").expect("name"))
            .suppressed(7);
        assert_eq!(
            json(&line),
            concat!(
                r#"{"time":"2026-01-01T12:00:00.123Z","level":"warn","topic":"subscription_state","#,
                r#""event":"subscription.transition","outcome":"applied","tenant_id":"acme","user_id":"user-1","#,
                r#""customer_id":"cus_1","subscription_id":"sub_1","stripe_event_id":"evt_1","#,
                r#""stripe_event_type":"customer.subscription.updated","stripe_request_id":"req_1","#,
                r#""journey_id":"0af7651916cd43dd8448eb211c80319c","trace_id":"0af7651916cd43dd8448eb211c80319c","#,
                r#""span_id":"b7ad6b7169203331","duration_ms":42,"from":"trialing","to":"active","reason":"paid","#,
                r#""skew_seconds":-3,"secret_name":"new","suppressed":7}"#
            )
        );
    }

    #[test]
    fn unknown_fields_are_left_out() {
        let line = info(Topic::Billing, "throttled")
            .tenant(None)
            .transition(None, None)
            .in_trace(None)
            .suppressed(0);
        assert_eq!(
            json(&line),
            r#"{"time":"2026-01-01T12:00:00.123Z","level":"info","topic":"billing","event":"throttled"}"#
        );
    }

    #[test]
    fn external_text_is_truncated_at_a_char_boundary() {
        let line = info(Topic::Billing, "throttled").reason("ä".repeat(1000).as_str());
        assert_eq!(line.reason, Some("ä".repeat(200)));
        assert_eq!(replace_special_chars(&"a".repeat(1000)).len(), 200);
    }

    #[test]
    fn user_id_is_hashed_only_if_it_is_an_email_address() {
        let user = |name| info(Topic::Billing, "throttled").user(&UserId::parse(name).expect("user")).user_id;
        let hashed = user("jane@example.com").expect("a user");
        assert_eq!(hashed, "sha256:8c87b489ce35cf2e");
        assert_ne!(user("john@example.com"), Some(hashed));
        assert_eq!(user("auth0|5f7c8ec7"), Some("auth0|5f7c8ec7".into()));
    }

    #[test]
    fn time_out_of_range_formats_as_the_epoch() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MIN), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn longest_line_fits_in_one_pipe_write() {
        let id = |prefix: &str| format!("{prefix}{}", "x".repeat(255 - prefix.len()));
        let text = "\u{1}".repeat(1000);
        let line = Line::new(Topic::WebhookSignatures, Level::Error, "subscription.transition", NOON)
            .outcome("quarantined")
            .tenant(&TenantId::parse(&"t".repeat(63)).expect("tenant"))
            .user(&UserId::parse(&"\"".repeat(255)).expect("user"))
            .customer(&CustomerId::parse(&id("cus_")).expect("customer"))
            .subscription(&SubscriptionId::parse(&id("sub_")).expect("subscription"))
            .stripe_event(&EventId::parse(&id("evt_")).expect("event"))
            .stripe_event_type(text.as_str())
            .stripe_request(text.as_str())
            .journey(traceparent().trace_id())
            .in_trace(traceparent())
            .duration(Duration::MAX)
            .transition(text.as_str(), text.as_str())
            .reason(text.as_str())
            .skew_seconds(i64::MIN)
            .secret_name(&SecretName::parse(&"n".repeat(32)).expect("name"))
            .suppressed(u64::MAX);
        let length = json(&line).len() + 1;
        assert!(length <= PIPE_BUF, "{length} bytes");
    }

    #[test]
    fn time_of_reads_only_the_time_of_a_line() {
        let line = json(&info(Topic::Billing, "throttled"));
        assert_eq!(time_of(line.as_bytes()), Some(NOON));
        for other in
            ["", "{", r#"{"time":""#, r#"{"time":"2026-01-01T12:0"#, r#"{"time":"yesterday"}"#, "plain text"]
        {
            assert_eq!(time_of(other.as_bytes()), None, "{other}");
        }
    }
}
