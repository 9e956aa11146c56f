//! The audit trail. Rows are added in the transaction of what they record, and never changed.

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
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

impl Tx {
    /// Adds an event.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        let AuditEvent { id, at, tenant, agent, action, actor, origin, secrets, revision, run_id, subject } =
            event;
        let secrets = serde_json::to_string(secrets)
            .map_err(|_unwritable| Error::Inconsistent("audited secrets can be written as JSON"))?;
        let row = audit_event::ActiveModel {
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
        };
        audit_event::Entity::insert(row).exec_without_returning(&self.0).await?;
        Ok(())
    }
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
