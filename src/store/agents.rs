//! Agents.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, EntityTrait as _, FromQueryResult, JoinType,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationTrait as _, SelectExt as _,
    sea_query::OnConflict,
};

use super::{
    AgentRow, Error, Store, Tx, WrappedKeyRow,
    agent_row::{AgentColumns, parse_required},
    entity::{agent, idempotency, secret},
};
use crate::domain::{
    Agent, AgentId, AgentName, AgentScope, Command, Page, PageRequest, RequiredSecret, Revision, SecretName,
    TenantId, Timestamp,
};

/// An agent to create, or to update if there is one of its name.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The id of a new agent.
    pub id: AgentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: AgentName,
    /// The command that runs it.
    pub command: Option<Command>,
    /// What it requires.
    pub required_secrets: Vec<RequiredSecret>,
    /// Now.
    pub at: Timestamp,
}

/// An agent and one of its keys; NULL when it has none.
#[derive(FromQueryResult)]
struct KeyOfAgent {
    agent_id: String,
    name: String,
}

/// An agent's revision.
#[derive(FromQueryResult)]
struct RevisionOf {
    id: String,
    revision: i64,
}

// === impl Deployment ===

impl Deployment {
    /// What is written for an agent that is there, too.
    fn declared(&self) -> Result<agent::ActiveModel, Error> {
        let required_secrets = serde_json::to_string(&self.required_secrets)
            .map_err(|_unwritable| Error::Inconsistent("required secrets can be written as JSON"))?;
        Ok(agent::ActiveModel {
            command: Set(self.command.as_ref().map(|command| command.as_str().to_owned())),
            required_secrets: Set(required_secrets),
            updated_at: Set(self.at.0),
            ..Default::default()
        })
    }
}

// === impl Store ===

impl Store {
    /// Reads an agent of a tenant; `None` if it has none of this id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn agent(&self, tenant: &TenantId, id: &AgentId) -> Result<Option<Agent>, Error> {
        let of_tenant = agent::Column::TenantId.eq(tenant.as_str());
        let found = agent::Entity::find_by_id(id.as_str())
            .filter(of_tenant)
            .find_with_related(secret::Entity)
            .order_by_asc(secret::Column::Name)
            .all(&self.reader)
            .await?;
        let Some((row, secrets)) = found.into_iter().next() else { return Ok(None) };
        to_agent(row, secrets.into_iter().map(|secret| SecretName::from_stored(secret.name)).collect())
            .map(Some)
    }

    /// Whether a tenant has an agent of this name that `scope` allows.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_agent(
        &self,
        tenant: &TenantId,
        scope: &AgentScope,
        name: &AgentName,
    ) -> Result<bool, Error> {
        let named = visible(tenant, scope).add(agent::Column::Name.eq(name.as_str()));
        Ok(agent::Entity::find().filter(named).exists(&self.reader).await?)
    }

    /// Reads the revision of a tenant's agent; `None` if it has none of this id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revision(&self, tenant: &TenantId, id: &AgentId) -> Result<Option<Revision>, Error> {
        let revision: Option<i64> = agent::Entity::find_by_id(id.as_str())
            .select_only()
            .column(agent::Column::Revision)
            .filter(agent::Column::TenantId.eq(tenant.as_str()))
            .into_tuple()
            .one(&self.reader)
            .await?;
        Ok(revision.map(Revision))
    }

    /// Reads the revisions of agents of any tenant, for those who watch them already; one that is gone is
    /// not among them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revisions(&self, ids: &[AgentId]) -> Result<HashMap<AgentId, Revision>, Error> {
        let rows = agent::Entity::find()
            .select_only()
            .columns([agent::Column::Id, agent::Column::Revision])
            .filter(agent::Column::Id.is_in(ids.iter().map(AgentId::as_str)))
            .into_model::<RevisionOf>()
            .all(&self.reader)
            .await?;
        let rows = rows
            .into_iter()
            .map(|RevisionOf { id, revision }| (AgentId::from_stored(id), Revision(revision)));
        Ok(rows.collect())
    }

    /// Reads a page of a tenant's agents by name: only the agent of exactly this `name`, if it is given,
    /// and only those that `scope` allows.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn agents(
        &self,
        tenant: &TenantId,
        scope: &AgentScope,
        name: Option<&str>,
        page: &PageRequest<String>,
    ) -> Result<Page<Agent, String>, Error> {
        let mut query = agent::Entity::find().filter(visible(tenant, scope));
        if let Some(name) = name {
            query = query.filter(agent::Column::Name.eq(name));
        }
        if let Some(after) = &page.after {
            query = query.filter(agent::Column::Name.gt(after.as_str()));
        }
        let rows = query.order_by_asc(agent::Column::Name).limit(page.size + 1).all(&self.reader).await?;
        let mut keys = self.keys_of(visible(tenant, scope), &rows).await?;
        let agents = rows.into_iter().map(|row| {
            let keys = keys.remove(&row.id).unwrap_or_default();
            to_agent(row, keys)
        });
        let agents = agents.collect::<Result<_, _>>()?;
        Ok(Page::from_overfull(agents, page.size, |agent: &Agent| agent.name.as_str().to_owned()))
    }

    /// The keys of neighbours among the `visible` agents: by the range of their names, so that one prepared
    /// statement serves pages of any length.
    async fn keys_of(
        &self,
        visible: Condition,
        rows: &[agent::Model],
    ) -> Result<HashMap<String, Vec<SecretName>>, Error> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(HashMap::new()) };
        let in_range = visible
            .add(agent::Column::Name.gte(first.name.as_str()))
            .add(agent::Column::Name.lte(last.name.as_str()));
        let mut keys = HashMap::<_, Vec<_>>::new();
        for key in names_of(in_range).into_model::<KeyOfAgent>().all(&self.reader).await? {
            keys.entry(key.agent_id).or_default().push(SecretName::from_stored(key.name));
        }
        Ok(keys)
    }
}

// === impl Tx ===

impl Tx {
    /// Locks an agent until the transaction ends: writers of one agent queue here, agents do not wait for
    /// each other and reads do not wait. `None` if the tenant has no such agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn lock_agent(&self, tenant: &TenantId, id: &AgentId) -> Result<Option<AgentRow>, Error> {
        let row = AgentColumns::select()
            .filter(agent::Column::Id.eq(id.as_str()))
            .filter(agent::Column::TenantId.eq(tenant.as_str()))
            .lock_exclusive()
            .into_model::<AgentColumns>()
            .one(&self.0)
            .await?;
        row.map(AgentRow::try_from).transpose()
    }

    /// Creates an agent with a data key, or updates the tenant's agent of this name, which keeps its id, its data key and
    /// its secrets. Says which of them it was, and whether it is new.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn deploy(&self, deployment: &Deployment, key: &WrappedKeyRow) -> Result<(Agent, bool), Error> {
        let Deployment { id, tenant, name, at, command: _, required_secrets: _ } = deployment;
        let new = agent::ActiveModel {
            id: Set(id.as_str().to_owned()),
            tenant_id: Set(tenant.as_str().to_owned()),
            name: Set(name.as_str().to_owned()),
            revision: Set(0),
            kek_id: Set(key.kek.as_str().to_owned()),
            wrapped_key: Set(key.bytes.clone()),
            created_at: Set(at.0),
            ..deployment.declared()?
        };
        let declared = [agent::Column::Command, agent::Column::RequiredSecrets, agent::Column::UpdatedAt];
        let by_name = OnConflict::columns([agent::Column::TenantId, agent::Column::Name])
            .update_columns(declared)
            .to_owned();
        let row = agent::Entity::insert(new).on_conflict(by_name).exec_with_returning(&self.0).await?;
        let created = row.id == id.as_str();
        let keys = self.secret_names(&AgentId::from_stored(row.id.clone())).await?;
        Ok((to_agent(row, keys)?, created))
    }

    /// Updates the tenant's agent of this name, as [`deploy`](Self::deploy) does; `None` if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn redeploy(&self, deployment: &Deployment) -> Result<Option<Agent>, Error> {
        let rows = agent::Entity::update_many()
            .set(deployment.declared()?)
            .filter(agent::Column::TenantId.eq(deployment.tenant.as_str()))
            .filter(agent::Column::Name.eq(deployment.name.as_str()))
            .exec_with_returning(&self.0)
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let keys = self.secret_names(&AgentId::from_stored(row.id.clone())).await?;
        to_agent(row, keys).map(Some)
    }

    /// Deletes an agent that was locked, with its secrets, its data key and its remembered answers. Its
    /// audit trail stays.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_agent(&self, id: &AgentId) -> Result<(), Error> {
        let of_agent = secret::Column::AgentId.eq(id.as_str());
        secret::Entity::delete_many().filter(of_agent).exec(&self.0).await?;
        let of_agent = idempotency::Column::AgentId.eq(id.as_str());
        idempotency::Entity::delete_many().filter(of_agent).exec(&self.0).await?;
        agent::Entity::delete_by_id(id.as_str()).exec(&self.0).await?;
        Ok(())
    }
}

/// Those of a tenant's agents that `scope` allows.
fn visible(tenant: &TenantId, scope: &AgentScope) -> Condition {
    let of_tenant = Condition::all().add(agent::Column::TenantId.eq(tenant.as_str()));
    match scope {
        AgentScope::All => of_tenant,
        AgentScope::Only(ids) => of_tenant.add(agent::Column::Id.is_in(ids.iter().map(AgentId::as_str))),
    }
}

fn names_of(agents: Condition) -> sea_orm::Select<secret::Entity> {
    secret::Entity::find()
        .select_only()
        .columns([secret::Column::AgentId, secret::Column::Name])
        .join(JoinType::InnerJoin, secret::Relation::Agent.def())
        .filter(agents)
        .order_by_asc(secret::Column::AgentId)
        .order_by_asc(secret::Column::Name)
}

fn to_agent(row: agent::Model, keys: Vec<SecretName>) -> Result<Agent, Error> {
    Ok(Agent {
        required_secrets: parse_required(&row.required_secrets)?,
        id: AgentId::from_stored(row.id),
        tenant: TenantId::from_stored(row.tenant_id),
        name: AgentName::from_stored(row.name),
        command: row.command.map(Command::from_stored),
        keys,
        revision: Revision(row.revision),
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    })
}
