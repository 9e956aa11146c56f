//! Reading the audit trail.

use super::{Call, Error, PageOf, Service, page_token};
use std::collections::HashMap;

use crate::domain::{Action, AgentId, AgentScope, AuditEvent, EventId, Page, PageRequest, Scope};

/// The most runs that one call reads: where few of very many are asked for, its page ends early.
const READ_AT_MOST: usize = 2000;

/// Whose runs to list.
#[derive(Debug, Default)]
pub struct ListRuns {
    /// The agent's id as the caller wrote it.
    pub agent: String,
    /// Only runs that were given this key; empty for all.
    pub key: String,
    /// Only runs that hold another version than is set now.
    pub stale: bool,
    /// How many at most; 0 for the default.
    pub page_size: u32,
    /// Where to go on; empty for the first page.
    pub page_token: String,
}

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

    /// Lists what an agent gave to runs, newest first; of a run that has a name, only the last. Only those
    /// that were given `key`, if it is not empty; only those that hold another version than is set now, if
    /// `stale`. A page may end early, also with no run at all, where many had to be read for it. The service
    /// does not know when a run has ended.
    ///
    /// # Errors
    /// As [`Service::list_events`].
    pub async fn list_runs(&self, call: &Call, request: ListRuns) -> Result<PageOf<Run>, Error> {
        let ListRuns { agent, key, stale, page_size, page_token } = request;
        let id = call.needs_on(Scope::AuditRead, &agent)?;
        let mut page = page_token::request(page_size, &page_token, |text| EventId::parse(&text))?;
        let wanted = page.size;
        let now = self.versions_now(call, &id).await?;
        // What is asked for may be rare: read on until a page is full, the list ends or it takes too long
        page.size = PageRequest::<EventId>::new(0, None).size;
        let (mut rows, mut read) = (Vec::new(), 0);
        while (rows.len() as u64) < wanted && read < READ_AT_MOST {
            let found = self.parts.store.runs(call.tenant(), &id, &page).await?;
            read += found.rows.len();
            rows.extend(found.rows.into_iter().filter(|run| is_asked_for(run, &key, stale.then_some(&now))));
            page.after = found.next;
            if page.after.is_none() {
                break;
            }
        }
        let Page { rows, next } = Page::from_overfull(rows, wanted, |run: &Run| run.id.clone());
        Ok(page_token::page(Page { rows, next: next.or(page.after) }, |id| id.to_string()))
    }

    /// The version of each key that is set now; none if the agent is gone.
    async fn versions_now(&self, call: &Call, id: &AgentId) -> Result<HashMap<String, i64>, Error> {
        let found = self.parts.store.secrets(call.tenant(), id).await?;
        let secrets = found.map(|(_, secrets)| secrets).unwrap_or_default();
        Ok(secrets.into_iter().map(|secret| (secret.name.to_string(), secret.version.0)).collect())
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

/// Whether a run was given `key`, or anything if that is empty; of `now`, in another version than is set now.
/// A value before that was given beside the new one makes no run stale: it holds the new one too.
fn is_asked_for(run: &Run, key: &str, now: Option<&HashMap<String, i64>>) -> bool {
    let mut held = run.secrets.iter().filter(|secret| key.is_empty() || secret.key == key);
    match now {
        Some(now) => held.any(|secret| !secret.is_previous && now.get(&secret.key) != Some(&secret.version)),
        None => key.is_empty() || held.next().is_some(),
    }
}
