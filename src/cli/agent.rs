//! AGENT, as a person names it: by a name, an id, or not at all in a project that has a `superserve.yaml`.
//!
//! Left out where nothing follows it, or written as `.`, it is the project's. A key that comes first is never
//! taken for one (`secrets set KEY` names an agent), so what a command line means does not depend on files.

use std::time::Duration;

use crate::{
    domain::{AgentId, SecretName},
    proto::v1::{Agent, GetAgentRequest},
};

use super::{
    client::{Client, NamedAgent},
    context::Context,
    failure::{Exit, Failure},
    project, refusal,
    similar::nearest,
};

/// How the project's agent is written.
pub(super) const OF_PROJECT: &str = ".";

/// How long a better name may be looked for: the failure is known already.
const SUGGESTION_TIME: Duration = Duration::from_secs(2);

/// What stands in the place of AGENT.
#[derive(Clone, Debug)]
pub(super) struct AgentArgument(String);

/// The name or the id of an agent.
#[derive(Clone, Debug)]
pub(super) struct AgentRef(String);

// === impl AgentArgument ===

impl AgentArgument {
    /// Reads the argument. `KEY=VALUE` in the place of AGENT is not repeated, and not sent as a name.
    ///
    /// # Errors
    /// When it looks like `KEY=VALUE`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once('=') {
            Some((key, _)) if SecretName::parse(key).is_some() => {
                Err("this looks like KEY=VALUE, and AGENT comes before it: its name, its id, or `.` for the \
                     agent of superserve.yaml")
            }
            Some(_) | None => Ok(Self(text.to_owned())),
        }
    }

    /// The agent that is meant.
    ///
    /// # Errors
    /// When it is empty, or the project's, and there is no `superserve.yaml` that says which.
    pub(super) fn resolve(&self, context: &mut Context) -> Result<AgentRef, Failure> {
        if self.0.is_empty() {
            return Err(Failure::local("AGENT is empty: give a name or an id."));
        }
        if self.0 == OF_PROJECT {
            return project::of(context).map(|project| AgentRef(project.name));
        }
        Ok(AgentRef(self.0.clone()))
    }
}

// === impl AgentRef ===

impl AgentRef {
    /// As it was written.
    pub(super) fn shown(&self) -> &str {
        &self.0
    }

    /// Whether it is an id, which need not be looked up.
    pub(super) fn is_id(&self) -> bool {
        self.0.starts_with(AgentId::PREFIX)
    }

    /// Finds its id.
    ///
    /// # Errors
    /// When it is malformed, or there is none of this name.
    pub(super) async fn find(&self, client: &Client) -> Result<NamedAgent, Failure> {
        if self.is_id() {
            return Client::agent_of_id(&self.0);
        }
        let Agent { id, .. } = self.fetch(client).await?;
        Ok(NamedAgent { id, shown: self.0.clone() })
    }

    /// Reads the whole agent: one call, also by its name.
    ///
    /// # Errors
    /// As [`Self::find`], and when the server refuses or fails.
    pub(super) async fn fetch(&self, client: &Client) -> Result<Agent, Failure> {
        let Self(name) = self;
        if self.is_id() {
            let NamedAgent { id: agent_id, .. } = Client::agent_of_id(name)?;
            let call = || {
                let (mut agents, agent_id) = (client.agents(), agent_id.clone());
                async move { agents.get_agent(GetAgentRequest { agent_id }).await }
            };
            return Ok(client.repeatable(call).await?.agent.unwrap_or_default());
        }
        let found = client.pages(1, |page_token| client.agents_page(name, page_token)).await;
        let found = found.map_err(hint_at_id)?.into_iter().find(|agent| agent.name == *name);
        match found {
            Some(agent) => Ok(agent),
            None => Err(not_found(client, name).await),
        }
    }
}

/// There is none of this name; and which there is that is spelled like it, as far as one page of them shows.
async fn not_found(client: &Client, name: &str) -> Failure {
    let page = tokio::time::timeout(SUGGESTION_TIME, client.agents_page("", String::new())).await;
    let agents = page.ok().and_then(Result::ok).map(|(agents, _next)| agents).unwrap_or_default();
    let failure = Failure::new(Exit::Server, format!("Agent '{name}' not found."));
    match nearest(name, agents.iter().map(|agent| agent.name.as_str())) {
        Some(meant) => failure.hint(format!("Did you mean '{meant}'?")),
        None => {
            failure.hint("See `superserve agents list`, or make one with `superserve agents deploy NAME`.")
        }
    }
}

/// A token for one purpose often may not look up names.
fn hint_at_id(failure: Failure) -> Failure {
    if failure.reason == refusal::PERMISSION_DENIED {
        failure.hint("Finding an agent by its name needs 'agents:read': give its id, agt_…, instead.")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_the_place_of_an_agent_is_refused() {
        for text in ["KEY=sentinel", "_k="] {
            assert!(AgentArgument::parse(text).is_err(), "{text}");
        }
        for text in ["my-agent", "agt_abc", ".", "KEY", "a b=c", "1=2"] {
            assert_eq!(AgentArgument::parse(text).unwrap().0, text);
        }
    }
}
