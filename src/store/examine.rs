//! What a PostgreSQL server says of itself and of the one who asks. Nothing is changed by it.

use std::time::Duration;

use sqlx::{
    PgConnection, Row as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use super::{Error, Hosts, connect::find};
use crate::domain::Timestamp;

/// The longest that a notification to oneself is waited for.
const OWN_WORD: Duration = Duration::from_secs(3);

/// How long a server that takes writes is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A channel that nobody listens to.
const CHANNEL: &str = "superserve_doctor";

const ABOUT: &str = "SELECT current_setting('server_version') AS version, current_user::text AS role, \
    COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, \
    CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS clock";

/// The tables of ours that somebody may not use as a server does.
const LACKED: &str = "SELECT relname::text FROM pg_class \
    WHERE relkind = 'r' AND relnamespace::regnamespace::text = quote_ident(current_schema()) \
    AND relname IN ('agents', 'audit_events', 'idempotency', 'keys', 'secrets', 'servers', 'tenants', 'token_uses', \
    'tokens') AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') \
    AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) ORDER BY relname";

/// What a PostgreSQL server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Its version.
    pub version: String,
    /// Who asks.
    pub role: String,
    /// Whether who asks may make tables.
    pub may_create: bool,
    /// Tables of ours that who asks may not read and write.
    pub lacked: Vec<String>,
    /// What time it is there.
    pub clock: Timestamp,
    /// Whether what is told by NOTIFY is heard by LISTEN.
    pub is_heard: bool,
}

/// Asks the server that takes writes.
///
/// # Errors
/// [`Error::Setup`] when none is reached, or it does not understand.
pub async fn examine(hosts: &Hosts) -> Result<Examined, Error> {
    let cannot = |error: sqlx::Error| {
        Error::Setup(format!("cannot reach the database {hosts:?} (--database-url): {error}"))
    };
    let (host, mut connection) = find(hosts, PATIENCE).await.map_err(cannot)?;
    let about = sqlx::query(ABOUT).fetch_one(&mut connection).await.map_err(cannot)?;
    let lacked = lacked(&mut connection).await.map_err(cannot)?;
    let text = |name| about.try_get::<String, _>(name).map_err(cannot);
    Ok(Examined {
        version: text("version")?,
        role: text("role")?,
        may_create: about.try_get("may_create").map_err(cannot)?,
        lacked,
        clock: Timestamp(about.try_get("clock").map_err(cannot)?),
        is_heard: is_heard(host).await.unwrap_or(false),
    })
}

async fn lacked(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let rows: Vec<PgRow> = sqlx::query(LACKED).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Tells itself something on one connection and listens on another, as servers do.
async fn is_heard(host: PgConnectOptions) -> Result<bool, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(OWN_WORD).connect_with(host).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(&pool).await?;
    Ok(matches!(timeout(OWN_WORD, listener.recv()).await, Ok(Ok(_heard))))
}
