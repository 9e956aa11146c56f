//! Reading the audit trail.

use super::{Call, Error, PageOf, Service, page_token};
use crate::domain::{Action, AgentId, AgentScope, AuditEvent, EventId, Scope};

/// A run: a resolve and what it was given.
pub type Run = AuditEvent;

impl Service {
    /// Lists events, newest first: of one agent, also a deleted one, or of the whole tenant if `agent` is
    /// empty.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `audit:read`, and when a token limited to agents asks for the
    /// whole tenant; [`Error::AgentNotFound`] for an agent it may not see; [`Error::Invalid`] for a page
    /// token that is not of this list; [`Error::Store`].
    pub async fn list_events(
        &self,
        call: &Call,
        agent: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<PageOf<AuditEvent>, Error> {
        call.needs(Scope::AuditRead)?;
        let agent = match (agent, &call.principal.token.grant.agents) {
            ("", AgentScope::All) => None,
            ("", AgentScope::Only(_)) => return Err(Error::PermissionDenied { required: Scope::AuditRead }),
            (agent, _) => Some(call.needs_on(Scope::AuditRead, agent)?),
        };
        self.events(call, agent.as_ref(), None, page_size, page_token).await
    }

    /// Lists the runs of an agent and what each was given, newest first.
    ///
    /// # Errors
    /// As [`Service::list_events`].
    pub async fn list_runs(
        &self,
        call: &Call,
        agent: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<PageOf<Run>, Error> {
        let agent = call.needs_on(Scope::AuditRead, agent)?;
        self.events(call, Some(&agent), Some(Action::SecretsResolve), page_size, page_token).await
    }

    async fn events(
        &self,
        call: &Call,
        agent: Option<&AgentId>,
        action: Option<Action>,
        page_size: u32,
        page_token: &str,
    ) -> Result<PageOf<AuditEvent>, Error> {
        let page = page_token::request(page_size, page_token, |text| EventId::parse(&text))?;
        let page = self.parts.store.events(call.tenant(), agent, action, &page).await?;
        Ok(page_token::page(page, |id| id.to_string()))
    }
}
