//! The topic files: `billing.log`, `webhook_signatures.log` and `subscription_state.log`, one JSON object a line.
//!
//! They are written by name and not through `tracing`, so that no `RUST_LOG` can mute them; and what can stand in a
//! line is what [`Line`] has a word for, so that a secret, an e-mail address or a URL has no way in.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::Seldom;
use super::spans::current_trace;
use crate::domain::ids::{CustomerId, EventId, SubscriptionId, TenantId, UserId};
use crate::domain::journey::{JourneyId, Traceparent};

/// The most characters of a text that we did not write ourselves: longer than any event type, request id or status
/// of Stripe's, short enough that a line stays a line.
const TEXT_LENGTH: usize = 200;

/// Owner and group read, only the owner writes: the lines name customers.
const FILE_MODE: u32 = 0o640;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Which file a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Checkout and portal: what the tenants' people did.
    Billing,
    /// Every webhook's signature, accepted or rejected.
    WebhookSignatures,
    /// What became of the events, and every transition.
    SubscriptionState,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Billing, Self::WebhookSignatures, Self::SubscriptionState];

    /// The word.
    pub fn as_str(self) -> &'static str {
        self.file_name().trim_end_matches(".log")
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Billing => "billing.log",
            Self::WebhookSignatures => "webhook_signatures.log",
            Self::SubscriptionState => "subscription_state.log",
        }
    }
}

/// How much a line should worry its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Info,
    /// Refused or odd, but handled.
    Warn,
    /// Somebody has to look.
    Error,
}

/// One line of a topic file. Its setters are the whole vocabulary; what is unknown is absent.
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
    time: String,
    level: Level,
    topic: Topic,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journey_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
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
    secret_index: Option<usize>,
}

impl Line {
    /// A line that says what happened and when, in milliseconds of the Unix epoch.
    pub fn new(topic: Topic, level: Level, event: &'static str, at_milliseconds: i64) -> Self {
        Self {
            time: rfc3339(at_milliseconds),
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
            secret_index: None,
        }
    }

    /// What became of it.
    pub fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    /// Whose it is.
    pub fn tenant<'a>(self, tenant: impl Into<Option<&'a TenantId>>) -> Self {
        Self { tenant_id: tenant.into().map(ToString::to_string), ..self }
    }

    /// Who asked. A name with an `@` is hashed, for it is somebody's address.
    pub fn user<'a>(self, user: impl Into<Option<&'a UserId>>) -> Self {
        Self { user_id: user.into().map(user_name), ..self }
    }

    /// Stripe's customer.
    pub fn customer<'a>(self, customer: impl Into<Option<&'a CustomerId>>) -> Self {
        Self { customer_id: customer.into().map(ToString::to_string), ..self }
    }

    /// Stripe's subscription.
    pub fn subscription<'a>(self, subscription: impl Into<Option<&'a SubscriptionId>>) -> Self {
        Self { subscription_id: subscription.into().map(ToString::to_string), ..self }
    }

    /// The event that Stripe sent.
    pub fn stripe_event<'a>(self, event: impl Into<Option<&'a EventId>>) -> Self {
        Self { stripe_event_id: event.into().map(ToString::to_string), ..self }
    }

    /// The type of that event, as Stripe wrote it.
    pub fn stripe_event_type<'a>(self, event_type: impl Into<Option<&'a str>>) -> Self {
        Self { stripe_event_type: event_type.into().map(token), ..self }
    }

    /// Stripe's own id of our request: the one to quote to its support.
    pub fn stripe_request<'a>(self, request_id: impl Into<Option<&'a str>>) -> Self {
        Self { stripe_request_id: request_id.into().map(token), ..self }
    }

    /// The journey that it is a part of.
    pub fn journey(self, journey: impl Into<Option<JourneyId>>) -> Self {
        Self { journey_id: journey.into().map(|id| id.to_string()), ..self }
    }

    /// The trace that the caller is in, if it is in one.
    pub fn traced(self) -> Self {
        self.in_trace(current_trace())
    }

    /// The trace in which it happened, when that is not the caller's.
    pub fn in_trace(self, trace: impl Into<Option<Traceparent>>) -> Self {
        let trace = trace.into();
        let trace_id = trace.map(|trace| trace.journey_id().to_string());
        Self { trace_id, span_id: trace.map(Traceparent::span_id_hex), ..self }
    }

    /// How long it took.
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration_ms: Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// The subscription's status before and after.
    pub fn transition<'a>(self, from: impl Into<Option<&'a str>>, to: impl Into<Option<&'a str>>) -> Self {
        Self { from: from.into().map(token), to: to.into().map(token), ..self }
    }

    /// Why, in words of our own: never what somebody sent us.
    pub fn reason<'a>(self, reason: impl Into<Option<&'a str>>) -> Self {
        Self { reason: reason.into().map(cut), ..self }
    }

    /// How far the signature's time is from ours.
    pub fn skew_seconds(self, skew: impl Into<Option<i64>>) -> Self {
        Self { skew_seconds: skew.into(), ..self }
    }

    /// Which of the configured secrets verified, counted from 0. Never the secret.
    pub fn secret_index(self, position: impl Into<Option<usize>>) -> Self {
        Self { secret_index: position.into(), ..self }
    }
}

/// The three topic files of a directory. Clones share them.
#[derive(Debug, Clone)]
pub struct TopicLogs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    files: [Mutex<TopicFile>; Topic::ALL.len()],
    write_errors: AtomicU64,
    told: Seldom,
}

impl TopicLogs {
    /// Opens the files, making the directory if need be. A directory that cannot be written never stops the service:
    /// it is told on stderr and tried again with every line.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        let logs = Self(Arc::new(Shared {
            dir: dir.into(),
            files: Default::default(),
            write_errors: AtomicU64::new(0),
            told: Seldom::default(),
        }));
        logs.reopen();
        logs
    }

    /// Adds the lines to their files, those of one topic in a single write. When this returns they are the kernel's:
    /// a kill loses none of them. A failure is counted and told on stderr, and is never the caller's.
    pub fn append(&self, lines: &[Line]) {
        for topic in Topic::ALL {
            let text = json_lines(lines.iter().filter(|line| line.topic == topic));
            if !text.is_empty() {
                let written = self.file(topic).append(&self.path(topic), &text);
                self.account_for(topic, written);
            }
        }
    }

    /// Opens the files anew, after somebody has moved them away (SIGHUP).
    pub fn reopen(&self) {
        for topic in Topic::ALL {
            let opened = self.file(topic).reopen(&self.path(topic));
            self.account_for(topic, opened);
        }
    }

    /// How often a file could not be opened or written since the start.
    pub fn write_errors(&self, _topic: Topic) -> u64 {
        self.0.write_errors.load(Ordering::Relaxed)
    }

    fn file(&self, topic: Topic) -> MutexGuard<'_, TopicFile> {
        self.0.files[topic as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, topic: Topic) -> PathBuf {
        self.0.dir.join(topic.file_name())
    }

    fn account_for(&self, topic: Topic, result: io::Result<()>) {
        let Err(error) = result else { return };
        let errors = self.0.write_errors.fetch_add(1, Ordering::Relaxed) + 1;
        if self.0.told.is_due(Instant::now()) {
            let path = self.path(topic);
            // Not `tracing`, which can be muted; not `eprintln!`, which panics when nobody reads stderr.
            let _ = writeln!(
                io::stderr(),
                "billhook: lines are being lost: cannot write {}: {error} (failures so far: {errors})",
                path.display()
            );
        }
    }
}

/// One open file, or one that could not be opened the last time.
#[derive(Debug, Default)]
struct TopicFile {
    file: Option<File>,
    torn: bool,
}

impl TopicFile {
    fn reopen(&mut self, path: &Path) -> io::Result<()> {
        self.file = None;
        let file = open_to_append(path)?;
        self.torn = is_torn(&file)?;
        self.file = Some(file);
        Ok(())
    }

    /// Writes the lines; what fails, or is left over by a short write, is tried once more on a file opened anew.
    fn append(&mut self, path: &Path, lines: &[u8]) -> io::Result<()> {
        let written = self.write(path, lines).unwrap_or(0);
        let rest = &lines[written..];
        if rest.is_empty() {
            return Ok(());
        }
        self.reopen(path)?;
        if self.write(path, rest)? < rest.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, lines: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.reopen(path)?;
        }
        self.file.as_mut().map_or(Ok(0), |file| write_lines(file, &mut self.torn, lines))
    }
}

/// Writes once, and says how many of the bytes stand in the file as whole lines. A line that a full disk cut short is
/// ended by the next write, so that it spoils no other.
fn write_lines(file: &mut impl Write, torn: &mut bool, lines: &[u8]) -> io::Result<usize> {
    let mend: &[u8] = if *torn { b"\n" } else { b"" };
    let bytes = [mend, lines].concat();
    let written = &bytes[..file.write(&bytes)?];
    if let Some(last) = written.last() {
        *torn = *last != b'\n';
    }
    let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(whole.saturating_sub(mend.len()))
}

fn open_to_append(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)
}

/// Whether the file ends within a line, as one does that an earlier process could not finish.
fn is_torn(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last != [b'\n'])
}

fn json_lines<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("texts and numbers always have a JSON form");
        text.push(b'\n');
    }
    text
}

/// A time in Unix milliseconds as the lines write it.
pub(crate) fn rfc3339(at_milliseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_milliseconds) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(TIME)
        .expect("a date has all that the format asks for")
}

/// A user as logs and traces may name one: an e-mail address only by the beginning of its hash, which still tells one
/// from another.
pub(super) fn user_name(user: &UserId) -> String {
    if user.as_str().contains('@') {
        format!("sha256:{}", hex::encode(&Sha256::digest(user.as_str())[..8]))
    } else {
        user.to_string()
    }
}

/// A word from outside, of which only the characters of event types, request ids and statuses are kept.
pub(super) fn token(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars().take(TEXT_LENGTH).map(|c| if is_plain(c) { c } else { '?' }).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::{fs, thread};

    use serde_json::Value;
    use tempfile::{TempDir, tempdir};

    use super::*;

    const NOON: i64 = 1_767_268_800_123;

    fn info(topic: Topic, event: &'static str) -> Line {
        Line::new(topic, Level::Info, event, NOON)
    }

    fn a_dir() -> TempDir {
        tempdir().expect("a directory")
    }

    fn text_of(dir: &Path, topic: Topic) -> String {
        fs::read_to_string(dir.join(topic.file_name())).expect("the topic's file")
    }

    fn lines_of(dir: &Path, topic: Topic) -> Vec<Value> {
        text_of(dir, topic).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn json(line: &Line) -> String {
        serde_json::to_string(line).expect("JSON")
    }

    fn a_trace() -> Traceparent {
        Traceparent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well-formed")
    }

    #[test]
    fn a_full_line_has_every_name_in_the_order_of_the_design() {
        let line = Line::new(Topic::SubscriptionState, Level::Warn, "subscription.transition", NOON)
            .outcome("applied")
            .tenant(&TenantId::parse("acme").expect("tenant"))
            .user(&UserId::parse("user-1").expect("user"))
            .customer(&CustomerId::parse("cus_1").expect("customer"))
            .subscription(&SubscriptionId::parse("sub_1").expect("subscription"))
            .stripe_event(&EventId::parse("evt_1").expect("event"))
            .stripe_event_type("customer.subscription.updated")
            .stripe_request("req_1")
            .journey(a_trace().journey_id())
            .in_trace(a_trace())
            .duration(Duration::from_millis(42))
            .transition("trialing", "active")
            .reason("paid")
            .skew_seconds(-3)
            .secret_index(1);
        assert_eq!(
            json(&line),
            concat!(
                r#"{"time":"2026-01-01T12:00:00.123Z","level":"warn","topic":"subscription_state","#,
                r#""event":"subscription.transition","outcome":"applied","tenant_id":"acme","user_id":"user-1","#,
                r#""customer_id":"cus_1","subscription_id":"sub_1","stripe_event_id":"evt_1","#,
                r#""stripe_event_type":"customer.subscription.updated","stripe_request_id":"req_1","#,
                r#""journey_id":"0af7651916cd43dd8448eb211c80319c","trace_id":"0af7651916cd43dd8448eb211c80319c","#,
                r#""span_id":"b7ad6b7169203331","duration_ms":42,"from":"trialing","to":"active","reason":"paid","#,
                r#""skew_seconds":-3,"secret_index":1}"#
            )
        );
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let line = info(Topic::Billing, "throttled").tenant(None).transition(None, None).in_trace(None);
        assert_eq!(
            json(&line),
            r#"{"time":"2026-01-01T12:00:00.123Z","level":"info","topic":"billing","event":"throttled"}"#
        );
    }

    #[test]
    fn every_topic_has_its_file_and_an_append_may_carry_several() {
        let dir = a_dir();
        let logs = TopicLogs::open(dir.path());
        logs.append(&[
            info(Topic::SubscriptionState, "event.applied"),
            info(Topic::WebhookSignatures, "signature.accepted"),
            info(Topic::SubscriptionState, "subscription.transition"),
            info(Topic::Billing, "portal.create.start"),
        ]);
        let events = |topic| -> Vec<String> {
            lines_of(dir.path(), topic)
                .iter()
                .map(|line| line["event"].as_str().expect("text").into())
                .collect()
        };
        assert_eq!(events(Topic::Billing), ["portal.create.start"]);
        assert_eq!(events(Topic::WebhookSignatures), ["signature.accepted"]);
        assert_eq!(events(Topic::SubscriptionState), ["event.applied", "subscription.transition"]);
        assert_eq!(logs.write_errors(Topic::Billing), 0);
    }

    #[test]
    fn a_newline_or_a_quote_in_a_value_breaks_no_line() {
        let dir = a_dir();
        let nasty = "x\"}\n{\"event\":\"forged\u{2028}\r\0";
        TopicLogs::open(dir.path()).append(&[info(Topic::Billing, "portal.create.failure")
            .reason(nasty)
            .stripe_event_type(nasty)
            .stripe_request(nasty)
            .transition(nasty, nasty)]);
        let lines = lines_of(dir.path(), Topic::Billing);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["reason"], nasty);
        for name in ["stripe_event_type", "stripe_request_id", "from", "to"] {
            assert_eq!(lines[0][name], "x?????event???forged???", "{name}");
        }
    }

    #[test]
    fn a_text_from_outside_is_bounded_at_a_character() {
        let line = info(Topic::Billing, "throttled").reason("ä".repeat(1000).as_str());
        assert_eq!(line.reason, Some("ä".repeat(200)));
        assert_eq!(token(&"a".repeat(1000)).len(), 200);
    }

    #[test]
    fn an_email_address_is_hashed_and_another_user_is_not() {
        let user = |name| info(Topic::Billing, "throttled").user(&UserId::parse(name).expect("user")).user_id;
        let hashed = user("jane@example.com").expect("a user");
        assert_eq!(hashed, "sha256:8c87b489ce35cf2e");
        assert_ne!(user("john@example.com"), Some(hashed));
        assert_eq!(user("auth0|5f7c8ec7"), Some("auth0|5f7c8ec7".into()));
    }

    #[test]
    fn a_time_out_of_range_is_no_panic() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MIN), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn appends_from_many_threads_and_handles_keep_whole_lines() {
        const THREADS: usize = 8;
        const APPENDS: usize = 100;
        let dir = a_dir();
        let handles = [TopicLogs::open(dir.path()), TopicLogs::open(dir.path())];
        thread::scope(|scope| {
            for number in 0..THREADS {
                let logs = handles[number % handles.len()].clone();
                scope.spawn(move || {
                    let line = info(Topic::Billing, "throttled").reason("long ".repeat(30).as_str());
                    for _ in 0..APPENDS {
                        logs.append(&[line.clone(), line.clone()]);
                    }
                });
            }
        });
        assert_eq!(lines_of(dir.path(), Topic::Billing).len(), THREADS * APPENDS * 2);
    }

    #[test]
    fn the_files_are_not_for_everybody() {
        let dir = a_dir();
        TopicLogs::open(dir.path());
        for topic in Topic::ALL {
            let metadata = fs::metadata(dir.path().join(topic.file_name())).expect("opened at once");
            assert_eq!(metadata.permissions().mode() & 0o137, 0, "nothing beyond 0640");
        }
    }

    #[test]
    fn an_unwritable_directory_is_counted_and_heals_when_it_appears() {
        let dir = a_dir();
        let place = dir.path().join("logs");
        fs::write(&place, "a file where the directory should be").expect("written");

        let logs = TopicLogs::open(&place);
        let at_start = logs.write_errors(Topic::Billing);
        assert_eq!(at_start, 3, "each of the three files");
        logs.append(&[info(Topic::Billing, "portal.create.start")]);
        assert_eq!(logs.write_errors(Topic::Billing), at_start + 1);

        fs::remove_file(&place).expect("removed");
        logs.append(&[info(Topic::Billing, "portal.create.success")]);
        assert_eq!(logs.write_errors(Topic::Billing), at_start + 1);
        assert_eq!(lines_of(&place, Topic::Billing)[0]["event"], "portal.create.success");
    }

    #[test]
    fn reopening_follows_a_file_that_was_moved_away() {
        let dir = a_dir();
        let logs = TopicLogs::open(dir.path());
        logs.append(&[info(Topic::Billing, "portal.create.start")]);
        let moved = dir.path().join("billing.log.1");
        fs::rename(dir.path().join("billing.log"), &moved).expect("moved");

        logs.reopen();
        logs.append(&[info(Topic::Billing, "portal.create.success")]);
        assert!(fs::read_to_string(moved).expect("the old file").contains("portal.create.start"));
        assert_eq!(lines_of(dir.path(), Topic::Billing)[0]["event"], "portal.create.success");
    }

    #[test]
    fn a_full_disk_is_counted_and_heals() {
        let dir = a_dir();
        let path = dir.path().join("billing.log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("a disk that is always full");
        let logs = TopicLogs::open(dir.path());
        logs.append(&[info(Topic::Billing, "portal.create.start")]);
        assert_eq!(logs.write_errors(Topic::Billing), 1);

        fs::remove_file(&path).expect("removed");
        logs.append(&[info(Topic::Billing, "portal.create.success")]);
        assert_eq!(logs.write_errors(Topic::Billing), 1);
        assert_eq!(lines_of(dir.path(), Topic::Billing)[0]["event"], "portal.create.success");
    }

    /// A disk with room for so many bytes.
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_short_write_keeps_its_whole_lines_and_spoils_no_other() {
        let mut disk = Disk { room: 12, bytes: Vec::new() };
        let mut torn = false;
        assert_eq!(write_lines(&mut disk, &mut torn, b"{one}\n{two}\n{three}\n").expect("short"), 12);
        assert!(!torn, "it ended with a line");

        disk.room += 3;
        assert_eq!(write_lines(&mut disk, &mut torn, b"{three}\n").expect("short"), 0);
        assert!(torn);
        assert_eq!(write_lines(&mut disk, &mut torn, b"{three}\n").expect("nothing"), 0);
        assert!(torn, "and it stays torn while the disk is full");

        disk.room = 100;
        assert_eq!(write_lines(&mut disk, &mut torn, b"{three}\n").expect("whole"), 8);
        assert_eq!(disk.bytes, b"{one}\n{two}\n{th\n{three}\n");
    }

    #[test]
    fn a_line_that_an_earlier_process_could_not_finish_spoils_no_other() {
        let dir = a_dir();
        fs::write(dir.path().join("billing.log"), r#"{"time":"20"#).expect("written");
        TopicLogs::open(dir.path()).append(&[info(Topic::Billing, "throttled")]);
        let text = text_of(dir.path(), Topic::Billing);
        let (torn, whole) = text.split_once('\n').expect("two lines");
        assert_eq!(torn, r#"{"time":"20"#);
        assert!(serde_json::from_str::<Value>(whole).is_ok());
    }
}
