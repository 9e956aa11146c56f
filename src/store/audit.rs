//! The audit trail. Rows are added in the transaction of what they record, or where that writes nothing else, in
//! one of their own before it is answered. They are never changed.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{Alias, Expr, Query},
};

use super::{Error, Store, Tx, entity::audit_event};
use crate::domain::{
    Action, AgentId, AuditEvent, EventId, Origin, Page, PageRequest, Revision, TenantId, Timestamp,
};

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
    /// Reads a page of what a tenant's agent gave to runs, newest first; of a run that has a name, only the
    /// last.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn runs(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        page: &PageRequest<EventId>,
    ) -> Result<Page<AuditEvent, EventId>, Error> {
        let later = Alias::new("later");
        let is_later = Expr::col((later.clone(), audit_event::Column::AgentId))
            .eq(agent.as_str())
            .and(
                Expr::col((later.clone(), audit_event::Column::RunId))
                    .equals(audit_event::Column::RunId.as_column_ref()),
            )
            .and(
                Expr::col((later.clone(), audit_event::Column::Id))
                    .gt(Expr::col(audit_event::Column::Id.as_column_ref())),
            );
        let mut a_later_one = Query::select();
        a_later_one.expr(Expr::val(1)).from_as(audit_event::Entity, later).and_where(is_later);
        let mut query = audit_event::Entity::find()
            .filter(audit_event::Column::AgentId.eq(agent.as_str()))
            .filter(audit_event::Column::TenantId.eq(tenant.as_str()))
            .filter(audit_event::Column::Action.eq(Action::SecretsResolve.as_str()))
            .filter(audit_event::Column::RunId.eq("").or(Expr::exists(a_later_one).not()));
        if let Some(after) = &page.after {
            query = query.filter(audit_event::Column::Id.lt(after.as_str()));
        }
        let rows =
            query.order_by_desc(audit_event::Column::Id).limit(page.size + 1).all(&self.reader).await?;
        let events = rows.into_iter().map(to_event).collect::<Result<_, _>>()?;
        Ok(Page::from_overfull(events, page.size, |event: &AuditEvent| event.id.clone()))
    }
}

impl Tx {
    /// Adds an event.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        audit_event::Entity::insert(to_row(event)?).exec_without_returning(&self.0).await?;
        Ok(())
    }
}

/// An event as a row.
pub(super) fn to_row(event: &AuditEvent) -> Result<audit_event::ActiveModel, Error> {
    let AuditEvent { id, at, tenant, agent, action, actor, origin, secrets, revision, run_id, subject } =
        event;
    let secrets = serde_json::to_string(secrets)
        .map_err(|_unwritable| Error::Inconsistent("audited secrets can be written as JSON"))?;
    Ok(audit_event::ActiveModel {
        agent_id: Set(agent.as_ref().map(|agent| agent.as_str().to_owned()).unwrap_or_default()),
        id: Set(id.as_str().to_owned()),
        tenant_id: Set(tenant.as_str().to_owned()),
        at: Set(at.0),
        action: Set(action.as_str().to_owned()),
        actor: Set(actor.clone()),
        request_id: Set(origin.request_id.clone()),
        remote: Set(origin.remote.clone()),
        secrets: Set(secrets),
        revision: Set(revision.0),
        run_id: Set(run_id.clone()),
        subject: Set(subject.clone()),
    })
}

fn to_event(row: audit_event::Model) -> Result<AuditEvent, Error> {
    let unreadable = Error::Inconsistent("audit_events are our words and our JSON");
    Ok(AuditEvent {
        secrets: serde_json::from_str(&row.secrets).map_err(|_unreadable| unreadable.clone())?,
        action: row.action.parse().map_err(|_unknown| unreadable)?,
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
