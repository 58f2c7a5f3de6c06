//! `billhook migrate`

use clap::Args;

use super::text::{count, time};
use super::{CommandError, print, print_sentences, progress_bar};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, ConfigError, DatabaseArgs};
use crate::domain::database_url::DatabaseUrl;
use crate::store::{self, CopyError, DatabaseCopy, Store};

pub(super) const AFTER_HELP: &str = "\
To move from SQLite to PostgreSQL: stop the service, set DATABASE_URL to an empty
PostgreSQL database, run `billhook migrate --from sqlite://billhook.db`, and
start the service. If the copy is interrupted, run it again: it continues where
it stopped.";

#[derive(Args)]
pub(super) struct MigrateArgs {
    /// A SQLite database to copy into the empty PostgreSQL database of DATABASE_URL. It is migrated
    /// first and otherwise not changed
    #[arg(long, value_name = "sqlite://FILE")]
    from: Option<String>,

    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(args: &MigrateArgs) -> Result<(), CommandError> {
    let target = args.database.read()?;
    if let Some(from) = &args.from {
        return copy(&config::parse_database_url("--from", from)?, &target).await;
    }
    let store = Store::connect(&target).await?;
    store.migrate().await?;
    print("The database is up to date.")
}

async fn copy(from: &DatabaseUrl, into: &DatabaseUrl) -> Result<(), CommandError> {
    if !from.is_sqlite() {
        let problem = "is not a `sqlite:` URL: only a SQLite database can be copied";
        return Err(ConfigError::new("--from", problem).into());
    }
    if into.is_sqlite() {
        let problem = "is not a `postgres:` URL: only a PostgreSQL database can be copied into";
        return Err(ConfigError::new("DATABASE_URL", problem).into());
    }
    let source = Store::connect_exclusively(from).await.map_err(CopyError::Source)?;
    let target = Store::connect(into).await.map_err(CopyError::Target)?;
    let copy = DatabaseCopy::start(source, target).await?;
    let (from, into) = (store::describe(from), store::describe(into));
    if let Some(finished_at_ms) = copy.finished_at_ms() {
        let finished_at = time(finished_at_ms);
        return print_sentences(&format!(
            "{from} was already copied to {into} at {finished_at}. Nothing was done."
        ));
    }
    let bar = progress_bar(copy.count_source().await?, "{pos} of {len} rows");
    bar.inc(copy.count_copied().await?);
    let rows = copy.run(SystemClock.now_ms(), |rows| bar.inc(rows)).await?;
    bar.finish_and_clear();
    let rows = count(rows, "row");
    print_sentences(&format!(
        "Copied {from} to {into}: {rows}. Start the service with the same DATABASE_URL."
    ))
}
