//! Keeps the spans of each test apart.
//!
//! A process has one tracing subscriber, and `cargo test` runs all tests of a binary in one
//! process. A span belongs to the Tokio runtime in which it started: each test has one, and so has
//! the ingest thread of each service. Two runtimes belong to one test as soon as a span of one
//! links to a span of the other, as the span of a batch does to those of its events.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{Span as _, SpanId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::runtime::{Handle, Id};

/// Keeps every span that has ended.
#[derive(Debug, Default)]
pub struct SpanStore(Mutex<Spans>);

#[derive(Debug, Default)]
struct Spans {
    runtimes: HashMap<SpanId, Id>,
    /// The index of each runtime's test in `ended`.
    tests: HashMap<Id, usize>,
    ended: Vec<Vec<SpanData>>,
}

/// Drops the spans of a test when its thread ends.
struct SpanCleanup(&'static SpanStore, Id);

impl Drop for SpanCleanup {
    fn drop(&mut self) {
        self.0.remove_test(self.1);
    }
}

thread_local! {
    /// Each test runs on a thread of its own.
    static CLEANUP: OnceCell<SpanCleanup> = const { OnceCell::new() };
}

impl SpanStore {
    /// Keeps the spans of the calling test until its thread ends.
    pub fn keep_for_this_test(&'static self) {
        CLEANUP.with(|test| _ = test.get_or_init(|| SpanCleanup(self, Handle::current().id())));
    }

    /// The spans of the calling test that have ended so far.
    pub fn of_this_test(&self) -> Vec<SpanData> {
        let mut spans = self.lock();
        let test = spans.test_of(Handle::current().id());
        spans.ended[test].clone()
    }

    fn remove_test(&self, runtime: Id) {
        let mut spans = self.lock();
        let test = spans.test_of(runtime);
        spans.ended[test] = Vec::new();
        let Spans { runtimes, tests, .. } = &mut *spans;
        runtimes.retain(|_, runtime| tests.get(runtime) != Some(&test));
    }

    fn lock(&self) -> MutexGuard<'_, Spans> {
        self.0.lock().expect("not poisoned")
    }
}

impl Spans {
    fn test_of(&mut self, runtime: Id) -> usize {
        *self.tests.entry(runtime).or_insert_with(|| {
            self.ended.push(Vec::new());
            self.ended.len() - 1
        })
    }

    fn add(&mut self, span: SpanData) {
        let Some(&runtime) = self.runtimes.get(&span.span_context.span_id()) else { return };
        let mut test = self.test_of(runtime);
        for link in span.links.iter() {
            if let Some(&linked) = self.runtimes.get(&link.span_context.span_id()) {
                let linked = self.test_of(linked);
                test = self.merge(test, linked);
            }
        }
        self.ended[test].push(span);
    }

    /// Appends the newer test's spans to the older's and returns the older.
    fn merge(&mut self, one: usize, other: usize) -> usize {
        let (older, newer) = (one.min(other), one.max(other));
        if older != newer {
            let moved = std::mem::take(&mut self.ended[newer]);
            self.ended[older].extend(moved);
            self.tests.values_mut().filter(|test| **test == newer).for_each(|test| *test = older);
        }
        older
    }
}

impl SpanProcessor for &'static SpanStore {
    fn on_start(&self, span: &mut Span, _: &Context) {
        // A thread without a runtime belongs to no test.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut spans = self.lock();
        spans.test_of(runtime.id());
        spans.runtimes.insert(span.span_context().span_id(), runtime.id());
    }

    fn on_end(&self, span: SpanData) {
        self.lock().add(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
