//! Tenants: made, found, and taken away with all that is theirs.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, RelationTrait as _,
    sea_query::{JoinType, OnConflict, Query},
};

use super::{
    Error, Store, Tx,
    entity::{agent, secret, tenant, token, token_use},
};
use crate::domain::{AgentId, Page, PageRequest, Tenant, TenantId, TenantName, Timestamp};

/// What is lost with a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Its agents.
    pub agents: u64,
    /// Their secrets.
    pub secrets: u64,
    /// Its tokens that were not revoked.
    pub tokens: u64,
}

// === impl Store ===

impl Store {
    /// Finds a tenant, also one that goes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Error> {
        Ok(tenant::Entity::find_by_id(id.as_str()).one(&self.reader).await?.map(to_tenant))
    }

    /// Finds a tenant by its name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenant_of_name(&self, name: &str) -> Result<Option<Tenant>, Error> {
        let found = tenant::Entity::find().filter(tenant::Column::Name.eq(name)).one(&self.reader).await?;
        Ok(found.map(to_tenant))
    }

    /// Reads a page of tenants, by id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenants(&self, page: &PageRequest<TenantId>) -> Result<Page<Tenant, TenantId>, Error> {
        let mut query = tenant::Entity::find();
        if let Some(after) = &page.after {
            query = query.filter(tenant::Column::Id.gt(after.as_str()));
        }
        let rows = query.order_by_asc(tenant::Column::Id).limit(page.size + 1).all(&self.reader).await?;
        let rows = rows.into_iter().map(to_tenant).collect();
        Ok(Page::from_overfull(rows, page.size, |tenant: &Tenant| tenant.id.clone()))
    }

    /// Counts what a tenant has.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn belongings(&self, tenant: &TenantId) -> Result<Belongings, Error> {
        let of_tenant = agent::Column::TenantId.eq(tenant.as_str());
        let agents = agent::Entity::find().filter(of_tenant.clone()).count(&self.reader).await?;
        let secrets = secret::Entity::find().join(JoinType::InnerJoin, secret::Relation::Agent.def());
        let secrets = secrets.filter(of_tenant).count(&self.reader).await?;
        let tokens = token::Entity::find().filter(token::Column::TenantId.eq(tenant.as_str()));
        let tokens = tokens.filter(token::Column::RevokedAt.is_null()).count(&self.reader).await?;
        Ok(Belongings { agents, secrets, tokens })
    }

    /// Some of a tenant's agents, so many at most.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn some_agents(&self, tenant: &TenantId, at_most: u64) -> Result<Vec<AgentId>, Error> {
        let ids = agent::Entity::find()
            .select_only()
            .column(agent::Column::Id)
            .filter(agent::Column::TenantId.eq(tenant.as_str()))
            .limit(at_most)
            .into_tuple::<String>()
            .all(&self.reader)
            .await?;
        Ok(ids.into_iter().map(AgentId::from_stored).collect())
    }
}

// === impl Tx ===

impl Tx {
    /// Makes sure that a tenant is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ensure_tenant(&self, id: &TenantId, name: &str, at: Timestamp) -> Result<(), Error> {
        self.insert_tenant(id, name, at, tenant::Column::Id).await.map(drop)
    }

    /// Adds a tenant unless there is one of this name, and says whether it did.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn add_tenant(&self, tenant: &Tenant) -> Result<bool, Error> {
        let Tenant { id, name, created_at, is_going: _ } = tenant;
        self.insert_tenant(id, name.as_str(), *created_at, tenant::Column::Name).await
    }

    async fn insert_tenant(
        &self,
        id: &TenantId,
        name: &str,
        at: Timestamp,
        unless_there: tenant::Column,
    ) -> Result<bool, Error> {
        let row = tenant::ActiveModel {
            id: Set(id.as_str().to_owned()),
            name: Set(name.to_owned()),
            created_at: Set(at.0),
            deleted_at: Set(None),
        };
        let keep = OnConflict::column(unless_there).do_nothing().to_owned();
        let added = tenant::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.0).await?;
        Ok(added > 0)
    }

    /// Whether a tenant is there and does not go; it does not begin to until the transaction ends.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn hold_tenant(&self, id: &TenantId) -> Result<bool, Error> {
        let found = tenant::Entity::find_by_id(id.as_str())
            .filter(tenant::Column::DeletedAt.is_null())
            .lock_shared()
            .one(&self.0)
            .await?;
        Ok(found.is_some())
    }

    /// Has a tenant go: its tokens are revoked, and nothing is added to it any more. Says whether it is this that
    /// began it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn begin_to_delete_tenant(&self, id: &TenantId, at: Timestamp) -> Result<bool, Error> {
        let marked = tenant::Entity::update_many()
            .col_expr(tenant::Column::DeletedAt, at.0.into())
            .filter(tenant::Column::Id.eq(id.as_str()))
            .filter(tenant::Column::DeletedAt.is_null())
            .exec(&self.0)
            .await?;
        token::Entity::update_many()
            .col_expr(token::Column::RevokedAt, at.0.into())
            .filter(token::Column::TenantId.eq(id.as_str()))
            .filter(token::Column::RevokedAt.is_null())
            .exec(&self.0)
            .await?;
        Ok(marked.rows_affected > 0)
    }

    /// Takes away a tenant that goes, and when its tokens were used.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn forget_tenant(&self, id: &TenantId) -> Result<(), Error> {
        let mut tokens = Query::select();
        tokens
            .column(token::Column::Id)
            .from(token::Entity)
            .and_where(token::Column::TenantId.eq(id.as_str()));
        let uses = token_use::Entity::delete_many();
        uses.filter(token_use::Column::TokenId.in_subquery(tokens)).exec(&self.0).await?;
        let going = tenant::Entity::delete_many().filter(tenant::Column::Id.eq(id.as_str()));
        going.filter(tenant::Column::DeletedAt.is_not_null()).exec(&self.0).await?;
        Ok(())
    }
}

fn to_tenant(row: tenant::Model) -> Tenant {
    let tenant::Model { id, name, created_at, deleted_at } = row;
    Tenant {
        id: TenantId::from_stored(id),
        name: TenantName::from_stored(name),
        created_at: Timestamp(created_at),
        is_going: deleted_at.is_some(),
    }
}
