use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// <https://www.postgresql.org/docs/current/libpq-ssl.html>
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The password is never printed.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    is_sqlite: bool,
}

/// Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// Neither SQLite nor PostgreSQL.
    #[error("is not a URL of the form `sqlite://path/to/file.db` or `postgres://user@host/database`")]
    Form,
    /// Usually because the password contains characters with a meaning in URLs.
    #[error(
        "cannot be parsed as a URL: percent-encode special characters in the password (%40 for @, %23 for #, %2F for /), and \
         check the port and the parameters"
    )]
    Unreadable,
}

impl DatabaseUrl {
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let is_sqlite = match text.split_once(':') {
            // Each connection to an in-memory database has a database of its own.
            Some(("sqlite", path)) if path.contains(":memory:") || path.contains("mode=memory") => {
                return Err(InvalidDatabaseUrl::Form);
            }
            Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() => true,
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") && rest.len() > 2 => {
                let url = Url::parse(text).ok().filter(is_accepted_by_driver);
                if splits_password(&rest[2..]) || url.is_none() {
                    return Err(InvalidDatabaseUrl::Unreadable);
                }
                false
            }
            _ => return Err(InvalidDatabaseUrl::Form),
        };
        Ok(Self { url: text.into(), is_sqlite })
    }

    pub fn is_sqlite(&self) -> bool {
        self.is_sqlite
    }

    /// Includes the password.
    pub(crate) fn expose(&self) -> &str {
        self.url.expose_secret()
    }
}

/// Checks the credentials and parameters that the PostgreSQL driver parses.
fn is_accepted_by_driver(url: &Url) -> bool {
    let is_utf8 = |part: &str| percent_decode_str(part).decode_utf8().is_ok();
    let is_valid = |(name, value): (Cow<'_, str>, Cow<'_, str>)| match &*name {
        "sslmode" | "ssl-mode" => SSL_MODES.contains(&value.to_ascii_lowercase().as_str()),
        "port" => value.parse::<u16>().is_ok(),
        "hostaddr" => value.parse::<IpAddr>().is_ok(),
        "statement-cache-capacity" => value.parse::<usize>().is_ok(),
        _ => true,
    };
    is_utf8(url.username()) && url.password().is_none_or(is_utf8) && url.query_pairs().all(is_valid)
}

/// Whether the password contains a `/`, `?` or `#`, which ends the URL's authority, so that part of
/// the password would be parsed as the host. Then the `@` comes after the authority and before the
/// parameters.
fn splits_password(url: &str) -> bool {
    let (authority, rest) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    let before_parameters = rest.split('=').next().unwrap_or_default();
    !authority.contains('@') && before_parameters.contains('@')
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", if self.is_sqlite { "sqlite" } else { "postgres" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_memory_sqlite_is_rejected() {
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://billhook.db?mode=memory"] {
            assert_eq!(DatabaseUrl::parse(url).err(), Some(InvalidDatabaseUrl::Form), "{url}");
        }
    }

    #[test]
    fn unencoded_password_is_never_parsed_as_host() {
        for password in ["pa/ss", "12/34", "12#34", "12?34", "pa#s@s"] {
            let url = format!("postgres://user:{password}@db.example/billhook");
            assert_eq!(DatabaseUrl::parse(&url).err(), Some(InvalidDatabaseUrl::Unreadable), "{url}");
        }
        for url in [
            "postgres://user:12%2F34@db.example/billhook",
            "postgres://user:p@ss@db.example:5433/billhook?sslmode=require",
            "postgres://db.example/billhook?user=user&password=p@ss",
            "postgres:///billhook?host=/run/postgresql",
        ] {
            DatabaseUrl::parse(url).expect(url);
        }
    }

    #[test]
    fn parameter_invalid_for_driver_is_rejected() {
        for bad in ["sslmode=canary", "port=65536", "hostaddr=db", "statement-cache-capacity=-1"] {
            let url = format!("postgres://db.example/billhook?{bad}");
            assert_eq!(DatabaseUrl::parse(&url).err(), Some(InvalidDatabaseUrl::Unreadable), "{url}");
        }
        let not_utf8 = DatabaseUrl::parse("postgres://user:%ff@db.example/billhook");
        assert_eq!(not_utf8.err(), Some(InvalidDatabaseUrl::Unreadable));
    }
}
