//! The format of log lines on stderr.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::spans::current_trace;

/// Time, level, target, message and fields, and the trace id.
pub(super) struct TracedLine;

impl<S, N> FormatEvent<S, N> for TracedLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        SystemTime.format_time(&mut line)?;
        write!(line, " {:>5} {}: ", metadata.level(), metadata.target())?;
        ctx.field_format().format_fields(line.by_ref(), event)?;
        if let Some(trace) = current_trace() {
            write!(line, " trace_id={}", trace.trace_id())?;
        }
        writeln!(line)
    }
}
