//! The audit trail. Rows are added in the transaction of what they record, or where that writes nothing else, in
//! one of their own before it is answered. They are never changed.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, ExprTrait as _, FromQueryResult,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
    sea_query::{Alias, Expr, Func, Query},
};

use super::{Error, Store, Tx, entity::audit_event, rows};
use crate::domain::{
    Action, AgentId, AuditEvent, AuditedSecret, EventId, Origin, Page, PageRequest, Revision, SecretName,
    TenantId, Timestamp,
};

/// The most different gifts to runs that are read at once.
const GIVEN_AT_ONCE: u64 = 1000;

/// What runs of a name were given together, and when last.
#[derive(FromQueryResult)]
struct Gift {
    run_id: String,
    secrets: String,
    last: String,
}

/// The condition of the index by which runs are found: databases use it only where they see it.
const HAS_RUN: &str = "run_id <> ''";

/// What a run was given, by the name under which it was.
pub type Given = BTreeMap<String, AuditedSecret>;

impl Store {
    /// Reads a page of a tenant's events, newest first: only one agent's and only of one action, if given.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn events(
        &self,
        tenant: &TenantId,
        agent: Option<&AgentId>,
        action: Option<Action>,
        page: &PageRequest<EventId>,
    ) -> Result<Page<AuditEvent, EventId>, Error> {
        let mut query = audit_event::Entity::find().filter(audit_event::Column::TenantId.eq(tenant.as_str()));
        if let Some(agent) = agent {
            query = query.filter(audit_event::Column::AgentId.eq(agent.as_str()));
        }
        if let Some(action) = action {
            query = query.filter(audit_event::Column::Action.eq(action.as_str()));
        }
        if let Some(after) = &page.after {
            query = query.filter(audit_event::Column::Id.lt(after.as_str()));
        }
        let rows =
            query.order_by_desc(audit_event::Column::Id).limit(page.size + 1).all(&self.reader).await?;
        let events = rows.into_iter().map(to_event).collect::<Result<_, _>>()?;
        Ok(Page::from_overfull(events, page.size, |event: &AuditEvent| event.id.clone()))
    }
}

impl Store {
    /// Reads a page of what a tenant's agent gave to runs, newest first, also only since some time; of a run that
    /// has a name, only the last resolve.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn runs(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        since: Option<Timestamp>,
        page: &PageRequest<EventId>,
    ) -> Result<Page<AuditEvent, EventId>, Error> {
        let later = Alias::new("later");
        let is_later = Expr::col((later.clone(), audit_event::Column::AgentId))
            .eq(agent.as_str())
            .and(
                Expr::col((later.clone(), audit_event::Column::RunId))
                    .equals(audit_event::Column::RunId.as_column_ref()),
            )
            .and(Expr::cust("later.run_id <> ''"))
            .and(Expr::col((later.clone(), audit_event::Column::Action)).eq(Action::SecretsResolve.as_str()))
            .and(
                Expr::col((later.clone(), audit_event::Column::Id))
                    .gt(Expr::col(audit_event::Column::Id.as_column_ref())),
            );
        let mut a_later_one = Query::select();
        a_later_one.expr(Expr::val(1)).from_as(audit_event::Entity, later).and_where(is_later);
        let mut query = resolves(tenant, agent)
            .filter(audit_event::Column::RunId.eq("").or(Expr::exists(a_later_one).not()));
        if let Some(Timestamp(since)) = since {
            query = query.filter(audit_event::Column::Id.gte(EventId::at(Ord::max(since, 0), 0).as_str()));
        }
        if let Some(after) = &page.after {
            query = query.filter(audit_event::Column::Id.lt(after.as_str()));
        }
        let rows =
            query.order_by_desc(audit_event::Column::Id).limit(page.size + 1).all(&self.reader).await?;
        let events = rows.into_iter().map(to_event).collect::<Result<_, _>>()?;
        Ok(Page::from_overfull(events, page.size, |event: &AuditEvent| event.id.clone()))
    }

    /// Reads what a tenant's agent gave to runs of these names in all their resolves up to one: of each key, what
    /// was given last.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn given_to(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        runs: &[&str],
        up_to: &EventId,
    ) -> Result<HashMap<String, Given>, Error> {
        let mut given: HashMap<String, Given> = HashMap::new();
        let last = audit_event::Column::Id.max();
        let mut before: Option<String> = None;
        // Resolves that gave the same are one row. Up to a time nothing changes any more, so that they can be read
        // in parts
        loop {
            let mut query = resolves(tenant, agent)
                .select_only()
                .columns([audit_event::Column::RunId, audit_event::Column::Secrets])
                .expr_as(last.clone(), "last")
                .filter(audit_event::Column::RunId.is_in(runs.iter().copied()))
                .filter(Expr::cust(HAS_RUN))
                .filter(audit_event::Column::Id.lte(up_to.as_str()))
                .group_by(audit_event::Column::RunId)
                .group_by(audit_event::Column::Secrets);
            if let Some(before) = &before {
                query = query.having(last.clone().lt(before.as_str()));
            }
            let query = query.order_by_desc(last.clone()).limit(GIVEN_AT_ONCE);
            let rows = query.into_model::<Gift>().all(&self.reader).await?;
            let is_all = (rows.len() as u64) < GIVEN_AT_ONCE;
            before = rows.last().map(|gift| gift.last.clone());
            for Gift { run_id, secrets, .. } in rows {
                let held = given.entry(run_id).or_default();
                for secret in from_json(&secrets)? {
                    held.entry(secret.key.clone()).or_insert(secret);
                }
            }
            if is_all {
                return Ok(given);
            }
        }
    }

    /// Whether the trail of a tenant's agent names a key anywhere.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn trail_names(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        key: &SecretName,
    ) -> Result<bool, Error> {
        let is_postgres = self.reader.get_database_backend() == DbBackend::Postgres;
        let position = if is_postgres { "strpos" } else { "instr" };
        let secrets = Expr::col(audit_event::Column::Secrets);
        let position = Func::cust(position).args([secrets, Expr::val(in_json(key))]);
        let found: Option<String> = audit_event::Entity::find()
            .select_only()
            .column(audit_event::Column::Id)
            .filter(audit_event::Column::AgentId.eq(agent.as_str()))
            .filter(audit_event::Column::TenantId.eq(tenant.as_str()))
            .filter(Expr::from(position).gt(0))
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?;
        Ok(found.is_some())
    }
}

/// The resolves of a tenant's agent.
fn resolves(tenant: &TenantId, agent: &AgentId) -> Select<audit_event::Entity> {
    audit_event::Entity::find()
        .filter(audit_event::Column::AgentId.eq(agent.as_str()))
        .filter(audit_event::Column::TenantId.eq(tenant.as_str()))
        .filter(audit_event::Column::Action.eq(Action::SecretsResolve.as_str()))
}

impl Tx {
    /// Adds an event.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        rows::of_events(&[event])?.insert(&self.0).await
    }
}

fn to_event(row: audit_event::Model) -> Result<AuditEvent, Error> {
    Ok(AuditEvent {
        secrets: from_json(&row.secrets)?,
        action: row.action.parse().map_err(|_unknown| Error::Inconsistent("actions are our words"))?,
        id: EventId::from_stored(row.id),
        at: Timestamp(row.at),
        tenant: TenantId::from_stored(row.tenant_id),
        agent: Some(row.agent_id).filter(|id| !id.is_empty()).map(AgentId::from_stored),
        actor: row.actor,
        origin: Origin { request_id: row.request_id, remote: row.remote },
        revision: Revision(row.revision),
        run_id: row.run_id,
        subject: row.subject,
    })
}

fn from_json(secrets: &str) -> Result<Vec<AuditedSecret>, Error> {
    serde_json::from_str(secrets).map_err(|_unreadable| Error::Inconsistent("audited secrets are our JSON"))
}

/// How a key stands in that JSON: names have nothing that is escaped.
fn in_json(key: &SecretName) -> String {
    format!("\"key\":\"{key}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_the_json_of_its_event_and_no_other() {
        let name = |text: &str| SecretName::parse(text).unwrap();
        let json = serde_json::to_string(&[AuditedSecret::absent(&name("A_KEY"))]).unwrap();
        assert!(json.contains(&in_json(&name("A_KEY"))), "{json}");
        for other in ["KEY", "A_KE", "A_KEY_", "a_key", "version"] {
            assert!(!json.contains(&in_json(&name(other))), "{other}");
        }
    }
}
