//! A PostgreSQL of several servers, of which one takes writes.
//!
//! `postgres://user@one,two:5433/db` is how libpq writes it. The driver knows one server at a time, so the URL is
//! taken apart here; which of them takes writes is asked of all at once, and the first that says so is it. An
//! answer is waited for as long as [`ANSWER`]: a machine that is gone does not answer at all.

use std::{fmt, io, str::FromStr, time::Duration};

use futures_util::future::select_ok;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::Error;

/// The longest that a server is waited for before it counts as gone.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// What libpq calls the servers that are of use here.
const TAKES_WRITES: [&str; 2] = ["read-write", "primary"];

/// Servers of one database; at least one. They print without user, password and options.
#[derive(Clone)]
pub struct Hosts(Vec<PgConnectOptions>);

// === impl Hosts ===

impl Hosts {
    /// All of them, in the order of the URL.
    pub(super) fn all(&self) -> &[PgConnectOptions] {
        &self.0
    }

    /// The same servers, connected to in another way.
    pub(super) fn map(self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        Self(self.0.into_iter().map(change).collect())
    }

    /// The one that takes writes now, with a connection to it; or what the last one said instead.
    pub(super) async fn primary(&self) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
        let asked = self.0.iter().map(|host| Box::pin(ask(host)));
        select_ok(asked).await.map(|(found, _others)| found)
    }
}

impl FromStr for Hosts {
    type Err = Error;

    /// The error never repeats the text: it may hold a password.
    fn from_str(url: &str) -> Result<Self, Error> {
        let no_url = || Error::Setup("the database URL is not a valid postgres:// URL".to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, hosts) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
        let rest = without_session(rest, hosts.contains(','))?;
        let hosts = hosts.split(',').map(|host| {
            let one = format!("{scheme}://{user}{host}{rest}");
            one.parse::<PgConnectOptions>().map_err(|_hidden: sqlx::Error| no_url())
        });
        hosts.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (n, host) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}", Name(host))?;
        }
        let database = self.0.first().and_then(PgConnectOptions::get_database);
        write!(f, "/{}", database.unwrap_or_default())
    }
}

/// A server as people name it.
pub(super) struct Name<'a>(pub(super) &'a PgConnectOptions);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.get_host(), self.0.get_port())
    }
}

/// Path and options of a URL, less `target_session_attrs`, which the driver does not know and which can only ask
/// for what is done anyway. What names a server must stand in one place: where several do, before the path.
fn without_session(rest: &str, several: bool) -> Result<String, Error> {
    let Some((path, options)) = rest.split_once('?') else { return Ok(rest.to_owned()) };
    let mut kept = Vec::new();
    for option in options.split('&') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "target_session_attrs" if TAKES_WRITES.contains(&value) => {}
            "target_session_attrs" => {
                return Err(Error::Setup(
                    "target_session_attrs in the database URL must be read-write or primary".to_owned(),
                ));
            }
            "host" | "hostaddr" | "port" if several || value.contains([',', '%']) => {
                return Err(Error::Setup(
                    "several hosts of the database URL must stand before its path, as in \
                     postgres://user@one:5432,two:5432/name"
                        .to_owned(),
                ));
            }
            _ => kept.push(option),
        }
    }
    Ok(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

async fn ask(host: &PgConnectOptions) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
    let asked = async {
        let mut connection = host.connect().await?;
        match expect_writable(&mut connection).await {
            Ok(()) => Ok((host.clone(), connection)),
            Err(error) => {
                // What it has to say to that is of no interest
                drop(connection.close().await);
                Err(error)
            }
        }
    };
    timeout(ANSWER, asked).await.unwrap_or_else(|_elapsed| Err(silent()))
}

/// An error unless the server takes writes on this connection, and says so in time. It takes the one round trip
/// that any look at a connection takes.
pub(super) async fn expect_writable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let asked = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(connection);
    let row = timeout(ANSWER, asked).await.unwrap_or_else(|_elapsed| Err(silent()))?;
    if row.try_get::<String, _>(0)? == "off" {
        Ok(())
    } else {
        Err(io::Error::other("the server takes no writes: it is a standby, or set to read only").into())
    }
}

fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<String, String> {
        let hosts = url.parse::<Hosts>().map_err(|error| error.to_string())?;
        for host in hosts.all() {
            assert_eq!(host.get_username(), "u", "{url}");
        }
        Ok(format!("{hosts:?}"))
    }

    #[test]
    fn a_url_names_one_host_or_several() {
        for (url, shown) in [
            ("postgres://u:p@a/db", "postgres://a:5432/db"),
            ("postgresql://u:p@a,b:5433/db", "postgres://a:5432,b:5433/db"),
            ("postgres://u:p%40,x@a:1,b:2,c:3/db", "postgres://a:1,b:2,c:3/db"),
            ("postgres://u@[::1]:1,[::2]/db", "postgres://[::1]:1,[::2]:5432/db"),
            ("postgres://u@a,b/db?target_session_attrs=read-write", "postgres://a:5432,b:5432/db"),
            (
                "postgres://u@a,b/db?sslmode=require&target_session_attrs=primary",
                "postgres://a:5432,b:5432/db",
            ),
            ("postgres://u@a/db?port=7", "postgres://a:7/db"),
        ] {
            assert_eq!(read(url).as_deref(), Ok(shown), "{url}");
        }
    }

    #[test]
    fn options_hold_for_every_host() {
        let hosts: Hosts =
            "postgres://u@a,b/db?target_session_attrs=primary&sslmode=require&dbname=other".parse().unwrap();
        for host in hosts.all() {
            assert!(matches!(host.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
            assert_eq!(host.get_database(), Some("other"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_it() {
        for (url, word) in [
            ("postgres://u:hunter2@a,b:x/db", "valid"),
            ("postgres://u:hunter2@a,,b/db?host=c", "before its path"),
            ("postgres://u:hunter2@a,b/db?port=1,2", "before its path"),
            ("postgres://u:hunter2@/db?host=a,b", "before its path"),
            ("postgres://u:hunter2@/db?host=a%2Cb", "before its path"),
            ("postgres://u:hunter2@a,b/db?target_session_attrs=standby", "read-write or primary"),
            ("postgres://u:hunter2@a,b/db?target_session_attrs", "read-write or primary"),
        ] {
            let error = read(url).unwrap_err();
            assert!(error.contains(word) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
