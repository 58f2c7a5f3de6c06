//! `billhook migrate`

use clap::Args;

use super::{CommandError, say};
use crate::config::DatabaseArgs;
use crate::store::Store;

#[derive(Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(args: &MigrateArgs) -> Result<(), CommandError> {
    let store = Store::connect(&args.database.read()?).await?;
    store.migrate().await?;
    say("The database is up to date.")
}
