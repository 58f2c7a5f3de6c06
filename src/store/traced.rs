//! Spans of statements, by OpenTelemetry's stable conventions for databases
//! (<https://opentelemetry.io/docs/specs/semconv/database/sql/>).
//!
//! SeaORM's own spans use outdated names and contain the database's error messages, which can quote
//! values. These contain the prepared statement, with placeholders for its values, and the code of
//! an error.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    Statement, TransactionOptions, TransactionTrait,
};
use tracing::{Instrument, Span, field, info_span};

use super::error::{classify, code_of};
use super::failover::Failover;

/// The name of the span lists all operations of a longer statement.
const MAX_STATEMENT_CHARS: usize = 2000;

/// The span attributes of a database.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) system: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) address: Option<String>,
    pub(super) port: Option<u16>,
}

/// A pool or a transaction whose statements get spans, if the current trace is recorded. Work
/// outside a trace, such as polling for jobs, gets none.
#[derive(Clone)]
pub(super) struct Traced<C> {
    inner: C,
    server: Arc<Server>,
    failover: Failover,
}

impl<C: fmt::Debug> fmt::Debug for Traced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<C> Traced<C> {
    pub(super) fn untraced(&self) -> &C {
        &self.inner
    }

    pub(super) fn failover(&self) -> &Failover {
        &self.failover
    }

    fn span_if_recorded(&self, statement: &str) -> Option<Span> {
        Context::map_current(|here| here.span().is_recording()).then(|| self.span(statement))
    }

    fn span(&self, statement: &str) -> Span {
        let Server { system, namespace, address, port } = &*self.server;
        let summary = Summary::of(statement);
        info_span!(
            "statement",
            otel.name = summary.to_string(),
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = system,
            db.namespace = namespace,
            db.operation.name = summary.operation(),
            db.operation.batch.size = summary.batch_size(),
            db.collection.name = summary.collection(),
            db.query.text = truncate(statement),
            db.response.status_code = field::Empty,
            server.address = address,
            server.port = port,
            error.r#type = field::Empty,
        )
    }
}

impl Traced<DatabaseConnection> {
    pub(super) fn new(inner: DatabaseConnection, server: Server, failover: Failover) -> Self {
        Self { inner, server: Arc::new(server), failover }
    }

    /// The span includes the wait for a connection, and on SQLite for the write lock.
    pub(super) async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<Traced<DatabaseTransaction>, DbErr> {
        let span = self.span_if_recorded("BEGIN");
        let inner = traced(span, &self.failover, self.inner.begin_with_options(options)).await?;
        Ok(Traced { inner, server: self.server.clone(), failover: self.failover.clone() })
    }
}

impl Traced<DatabaseTransaction> {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        let span = self.span_if_recorded("COMMIT");
        traced(span, &self.failover, self.inner.commit()).await
    }
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Traced<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        traced(span, &self.failover, self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        traced(self.span_if_recorded(sql), &self.failover, self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        traced(span, &self.failover, self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        traced(span, &self.failover, self.inner.query_all_raw(statement)).await
    }
}

async fn traced<T>(
    span: Option<Span>,
    failover: &Failover,
    operation: impl Future<Output = Result<T, DbErr>> + Send,
) -> Result<T, DbErr> {
    let result = match span {
        None => operation.await,
        Some(span) => {
            operation.instrument(span.clone()).await.inspect_err(|error| record_error(&span, error))
        }
    };
    result.inspect_err(|error| failover.observe(error))
}

/// The parts of a statement.
#[derive(Debug, PartialEq, Eq)]
struct Summary<'a>(Vec<Part<'a>>);

/// An operation and its first table.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Part<'a> {
    operation: &'a str,
    collection: Option<&'a str>,
}

impl<'a> Summary<'a> {
    /// For statements of SeaORM and of [`Sql`](super::sql::Sql): upper-case keywords and quoted
    /// table names. Several parts are separated by semicolons or are common table expressions.
    fn of(statement: &'a str) -> Self {
        if let Some(named) = statement.trim_start().strip_prefix("WITH ") {
            let parts = named.split(" AS MATERIALIZED (").skip(1).map(Part::of);
            return Self(parts.collect());
        }
        Self(statement.split(';').map(Part::of).collect())
    }

    /// `BATCH` for several parts, followed by the operation if all have the same, as the
    /// conventions require.
    fn operation(&self) -> String {
        match &self.0[..] {
            [one] => one.operation.to_owned(),
            [first, rest @ ..] if rest.iter().all(|part| part.operation == first.operation) => {
                format!("BATCH {}", first.operation)
            }
            _ => "BATCH".to_owned(),
        }
    }

    fn collection(&self) -> Option<&'a str> {
        match &self.0[..] {
            [one] => one.collection,
            _ => None,
        }
    }

    /// `None` for a single part.
    fn batch_size(&self) -> Option<usize> {
        (self.0.len() > 1).then_some(self.0.len())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Part { operation, collection }) in self.0.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{operation}")?;
            if let Some(collection) = collection {
                write!(f, " {collection}")?;
            }
        }
        Ok(())
    }
}

impl<'a> Part<'a> {
    fn of(statement: &'a str) -> Self {
        let operation = statement.split_whitespace().next().unwrap_or_default();
        let before = match operation {
            "SELECT" | "DELETE" => "FROM \"",
            "INSERT" => "INTO \"",
            "UPDATE" => "UPDATE \"",
            _ => return Self { operation, collection: None },
        };
        let named = statement.split_once(before).map(|(_, rest)| rest);
        Self { operation, collection: named.and_then(|rest| rest.split('"').next()) }
    }
}

fn truncate(statement: &str) -> &str {
    let end = statement.char_indices().nth(MAX_STATEMENT_CHARS).map_or(statement.len(), |(end, _)| end);
    &statement[..end]
}

fn record_error(span: &Span, error: &DbErr) {
    let code = code_of(error);
    if let Some(code) = &code {
        span.record("db.response.status_code", code.as_str());
    }
    span.record("error.type", code.as_deref().unwrap_or_else(|| classify(error).as_str()));
    span.record("otel.status_code", "ERROR");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summarize(statement: &str) -> (String, String, Option<&str>) {
        let summary = Summary::of(statement);
        (summary.to_string(), summary.operation(), summary.collection())
    }

    #[test]
    fn statement_is_summarized_by_operation_and_table() {
        for (statement, name, operation, collection) in [
            (
                r#"SELECT "event"."id" FROM "event" WHERE "event"."id" IN (?, ?)"#,
                "SELECT event",
                "SELECT",
                Some("event"),
            ),
            (r#"INSERT INTO "event" ("id") VALUES ($1), ($2)"#, "INSERT event", "INSERT", Some("event")),
            (r#"UPDATE "lease" SET "token" = $1"#, "UPDATE lease", "UPDATE", Some("lease")),
            (r#"DELETE FROM "refresh" WHERE "subject" = $1"#, "DELETE refresh", "DELETE", Some("refresh")),
            ("SELECT pg_advisory_xact_lock($1)", "SELECT", "SELECT", None),
            ("BEGIN", "BEGIN", "BEGIN", None),
            ("", "", "", None),
            (
                r#"SELECT "id" FROM "tenant"; SELECT "id" FROM "checkout""#,
                "SELECT tenant SELECT checkout",
                "BATCH SELECT",
                None,
            ),
            (
                r#"WITH w0 AS MATERIALIZED (INSERT INTO "event" ("id") SELECT 1) SELECT (SELECT COUNT(*) FROM w0)"#,
                "INSERT event",
                "INSERT",
                Some("event"),
            ),
            (
                r#"WITH w0 AS MATERIALIZED (INSERT INTO "event" ("id") SELECT 1), w1 AS MATERIALIZED (SELECT 2) SELECT 3"#,
                "INSERT event SELECT",
                "BATCH",
                None,
            ),
        ] {
            assert_eq!(
                summarize(statement),
                (name.to_owned(), operation.to_owned(), collection),
                "{statement}"
            );
        }
    }

    #[test]
    fn long_statement_is_truncated_at_a_character() {
        assert_eq!(truncate("COMMIT"), "COMMIT");
        assert_eq!(truncate(&"ä".repeat(5000)), "ä".repeat(MAX_STATEMENT_CHARS));
    }
}
