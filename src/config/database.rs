//! Where the database is.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::ConfigError;
use super::secret::SecretVariable;
use crate::domain::database_url::DatabaseUrl;

const DATABASE_URL: SecretVariable =
    SecretVariable { variable: "DATABASE_URL", file_variable: "DATABASE_URL_FILE" };

const DEFAULT_URL: &str = "sqlite://billhook.db";

/// Where the database is.
#[derive(Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// `sqlite://path/to/file.db` for one replica, `postgres://user:password@host/database` for several [default:
    /// sqlite://billhook.db]
    #[arg(long, env = DATABASE_URL.variable, hide_env_values = true)]
    database_url: Option<SecretString>,

    /// A file that holds it
    #[arg(long, env = DATABASE_URL.file_variable, value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Reads the URL from its variable or its file.
    pub fn read(&self) -> Result<DatabaseUrl, ConfigError> {
        let given = DATABASE_URL.read(self.database_url.as_ref(), self.database_url_file.as_deref())?;
        let variable = given.as_ref().map_or(DATABASE_URL.variable, |given| given.variable);
        DatabaseUrl::parse(given.as_ref().map_or(DEFAULT_URL, |given| given.text()))
            .map_err(|error| ConfigError::new(variable, error))
    }
}
