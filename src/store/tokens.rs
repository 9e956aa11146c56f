//! Tokens, by the SHA-256 of their text.

use std::sync::Arc;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, EntityTrait as _, ExprTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Value,
    sea_query::{Expr, OnConflict},
};

use super::{
    Error, Store, Tx,
    entity::{token, token_use},
    sqlite,
};
use crate::domain::{
    AgentId, AgentScope, ListedToken, Page, PageRequest, Scope, TenantId, Timestamp, TokenGrant, TokenId,
    TokenRecord,
};

/// PostgreSQL's expression that makes a text of a token's row: JSON.
pub(super) const CONTENT: &str = "json_build_array(id, tenant_id, name, scopes, agents, email, created_at, \
    expires_at, revoked_at)::text";

/// What there is of a token.
type Columns = (String, String, String, String, Option<String>, String, i64, Option<i64>, Option<i64>);

/// Reads a token from what [`CONTENT`] has made of it.
pub(super) fn parse(content: &str) -> Result<TokenRecord, Error> {
    serde_json::from_str(content)
        .map_err(|_unreadable| Error::Inconsistent("tokens are gathered as our JSON"))
        .and_then(to_record)
}

/// Finds a token on SQLite. The text is written out because every call begins with it: to put it together anew took longer
/// than SQLite does to answer it.
pub(super) fn by_hash(connection: &sqlite::Connection, hash: &[u8]) -> Result<Option<TokenRecord>, Error> {
    let text = "SELECT id, tenant_id, name, scopes, agents, email, created_at, expires_at, revoked_at \
                FROM tokens WHERE hash = ?";
    let mut found: Option<Columns> = None;
    connection.read(text, [hash], |row| {
        found = Some(row.try_into()?);
        Ok(())
    })?;
    found.map(to_record).transpose()
}

// === impl Store ===

impl Store {
    /// Finds a token by the SHA-256 of its text, also a revoked or expired one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn token_by_hash(&self, hash: &[u8]) -> Result<Option<Arc<TokenRecord>>, Error> {
        self.lookups.token(hash).await
    }

    /// Which of these tokens are neither revoked nor expired.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tokens_valid_at(&self, ids: &[TokenId], now: Timestamp) -> Result<Vec<TokenId>, Error> {
        let rows = token::Entity::find()
            .filter(token::Column::Id.is_in(ids.iter().map(TokenId::as_str)))
            .all(&self.reader)
            .await?;
        let records = rows.into_iter().map(of_model).collect::<Result<Vec<_>, _>>()?;
        Ok(records.into_iter().filter(|it| it.is_valid_at(now)).map(|it| it.id).collect())
    }

    /// Whether there is any token at all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_tokens(&self) -> Result<bool, Error> {
        Ok(token::Entity::find().limit(1).count(&self.reader).await? > 0)
    }

    /// Reads a page of a tenant's tokens, newest first. The cursor is creation time and id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tokens(
        &self,
        tenant: &TenantId,
        page: &PageRequest<(Timestamp, TokenId)>,
    ) -> Result<Page<ListedToken, (Timestamp, TokenId)>, Error> {
        let mut query = token::Entity::find()
            .find_also_related(token_use::Entity)
            .filter(token::Column::TenantId.eq(tenant.as_str()));
        if let Some((at, id)) = &page.after {
            let same_time = token::Column::CreatedAt.eq(at.0).and(token::Column::Id.lt(id.as_str()));
            query = query.filter(Condition::any().add(token::Column::CreatedAt.lt(at.0)).add(same_time));
        }
        let rows = query
            .order_by_desc(token::Column::CreatedAt)
            .order_by_desc(token::Column::Id)
            .limit(page.size + 1)
            .all(&self.reader)
            .await?;
        let listed = rows.into_iter().map(|(row, used)| {
            Ok(ListedToken { token: of_model(row)?, last_used_at: used.map(|used| Timestamp(used.used_at)) })
        });
        let listed = listed.collect::<Result<_, Error>>()?;
        Ok(Page::from_overfull(listed, page.size, |ListedToken { token, .. }: &ListedToken| {
            (token.created_at, token.id.clone())
        }))
    }
}

// === impl Tx ===

impl Tx {
    /// Adds a token unless there is one of this text already, and says whether it did.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn add_token(&self, record: &TokenRecord, hash: &[u8]) -> Result<bool, Error> {
        let TokenRecord { id, tenant, grant, created_at, revoked_at } = record;
        let TokenGrant { name, scopes, agents, email, expires_at } = grant;
        let row = token::ActiveModel {
            id: Set(id.as_str().to_owned()),
            hash: Set(hash.to_vec()),
            tenant_id: Set(tenant.as_str().to_owned()),
            name: Set(name.clone()),
            scopes: Set(join(scopes.iter().map(|scope| scope.as_str()))),
            agents: Set(match agents {
                AgentScope::All => None,
                AgentScope::Only(ids) => Some(join(ids.iter().map(AgentId::as_str))),
            }),
            email: Set(email.clone()),
            created_at: Set(created_at.0),
            expires_at: Set(expires_at.map(|at| at.0)),
            revoked_at: Set(revoked_at.map(|at| at.0)),
            replaced_by: Set(None),
        };
        let keep = OnConflict::column(token::Column::Hash).do_nothing().to_owned();
        let added = token::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.0).await?;
        Ok(added > 0)
    }

    /// Revokes a tenant's token; one that is revoked already keeps its time. `None` if there is no such
    /// token; else the token, and whether it was this call that revoked it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke_token(
        &self,
        tenant: &TenantId,
        id: &TokenId,
        at: Timestamp,
    ) -> Result<Option<(TokenRecord, bool)>, Error> {
        let of_tenant = token::Column::TenantId.eq(tenant.as_str());
        let changed = token::Entity::update_many()
            .col_expr(token::Column::RevokedAt, at.0.into())
            .filter(token::Column::Id.eq(id.as_str()))
            .filter(of_tenant.clone())
            .filter(token::Column::RevokedAt.is_null())
            .exec(&self.0)
            .await?;
        let row = token::Entity::find_by_id(id.as_str()).filter(of_tenant).one(&self.0).await?;
        let record = row.map(of_model).transpose()?;
        Ok(record.map(|record| (record, changed.rows_affected > 0)))
    }

    /// Reads a tenant's token, which nobody else changes until the transaction ends, and says whether another has
    /// replaced it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lock_token(
        &self,
        tenant: &TenantId,
        id: &TokenId,
    ) -> Result<Option<(TokenRecord, bool)>, Error> {
        let found = token::Entity::find_by_id(id.as_str())
            .filter(token::Column::TenantId.eq(tenant.as_str()))
            .lock_exclusive()
            .one(&self.0)
            .await?;
        let read = |row: token::Model| {
            let is_replaced = row.replaced_by.is_some();
            Ok((of_model(row)?, is_replaced))
        };
        found.map(read).transpose()
    }

    /// Has another token take the place of one, which ends when its record says now.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn replace_token(&self, replaced: &TokenRecord, by: &TokenId) -> Result<(), Error> {
        let time = |at: Option<Timestamp>| Expr::value(Value::BigInt(at.map(|at| at.0)));
        token::Entity::update_many()
            .col_expr(token::Column::ReplacedBy, Expr::value(by.as_str()))
            .col_expr(token::Column::ExpiresAt, time(replaced.grant.expires_at))
            .col_expr(token::Column::RevokedAt, time(replaced.revoked_at))
            .filter(token::Column::Id.eq(replaced.id.as_str()))
            .exec(&self.0)
            .await?;
        Ok(())
    }
}

fn join(words: impl Iterator<Item = impl AsRef<str>>) -> String {
    words.map(|word| word.as_ref().to_owned()).collect::<Vec<_>>().join(" ")
}

fn of_model(row: token::Model) -> Result<TokenRecord, Error> {
    let token::Model {
        id,
        hash: _,
        tenant_id,
        name,
        scopes,
        agents,
        email,
        created_at,
        expires_at,
        revoked_at,
        replaced_by: _,
    } = row;
    to_record((id, tenant_id, name, scopes, agents, email, created_at, expires_at, revoked_at))
}

fn to_record(columns: Columns) -> Result<TokenRecord, Error> {
    let (id, tenant, name, scopes, agents, email, created_at, expires_at, revoked_at) = columns;
    let scopes = scopes
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<Scope>, _>>()
        .map_err(|_unknown| Error::Inconsistent("tokens.scopes are known"))?;
    let agents = match agents {
        None => AgentScope::All,
        Some(ids) => {
            AgentScope::Only(ids.split_whitespace().map(|id| AgentId::from_stored(id.to_owned())).collect())
        }
    };
    Ok(TokenRecord {
        id: TokenId::from_stored(id),
        tenant: TenantId::from_stored(tenant),
        grant: TokenGrant { name, scopes, agents, email, expires_at: expires_at.map(Timestamp) },
        created_at: Timestamp(created_at),
        revoked_at: revoked_at.map(Timestamp),
    })
}
