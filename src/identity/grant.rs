//! What a rule gives, as it is written in each part of the file.

use serde::Deserialize;

use crate::domain::{AgentId, AgentScope, Scope, TenantId};

/// What a rule makes of somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) tenant: TenantId,
    pub(super) scopes: Vec<Scope>,
    pub(super) agents: AgentScope,
}

/// A text, or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

// === impl OneOrMore ===

impl OneOrMore {
    pub(super) fn texts(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

/// Reads the id of a tenant.
pub(super) fn tenant(id: &str) -> Result<TenantId, String> {
    TenantId::parse(id).ok_or_else(|| format!("tenant: {id:?} is no tenant's id, `ten_…`"))
}

/// Reads scopes, of which one at least has to be there.
pub(super) fn scopes(names: &[String]) -> Result<Vec<Scope>, String> {
    let scope = |text: &String| {
        let scope = text.parse::<Scope>();
        scope.map_err(|_unknown| format!("scopes: there is no scope {text:?}"))
    };
    let mut scopes = names.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
    scopes.sort();
    scopes.dedup();
    if scopes.is_empty() { Err("scopes: name at least one".to_owned()) } else { Ok(scopes) }
}

/// Reads the ids of agents, of which one at least has to be there, or `all`.
pub(super) fn agents(named: OneOrMore) -> Result<AgentScope, String> {
    if matches!(&named, OneOrMore::One(all) if all == "all") {
        return Ok(AgentScope::All);
    }
    let agent =
        |id: &String| AgentId::parse(id).ok_or_else(|| format!("agents: {id:?} is no agent's id, `agt_…`"));
    let agents = named.texts().iter().map(agent).collect::<Result<Vec<_>, _>>()?;
    if agents.is_empty() {
        return Err("agents: name at least one, or \"all\"".to_owned());
    }
    Ok(AgentScope::Only(agents))
}
