//! `billhook migrate`

use clap::Args;

use super::{CommandError, progress, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DatabaseArgs};
use crate::domain::database_url::DatabaseUrl;
use crate::store::{self, CopyError, DatabaseCopy, Store};
use crate::telemetry::topics::rfc3339;

/// How to move from SQLite to PostgreSQL, for the help.
pub(super) const MOVE: &str = "\
To move from SQLite to PostgreSQL: stop the service, set DATABASE_URL to an empty PostgreSQL database, run `billhook migrate
--from sqlite://billhook.db`, and start the service. If it is interrupted, run it again: it continues where it stopped.";

#[derive(Args)]
pub(super) struct MigrateArgs {
    /// A SQLite database to copy into the empty PostgreSQL database of DATABASE_URL. It is brought up to date first, and
    /// otherwise not changed
    #[arg(long, value_name = "sqlite://FILE")]
    from: Option<String>,

    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(args: &MigrateArgs) -> Result<(), CommandError> {
    let target = args.database.read()?;
    if let Some(from) = &args.from {
        return copy(&config::database("--from", from)?, &target).await;
    }
    let store = Store::connect(&target).await?;
    store.migrate().await?;
    say("The database is up to date.")
}

async fn copy(from: &DatabaseUrl, into: &DatabaseUrl) -> Result<(), CommandError> {
    if !from.is_sqlite() {
        return Err(
            config::missing("--from is no `sqlite:` URL: only a SQLite database can be copied").into()
        );
    }
    if into.is_sqlite() {
        let problem = "DATABASE_URL is no `postgres:` URL: only a PostgreSQL database can be copied into";
        return Err(config::missing(problem).into());
    }
    let source = Store::connect_exclusively(from).await.map_err(CopyError::Source)?;
    let target = Store::connect(into).await.map_err(CopyError::Target)?;
    let copy = DatabaseCopy::start(source, target).await?;
    let (from, into) = (store::describe(from), store::describe(into));
    if let Some(finished_at_ms) = copy.finished_at_ms() {
        let finished_at = rfc3339(finished_at_ms);
        return say(&format!("{from} was copied to {into} at {finished_at}. Nothing was done."));
    }
    let bar = progress(copy.count_source().await?, "{pos} of {len} rows");
    bar.inc(copy.count_copied().await?);
    let rows = copy.run(SystemClock.now_ms(), |rows| bar.inc(rows)).await?;
    bar.finish_and_clear();
    say(&format!("Copied {from} to {into}: {rows} rows. Start the service with the same DATABASE_URL."))
}
