//! Which key-encryption keys this database was written with.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, EntityTrait as _, FromQueryResult, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, OnConflict},
};

use super::{
    Error, Store, Tx,
    entity::{agent, key},
};
use crate::domain::{KekId, Timestamp};

/// A key-encryption key as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KekId,
    /// By it a wrong key under the right id is recognised.
    pub check_value: Vec<u8>,
    /// When this database got to know it.
    pub noted_at: Timestamp,
    /// Since when servers may wrap by it; `None` if never yet.
    pub primary_since: Option<Timestamp>,
}

/// How many agents' data keys a key wraps.
#[derive(FromQueryResult)]
struct Usage {
    kek_id: String,
    agents: i64,
}

impl Store {
    /// All keys this database was written with, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn known_keys(&self) -> Result<Vec<KeyRow>, Error> {
        let rows = key::Entity::find().order_by_asc(key::Column::CreatedAt).all(&self.reader).await?;
        let rows = rows.into_iter().map(|row| KeyRow {
            id: KekId::from_stored(row.id),
            check_value: row.check_value,
            noted_at: Timestamp(row.created_at),
            primary_since: row.primary_since.map(Timestamp),
        });
        Ok(rows.collect())
    }

    /// How many agents' data keys each key wraps.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn key_usage(&self) -> Result<Vec<(KekId, u64)>, Error> {
        let counts = agent::Entity::find()
            .select_only()
            .column(agent::Column::KekId)
            .column_as(agent::Column::Id.count(), "agents")
            .group_by(agent::Column::KekId)
            .into_model::<Usage>()
            .all(&self.reader)
            .await?;
        let counts = counts
            .into_iter()
            .map(|Usage { kek_id, agents }| (KekId::from_stored(kek_id), agents.unsigned_abs()));
        Ok(counts.collect())
    }
}

impl Tx {
    /// Notes a key; one that is known already stays as it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn note_key(&self, key: &KeyRow) -> Result<(), Error> {
        let row = key::ActiveModel {
            id: Set(key.id.as_str().to_owned()),
            check_value: Set(key.check_value.clone()),
            created_at: Set(key.noted_at.0),
            primary_since: Set(key.primary_since.map(|at| at.0)),
        };
        let keep = OnConflict::column(key::Column::Id).do_nothing().to_owned();
        key::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.0).await?;
        Ok(())
    }

    /// Notes since when a key wraps, or that it does not yet.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_primary_since(&self, id: &KekId, since: Option<Timestamp>) -> Result<(), Error> {
        key::Entity::update_many()
            .col_expr(key::Column::PrimarySince, Expr::value(since.map(|at| at.0)))
            .filter(key::Column::Id.eq(id.as_str()))
            .exec(&self.0)
            .await?;
        Ok(())
    }

    /// Forgets a key, so that nobody asks for it any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn forget_key(&self, id: &KekId) -> Result<(), Error> {
        key::Entity::delete_by_id(id.as_str()).exec(&self.0).await?;
        Ok(())
    }
}
