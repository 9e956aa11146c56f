//! Which servers there are, and which key-encryption keys each has. A server that has not been seen for a while is none.
//!
//! All times are the database's, so that servers need no common clock.

use std::time::Duration;

use futures_util::FutureExt as _;
use sea_orm::{
    ConnectionTrait as _, DbBackend, FromQueryResult,
    sea_query::{Expr, ExprTrait as _, OnConflict, Order, Query},
};

use super::{Error, Store, Tx, sqlite::Touched};
use crate::domain::KekId;

/// A server of this database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRow {
    /// What it is called: the same after a restart.
    pub id: String,
    /// The keys that it can unwrap by.
    pub keks: Vec<KekId>,
    /// The key that it wraps by.
    pub wraps: KekId,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    keks: String,
    wraps: String,
}

/// For how long a server counts after it was last seen.
const COUNTS_FOR: Duration = Duration::from_secs(30);

/// When nothing is to be known of a server any more.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

const TABLE: &str = "servers";
const COLUMNS: [&str; 4] = ["id", "keks", "wraps", "seen_at"];

// === impl Store ===

impl Store {
    /// Notes that a server is there, with its keys. Those that were last seen long ago are forgotten.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn see_server(&self, server: ServerRow) -> Result<(), Error> {
        let write = move |tx: &Tx| {
            let server = server.clone();
            let now = now(tx.0.get_database_backend());
            let keks = server.keks.iter().map(KekId::as_str).collect::<Vec<_>>().join(" ");
            let values = [server.id.into(), keks.into(), server.wraps.to_string().into(), now.clone()];
            let mut insert = Query::insert();
            insert.into_table(TABLE).columns(COLUMNS).values_panic(values).on_conflict(
                OnConflict::column("id").update_columns(["keks", "wraps", "seen_at"]).to_owned(),
            );
            let mut forget = Query::delete();
            forget.from_table(TABLE).and_where(Expr::col("seen_at").lt(now.sub(micros(FORGOTTEN_AFTER))));
            (insert, forget)
        };
        self.writer
            .write(Touched::Nothing, move |tx| {
                let (insert, forget) = write(tx);
                async move {
                    tx.0.execute(&insert).await?;
                    tx.0.execute(&forget).await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Forgets a server.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn forget_server(&self, id: &str) -> Result<(), Error> {
        let mut delete = Query::delete();
        delete.from_table(TABLE).and_where(Expr::col("id").eq(id));
        self.writer
            .write(Touched::Nothing, move |tx| {
                let delete = delete.clone();
                async move { Ok::<_, Error>(tx.0.execute(&delete).await.map(drop)?) }.boxed()
            })
            .await
    }

    /// The servers that there are, by id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn servers(&self) -> Result<Vec<ServerRow>, Error> {
        let now = now(self.reader.get_database_backend());
        let mut select = Query::select();
        select
            .columns(["id", "keks", "wraps"])
            .from(TABLE)
            .and_where(Expr::col("seen_at").gt(now.sub(micros(COUNTS_FOR))))
            .order_by("id", Order::Asc);
        let mut servers = Vec::new();
        for row in self.reader.query_all(&select).await? {
            let Row { id, keks, wraps } = Row::from_query_result(&row, "")?;
            let keks = keks.split_whitespace().map(|id| KekId::from_stored(id.to_owned())).collect();
            servers.push(ServerRow { id, keks, wraps: KekId::from_stored(wraps) });
        }
        Ok(servers)
    }
}

// === impl Tx ===

impl Tx {
    /// Whether a server counts as there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn counts_server(&self, id: &str) -> Result<bool, Error> {
        let now = now(self.0.get_database_backend());
        let mut select = Query::select();
        select
            .column("id")
            .from(TABLE)
            .and_where(Expr::col("id").eq(id))
            .and_where(Expr::col("seen_at").gt(now.sub(micros(COUNTS_FOR))));
        Ok(self.0.query_one(&select).await?.is_some())
    }
}

/// Microseconds since the epoch by the database's clock.
fn now(backend: DbBackend) -> Expr {
    Expr::cust(match backend {
        DbBackend::Postgres => "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint",
        DbBackend::Sqlite | DbBackend::MySql | _ => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
