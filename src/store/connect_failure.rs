//! Error messages for a database that cannot be opened: what failed, where, and what the operator
//! can do. The drivers' messages say less, and a pool only reports a timeout.

use std::time::Duration;
use std::{fmt, io};

use sea_orm::{DbErr, RuntimeErr};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Error};
use tokio::time::timeout;

/// After a timeout of the pool, one more connection attempt finds the cause.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn of_postgres(error: &DbErr, options: &PgConnectOptions) -> String {
    if let Some(error) = driver_error(error) {
        return describe(error, options);
    }
    match timeout(PROBE_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Err(error)) => describe(&error, options),
        Ok(Ok(_)) => format!("PostgreSQL at {} accepted no connection in time; try again", at(options)),
        Err(_) => {
            format!("PostgreSQL at {} does not respond; check the address and the firewall", at(options))
        }
    }
}

pub(super) fn of_sqlite(error: &DbErr) -> Option<String> {
    let code = driver_error(error)?.as_database_error()?.code()?.into_owned();
    // The primary codes of <https://www.sqlite.org/rescode.html>.
    Some(match code.parse::<u32>().ok()? & 0xff {
        5 => "another process has locked the SQLite file; stop it, or try again".to_owned(),
        8 => "the SQLite file is read-only; make it and its directory writable".to_owned(),
        14 => "the SQLite file cannot be opened; check that its directory exists and is writable".to_owned(),
        26 => "the file is not a SQLite database; check the path".to_owned(),
        _ => return None,
    })
}

fn driver_error(error: &DbErr) -> Option<&Error> {
    match error {
        // Hides the error of each attempt that the pool made.
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
                    format!("PostgreSQL at {at} does not allow user {user} to connect: {}", error.message())
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
                _ => format!("PostgreSQL at {at} rejected the connection: {}", error.message()),
            }
        }
        _ => format!("cannot connect to PostgreSQL at {at}: {error}"),
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
            format!("cannot reach PostgreSQL at {at}; check the address and the firewall")
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            format!("the connection to {at} was closed before PostgreSQL responded; check the port")
        }
        // Errors of the TLS library have this kind.
        io::ErrorKind::InvalidData => of_tls(error, at),
        // Errors of the resolver have no kind of their own.
        _ => format!("cannot connect to {at}: {error}; check the host name"),
    }
}

fn of_tls(error: &dyn fmt::Display, at: &str) -> String {
    format!("TLS with PostgreSQL at {at} failed: {error}; check `sslmode` and `sslrootcert`")
}

fn at(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
