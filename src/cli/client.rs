//! The connection to the server, as a person has it: Ctrl-C ends what waits, and failures are told in words.

use std::ops::Deref;

use tonic::{Response, Status};

use crate::{
    client::{self, Page, Resolved},
    domain::AgentId,
    proto::v1::{Agent, ListAgentsRequest, ResolveSecretsRequest},
};

use super::{
    failure::Failure,
    input::interruptible,
    refusal,
    settings::{FoundToken, Server, check_token},
    token_source::TokenSource,
};

/// A connection with a token.
pub(crate) struct Client {
    inner: client::Client,
    server: String,
    source: TokenSource,
}

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
        &self.inner
    }
}

impl Client {
    /// Connects with a token.
    ///
    /// # Errors
    /// When the token or the CA file is malformed, or the server cannot be reached.
    pub(crate) async fn connect(server: &Server, token: &FoundToken) -> Result<Self, Failure> {
        let checked = check_token(token)?;
        let inner = interruptible(client::Client::connect(&server.0, &checked)).await??;
        Ok(Self { inner, server: server.shown().to_owned(), source: token.source.clone() })
    }

    /// Says which token it is that nobody is known by, and what to do about that one.
    fn advise(&self, failure: Failure) -> Failure {
        if failure.reason == refusal::UNAUTHENTICATED {
            failure.hint(self.source.advise(&self.server))
        } else {
            failure
        }
    }

    /// As [`client::Client::once`].
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(crate) async fn once<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        interruptible(self.inner.once(call)).await?.map_err(|error| self.advise(error.into()))
    }

    /// As [`client::Client::repeatable`].
    ///
    /// # Errors
    /// As [`Client::once`], after the last attempt.
    pub(crate) async fn repeatable<T>(
        &self,
        call: impl AsyncFnMut() -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        interruptible(self.inner.repeatable(call)).await?.map_err(|error| self.advise(error.into()))
    }

    /// As [`client::Client::resolve`].
    ///
    /// # Errors
    /// As [`Client::repeatable`].
    pub(crate) async fn resolve(&self, request: ResolveSecretsRequest) -> Result<Resolved, Failure> {
        interruptible(self.inner.resolve(request)).await?.map_err(|error| self.advise(error.into()))
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
        interruptible(self.inner.each_page(enough, page, take)).await?.map_err(|failure| self.advise(failure))
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

    /// Reads an agent's id, as a person wrote it.
    ///
    /// # Errors
    /// When it cannot be one.
    pub(crate) fn agent_of_id(text: &str) -> Result<NamedAgent, Failure> {
        let id = AgentId::parse(text).ok_or_else(|| {
            Failure::local("AGENT is not well-formed: an id is \"agt_\" and letters and digits.")
        })?;
        Ok(NamedAgent { id: id.as_str().to_owned(), shown: text.to_owned() })
    }
}
