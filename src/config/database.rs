//! The URL of the database.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::ConfigError;
use super::secret::SecretVariable;
use super::setting::{Setting, parsed_by, path};
use crate::domain::database_url::DatabaseUrl;

const DATABASE_URL: SecretVariable =
    SecretVariable { variable: "DATABASE_URL", file_variable: "DATABASE_URL_FILE" };

const DEFAULT_URL: &str = "sqlite://billhook.db";

#[derive(Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// `sqlite://path/to/file.db` for one replica, or `postgres://user:password@host/database` for
    /// several [default: sqlite://billhook.db]
    #[arg(long, env = DATABASE_URL.variable, hide_env_values = true)]
    database_url: Option<SecretString>,

    /// A file that contains the database URL
    #[arg(long, env = DATABASE_URL.file_variable, value_name = "FILE", value_parser = parsed_by(path))]
    database_url_file: Option<Setting<PathBuf>>,
}

impl DatabaseArgs {
    pub fn read(&self) -> Result<DatabaseUrl, ConfigError> {
        let loaded = DATABASE_URL.read(self.database_url.as_ref(), self.database_url_file.as_ref())?;
        let variable = loaded.as_ref().map_or(DATABASE_URL.variable, |loaded| loaded.variable);
        DatabaseUrl::parse(loaded.as_ref().map_or(DEFAULT_URL, |loaded| loaded.text()))
            .map_err(|error| ConfigError::new(variable, error))
    }
}
