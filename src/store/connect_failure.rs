//! Why a database cannot be opened, in words for its operator: what failed, where, and what to do
//! about it. The drivers' own texts say less, and a pool says only that it waited in vain.

use std::time::Duration;
use std::{fmt, io};

use sea_orm::{DbErr, RuntimeErr};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Error};
use tokio::time::timeout;

/// How long one more connection may take whose failure tells the cause.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why PostgreSQL cannot be connected to.
pub(super) async fn of_postgres(error: &DbErr, options: &PgConnectOptions) -> String {
    if let Some(error) = driver_error(error) {
        return describe(error, options);
    }
    match timeout(PROBE_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Err(error)) => describe(&error, options),
        Ok(Ok(_)) => format!("PostgreSQL at {} accepted no connection in time; try again", at(options)),
        Err(_) => {
            format!("PostgreSQL at {} does not answer; check the address and the firewall", at(options))
        }
    }
}

/// Why a SQLite file cannot be opened.
pub(super) fn of_sqlite(error: &DbErr) -> Option<String> {
    let code = driver_error(error)?.as_database_error()?.code()?.into_owned();
    // The primary codes of <https://www.sqlite.org/rescode.html>.
    Some(match code.parse::<u32>().ok()? & 0xff {
        5 => "another process keeps the SQLite file locked; stop it, or try again".to_owned(),
        8 => "the SQLite file is read-only; make it and its directory writable".to_owned(),
        14 => "the SQLite file cannot be opened; check that its directory exists and is writable".to_owned(),
        26 => "the file is not a SQLite database; check the path".to_owned(),
        _ => return None,
    })
}

fn driver_error(error: &DbErr) -> Option<&Error> {
    match error {
        // It hides the failure of each connection that the pool has tried.
        DbErr::Conn(RuntimeErr::SqlxError(error)) if matches!(**error, Error::PoolTimedOut) => None,
        DbErr::Conn(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

fn describe(error: &Error, options: &PgConnectOptions) -> String {
    let at = at(options);
    match error {
        Error::Io(error) => of_io(error, &at),
        Error::Tls(error) => of_tls(error, &at),
        Error::Database(error) => {
            let user = options.get_username();
            match error.code().as_deref() {
                Some("28P01") => format!(
                    "PostgreSQL at {at} rejected the password of user {user}; check it, and percent-encode its special \
                     characters in the URL, such as %40 for @"
                ),
                Some("28000") => {
                    format!("PostgreSQL at {at} does not let user {user} in: {}", error.message())
                }
                Some("3D000") => {
                    let database = options.get_database().unwrap_or(user);
                    format!("PostgreSQL at {at} has no database {database}; create it, or check the URL")
                }
                Some("53300") => {
                    format!(
                        "PostgreSQL at {at} has no free connection; raise max_connections or run fewer replicas"
                    )
                }
                Some("57P03") => format!("PostgreSQL at {at} is starting or stopping; try again"),
                _ => format!("PostgreSQL at {at} refused the connection: {}", error.message()),
            }
        }
        _ => format!("PostgreSQL at {at} cannot be connected to: {error}"),
    }
}

fn of_io(error: &io::Error, at: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!(
                "connection refused at {at}; check that PostgreSQL runs there and listens on that address"
            )
        }
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("PostgreSQL at {at} cannot be reached; check the address and the firewall")
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            format!("the connection to {at} was closed before PostgreSQL answered; check the port")
        }
        // The TLS library's failures come as this kind.
        io::ErrorKind::InvalidData => of_tls(error, at),
        // The resolver's failures have no kind of their own.
        _ => format!("{at} cannot be connected to: {error}; check the host name"),
    }
}

fn of_tls(error: &dyn fmt::Display, at: &str) -> String {
    format!("TLS with PostgreSQL at {at} failed: {error}; check `sslmode` and `sslrootcert`")
}

/// The server's address as an operator would write it.
fn at(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
