//! The connection to the server, as a person has it: Ctrl-C ends what waits, and failures are told in words.

use std::ops::Deref;

use tonic::{Response, Status};

use crate::{
    client::{self, Page},
    domain::AgentId,
    proto::v1::{Agent, ListAgentsRequest},
};

use super::{
    failure::{Exit, Failure},
    input::interruptible,
    refusal,
    settings::{Server, check_token},
};

/// A connection with a token.
pub(crate) struct Client(client::Client);

/// An agent that a person named.
#[derive(Debug)]
pub(crate) struct NamedAgent {
    /// Its id.
    pub(crate) id: String,
    /// As the person wrote it: the name or the id.
    pub(crate) shown: String,
}

// === impl Client ===

impl Deref for Client {
    type Target = client::Client;

    fn deref(&self) -> &client::Client {
        &self.0
    }
}

impl Client {
    /// Connects with a token.
    ///
    /// # Errors
    /// When the token or the CA file is malformed, or the server cannot be reached.
    pub(crate) async fn connect(server: &Server, token: &str) -> Result<Self, Failure> {
        let token = check_token(token)?;
        Ok(Self(interruptible(client::Client::connect(&server.0, &token)).await??))
    }

    /// As [`client::Client::once`].
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(crate) async fn once<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        Ok(interruptible(self.0.once(call)).await??)
    }

    /// As [`client::Client::repeatable`].
    ///
    /// # Errors
    /// As [`Client::once`], after the last attempt.
    pub(crate) async fn repeatable<T>(
        &self,
        call: impl AsyncFnMut() -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        Ok(interruptible(self.0.repeatable(call)).await??)
    }

    /// Reads a list page by page, until it ends or `enough` rows are there.
    ///
    /// # Errors
    /// As [`Client::repeatable`].
    pub(crate) async fn pages<Row>(
        &self,
        enough: usize,
        page: impl AsyncFnMut(String) -> Result<Page<Row>, Status>,
    ) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        self.each_page(enough, page, |more| {
            rows.extend(more);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// As [`client::Client::each_page`].
    ///
    /// # Errors
    /// As [`Client::repeatable`], and what `take` says.
    pub(crate) async fn each_page<Row>(
        &self,
        enough: usize,
        page: impl AsyncFnMut(String) -> Result<Page<Row>, Status>,
        take: impl FnMut(Vec<Row>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        interruptible(self.0.each_page(enough, page, take)).await?
    }

    /// One page of the agents that the token reaches: of all, or only of those of exactly this name.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(crate) async fn agents_page(&self, name: &str, page_token: String) -> Result<Page<Agent>, Status> {
        let request = ListAgentsRequest { name: name.to_owned(), page_token, ..ListAgentsRequest::default() };
        let page = self.agents().list_agents(request).await?.into_inner();
        Ok((page.agents, page.next_page_token))
    }

    /// Finds the agent that a person named by its id or its name.
    ///
    /// # Errors
    /// When it is neither, or there is none of this name.
    pub(crate) async fn find_agent(&self, agent: &str) -> Result<NamedAgent, Failure> {
        if agent.starts_with(AgentId::PREFIX) {
            let id = AgentId::parse(agent).ok_or_else(|| {
                Failure::local("AGENT is not well-formed: an id is \"agt_\" and letters and digits.")
            })?;
            return Ok(NamedAgent { id: id.as_str().to_owned(), shown: agent.to_owned() });
        }
        if agent.is_empty() {
            return Err(Failure::local("AGENT is empty: give a name or an id."));
        }
        let found = self.pages(1, |page_token| self.agents_page(agent, page_token)).await;
        let found = found.map_err(hint_at_id)?.into_iter().find(|found| found.name == agent);
        found.map(|found| NamedAgent { id: found.id, shown: agent.to_owned() }).ok_or_else(|| {
            Failure::new(Exit::Server, format!("Agent not found: there is no agent '{agent}'."))
                .hint("See `superserve agents list`, or make one with `superserve agents deploy NAME`.")
        })
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
