//! Spans around statements, by OpenTelemetry's stable conventions for databases
//! (<https://opentelemetry.io/docs/specs/semconv/database/sql/>).
//!
//! SeaORM's own spans bear the conventions' old names, and the database's words, which may quote what was written. Here
//! a statement is told as it was prepared, with places for its values, and a failure by its code.

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

/// The most characters of a statement that a span bears. What several that were put together do is told by its name.
const STATEMENT_LENGTH: usize = 2000;

/// Which database it is, as spans name it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) system: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) address: Option<String>,
    pub(super) port: Option<u16>,
}

/// A connection or a transaction whose statements have spans, wherever a trace is recorded. Work that belongs to no
/// trace, such as looking for something to do, leaves none.
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
    /// What is wrapped, for what has no place in a trace.
    pub(super) fn untraced(&self) -> &C {
        &self.inner
    }

    /// The failover that the connections share.
    pub(super) fn failover(&self) -> &Failover {
        &self.failover
    }

    /// A span for the statement, where a trace is recorded.
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
            db.query.text = cut(statement),
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

    /// Begins a transaction; the span shows how long it waited for a connection, and on SQLite for the write lock.
    pub(super) async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<Traced<DatabaseTransaction>, DbErr> {
        let span = self.span_if_recorded("BEGIN");
        let inner = within(span, &self.failover, self.inner.begin_with_options(options)).await?;
        Ok(Traced { inner, server: self.server.clone(), failover: self.failover.clone() })
    }
}

impl Traced<DatabaseTransaction> {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        let span = self.span_if_recorded("COMMIT");
        within(span, &self.failover, self.inner.commit()).await
    }
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Traced<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        within(span, &self.failover, self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        within(self.span_if_recorded(sql), &self.failover, self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        within(span, &self.failover, self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let span = self.span_if_recorded(&statement.sql);
        within(span, &self.failover, self.inner.query_all_raw(statement)).await
    }
}

async fn within<T>(
    span: Option<Span>,
    failover: &Failover,
    done: impl Future<Output = Result<T, DbErr>> + Send,
) -> Result<T, DbErr> {
    let result = match span {
        None => done.await,
        Some(span) => done.instrument(span.clone()).await.inspect_err(|error| describe_failure(&span, error)),
    };
    result.inspect_err(|error| failover.observe(error))
}

/// What a statement does: several things, if several were put together.
#[derive(Debug, PartialEq, Eq)]
struct Summary<'a>(Vec<Part<'a>>);

/// What is done, and to which table first.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Part<'a> {
    operation: &'a str,
    collection: Option<&'a str>,
}

impl<'a> Summary<'a> {
    /// Reads the statements of SeaORM and of [`Sql`](super::sql::Sql): keywords in capitals, names of tables in double quotes,
    /// several parts after each other or each as a common table expression.
    fn of(statement: &'a str) -> Self {
        if let Some(named) = statement.trim_start().strip_prefix("WITH ") {
            let parts = named.split(" AS MATERIALIZED (").skip(1).map(Part::of);
            return Self(parts.collect());
        }
        Self(statement.split(';').map(Part::of).collect())
    }

    /// The operation, or what the conventions call several: `BATCH`, and the operation if all have the same.
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

    /// How many they are, if they are several.
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

fn cut(statement: &str) -> &str {
    let end = statement.char_indices().nth(STATEMENT_LENGTH).map_or(statement.len(), |(end, _)| end);
    &statement[..end]
}

fn describe_failure(span: &Span, error: &DbErr) {
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

    fn named(statement: &str) -> (String, String, Option<&str>) {
        let summary = Summary::of(statement);
        (summary.to_string(), summary.operation(), summary.collection())
    }

    #[test]
    fn a_statement_is_named_by_what_it_does_to_which_table() {
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
            assert_eq!(named(statement), (name.to_owned(), operation.to_owned(), collection), "{statement}");
        }
    }

    #[test]
    fn a_long_statement_is_cut_at_a_character() {
        assert_eq!(cut("COMMIT"), "COMMIT");
        assert_eq!(cut(&"ä".repeat(5000)), "ä".repeat(STATEMENT_LENGTH));
    }
}
