//! Reading the audit trail.

use std::collections::HashMap;

use super::{Call, Error, PageOf, Service, page_token};
use crate::domain::{
    Action, AgentId, AgentScope, AuditEvent, AuditedSecret, EventId, Fault, FaultCode, Page, PageRequest,
    Scope, SecretName, Timestamp,
};

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
    /// Only runs that were given something then or later.
    pub since: Option<Timestamp>,
    /// How many at most; 0 for the default.
    pub page_size: u32,
    /// Where to go on; empty for the first page.
    pub page_token: String,
}

/// A run: its last resolve, with all that it was given in any; of each key, what it was given last.
pub type Run = AuditEvent;

/// The version of each key that is set.
type Versions = HashMap<String, i64>;

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

    /// Lists the runs of an agent, newest first, with what each was given in all its resolves. Only those
    /// that were given `key`, if it is not empty; only those that hold another version than is set now, if
    /// `stale`. A page may end early, also with no run at all, where many had to be read for it. The service
    /// does not know when a run has ended.
    ///
    /// # Errors
    /// As [`Service::list_events`]; also [`Error::Invalid`] for a `key` that cannot be one, and
    /// [`Error::SecretNotFound`] for one that the agent has not and its trail does not name: an empty list would
    /// say that nobody holds it.
    pub async fn list_runs(&self, call: &Call, request: ListRuns) -> Result<PageOf<Run>, Error> {
        let ListRuns { agent, key, stale, since, page_size, page_token } = request;
        let id = call.needs_on(Scope::AuditRead, &agent)?;
        let mut page = page_token::request(page_size, &page_token, |text| EventId::parse(&text))?;
        let wanted = page.size;
        let now = self.versions_now(call, &id).await?;
        self.check_key(call, &id, &key, &now).await?;
        // What is asked for may be rare: read on until a page is full, the list ends or it takes too long
        page.size = PageRequest::<EventId>::new(0, None).size;
        let (mut rows, mut read) = (Vec::new(), 0);
        while (rows.len() as u64) < wanted && read < READ_AT_MOST {
            let mut found = self.parts.store.runs(call.tenant(), &id, since, &page).await?;
            read += found.rows.len();
            self.add_all_given(call, &id, &mut found.rows).await?;
            rows.extend(found.rows.into_iter().filter(|run| is_asked_for(run, &key, stale.then_some(&now))));
            page.after = found.next;
            if page.after.is_none() {
                break;
            }
        }
        let Page { rows, next } = Page::from_overfull(rows, wanted, |run: &Run| run.id.clone());
        Ok(page_token::page(Page { rows, next: next.or(page.after) }, |id| id.to_string()))
    }

    /// Goes on if a key, if one is given, is one of the agent's, now or at any time.
    async fn check_key(&self, call: &Call, id: &AgentId, key: &str, now: &Versions) -> Result<(), Error> {
        if key.is_empty() || now.contains_key(key) {
            return Ok(());
        }
        let name = SecretName::parse(key);
        let name = name.ok_or_else(|| Error::invalid(Fault::new("key", FaultCode::InvalidKey)))?;
        let is_known = self.parts.store.trail_names(call.tenant(), id, &name).await?;
        if is_known { Ok(()) } else { Err(Error::SecretNotFound) }
    }

    /// Adds what runs that have a name were given in earlier resolves: a run may take some keys now and others
    /// later, and holds them all.
    async fn add_all_given(&self, call: &Call, id: &AgentId, runs: &mut [Run]) -> Result<(), Error> {
        let names: Vec<_> =
            runs.iter().map(|run| run.run_id.as_str()).filter(|name| !name.is_empty()).collect();
        let Some(newest) = runs.first().filter(|_| !names.is_empty()) else { return Ok(()) };
        let mut given = self.parts.store.given_to(call.tenant(), id, &names, &newest.id).await?;
        for run in runs {
            if let Some(given) = given.remove(&run.run_id) {
                run.secrets = given.into_values().collect();
            }
        }
        Ok(())
    }

    /// The version of each key that is set now; none if the agent is gone.
    async fn versions_now(&self, call: &Call, id: &AgentId) -> Result<Versions, Error> {
        let found = self.parts.store.secrets(call.tenant(), id).await?;
        let secrets = found.iter().flat_map(|found| &found.secrets);
        Ok(secrets.map(|secret| (secret.name.to_string(), secret.version.0)).collect())
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

/// Whether a run was given `key`, or anything if that is empty; of `now`, in an older version than is set now, or
/// where none is. A value before is a value of its key, and makes a run that holds the value after it not stale.
fn is_asked_for(run: &Run, key: &str, now: Option<&Versions>) -> bool {
    let has_current = |key: &str| run.secrets.iter().any(|it| !it.is_previous && it.key == key);
    let is_old = |held: &AuditedSecret, now: &Versions| {
        let is_beside = held.is_previous && has_current(held.secret());
        !is_beside && now.get(held.secret()).is_none_or(|now| held.version < *now)
    };
    let mut held =
        run.secrets.iter().filter(|held| key.is_empty() || held.key == key || held.secret() == key);
    match now {
        Some(now) => held.any(|held| is_old(held, now)),
        None => key.is_empty() || held.next().is_some(),
    }
}
