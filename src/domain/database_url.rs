//! Where the database is.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// PostgreSQL's words for how TLS is used (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The URL of the database. Its password is never printed.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    is_sqlite: bool,
}

/// Why a text is not a database's URL. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// It is of no database that is supported.
    #[error("is not a URL of the form `sqlite://path/to/file.db` or `postgres://user@host/database`")]
    Form,
    /// A password with characters that have a meaning in URLs is the usual reason.
    #[error(
        "cannot be read as a URL: percent-encode special characters of the password, such as %40 for @, %23 for # and \
         %2F for /, and check the port and the parameters"
    )]
    Unreadable,
}

impl DatabaseUrl {
    /// Reads a `sqlite:` or `postgres:` URL.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let is_sqlite = match text.split_once(':') {
            // In memory each connection would have a database of its own.
            Some(("sqlite", path)) if path.contains(":memory:") || path.contains("mode=memory") => {
                return Err(InvalidDatabaseUrl::Form);
            }
            Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() => true,
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") && rest.len() > 2 => {
                let url = Url::parse(text).ok().filter(is_readable);
                if ends_in_its_password(&rest[2..]) || url.is_none() {
                    return Err(InvalidDatabaseUrl::Unreadable);
                }
                false
            }
            _ => return Err(InvalidDatabaseUrl::Form),
        };
        Ok(Self { url: text.into(), is_sqlite })
    }

    /// Whether it is a SQLite file.
    pub fn is_sqlite(&self) -> bool {
        self.is_sqlite
    }

    /// The whole URL, with its password.
    pub(crate) fn expose(&self) -> &str {
        self.url.expose_secret()
    }
}

/// Whether the driver can read the credentials and the parameters of a PostgreSQL URL.
fn is_readable(url: &Url) -> bool {
    let is_text = |part: &str| percent_decode_str(part).decode_utf8().is_ok();
    let can_be_read = |(name, value): (Cow<'_, str>, Cow<'_, str>)| match &*name {
        "sslmode" | "ssl-mode" => SSL_MODES.contains(&value.to_ascii_lowercase().as_str()),
        "port" => value.parse::<u16>().is_ok(),
        "hostaddr" => value.parse::<IpAddr>().is_ok(),
        "statement-cache-capacity" => value.parse::<usize>().is_ok(),
        _ => true,
    };
    is_text(url.username()) && url.password().is_none_or(is_text) && url.query_pairs().all(can_be_read)
}

/// Whether the authority of a URL ends inside of a password that has a `/`, `?` or `#`, so that part of the password would be
/// taken for the host: the `@` then comes later, and in no parameter.
fn ends_in_its_password(url: &str) -> bool {
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
    fn a_database_in_memory_is_none_that_two_connections_share() {
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://billhook.db?mode=memory"] {
            assert_eq!(DatabaseUrl::parse(url).err(), Some(InvalidDatabaseUrl::Form), "{url}");
        }
    }

    #[test]
    fn password_that_is_not_encoded_is_no_part_of_the_host() {
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
    fn parameter_that_the_driver_cannot_read_is_rejected() {
        for bad in ["sslmode=canary", "port=65536", "hostaddr=db", "statement-cache-capacity=-1"] {
            let url = format!("postgres://db.example/billhook?{bad}");
            assert_eq!(DatabaseUrl::parse(&url).err(), Some(InvalidDatabaseUrl::Unreadable), "{url}");
        }
        let not_utf8 = DatabaseUrl::parse("postgres://user:%ff@db.example/billhook");
        assert_eq!(not_utf8.err(), Some(InvalidDatabaseUrl::Unreadable));
    }
}
