//! The connection to the server.

use std::{sync::Arc, time::Duration};

use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use crate::{
    domain::AgentId,
    proto::v1::{
        Agent, ListAgentsRequest, agents_service_client::AgentsServiceClient,
        audit_service_client::AuditServiceClient, runtime_service_client::RuntimeServiceClient,
        secrets_service_client::SecretsServiceClient, tokens_service_client::TokensServiceClient,
    },
    trace,
};

use super::{
    failure::{Exit, Failure},
    input::interruptible,
    list::Page,
    refusal,
    settings::{Server, check_token},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connection that waits is tried, so that a stream of a dead server ends.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How often a call is made that has no second effect.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A channel that sends the token along.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Puts the token into every call, and the trace that it belongs to.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>, Option<Arc<trace::Context>>);

/// A connection with a token.
pub(crate) struct Client {
    channel: Channel,
    bearer: Bearer,
    url: String,
}

/// An agent that a person named.
#[derive(Debug)]
pub(crate) struct NamedAgent {
    /// Its id.
    pub(crate) id: String,
    /// As the person wrote it: the name or the id.
    pub(crate) shown: String,
}

/// Opens a connection.
///
/// # Errors
/// When the CA file is malformed or the server cannot be reached.
pub(crate) async fn connect(server: &Server) -> Result<Channel, Failure> {
    let invalid =
        |error| Failure::local(format!("Cannot speak to {}: {}.", server.shown(), refusal::chain(&error)));
    let mut endpoint = Endpoint::from_shared(server.url.to_string())
        .and_then(|endpoint| endpoint.user_agent(concat!("superserve/", env!("CARGO_PKG_VERSION"))))
        .map_err(invalid)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE);
    if server.url.scheme() == "https" {
        let tls = match &server.ca_cert {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(invalid)?;
    }
    let connected = interruptible(endpoint.connect()).await?;
    connected.map_err(|error| refusal::unreachable(server.shown(), &error))
}

// === impl Bearer ===

impl Bearer {
    fn new(token: &str, trace: Option<Arc<trace::Context>>) -> Result<Self, Failure> {
        check_token(token)?;
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut value = MetadataValue::try_from(text.as_str())
            .map_err(|_unsendable| Failure::local("The token holds characters that cannot be sent."))?;
        value.set_sensitive(true);
        Ok(Self(value, trace))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        if let Some(trace) = &self.1 {
            trace.write(request.metadata_mut().as_mut());
        }
        Ok(request)
    }
}

// === impl Client ===

impl Client {
    /// Connects with a token.
    ///
    /// # Errors
    /// As [`connect`], and when the token is malformed.
    pub(crate) async fn connect(server: &Server, token: &str) -> Result<Self, Failure> {
        let bearer = Bearer::new(token, server.trace.clone())?;
        Ok(Self { channel: connect(server).await?, bearer, url: server.shown().to_owned() })
    }

    /// `SecretsService`.
    pub(crate) fn secrets(&self) -> SecretsServiceClient<Authorized> {
        SecretsServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// `AgentsService`.
    pub(crate) fn agents(&self) -> AgentsServiceClient<Authorized> {
        AgentsServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// `RuntimeService`.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Authorized> {
        RuntimeServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// `TokensService`.
    pub(crate) fn tokens(&self) -> TokensServiceClient<Authorized> {
        TokensServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// `AuditService`.
    pub(crate) fn audit(&self) -> AuditServiceClient<Authorized> {
        AuditServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Makes a call once.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(crate) async fn once<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match interruptible(call).await? {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(refusal::from_status(&status, &self.url)),
        }
    }

    /// Makes a call again, with pauses, while the server is not available. Only for calls of which a
    /// repeat has no second effect.
    ///
    /// # Errors
    /// As [`Client::once`], after the last attempt.
    pub(crate) async fn repeatable<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempt = 1;
        loop {
            match interruptible(call()).await? {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if attempt < ATTEMPTS && is_passing(&status) => {
                    interruptible(tokio::time::sleep(pause(attempt, &status))).await?;
                    attempt += 1;
                }
                Err(status) => return Err(refusal::from_status(&status, &self.url)),
            }
        }
    }

    /// Reads a list page by page, until it ends or `enough` rows are there. A page may be empty and yet not
    /// the last. `page` asks for the page that a page token begins.
    ///
    /// # Errors
    /// As [`Client::repeatable`].
    pub(crate) async fn pages<Row, F>(
        &self,
        enough: usize,
        page: impl FnMut(String) -> F,
    ) -> Result<Vec<Row>, Failure>
    where
        F: Future<Output = Result<Page<Row>, Status>>,
    {
        let mut rows = Vec::new();
        self.each_page(enough, page, |more| {
            rows.extend(more);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// As [`Client::pages`], but hands on each page as it comes, so that nothing is kept of a long list. Says whether
    /// there are more rows.
    ///
    /// # Errors
    /// As [`Client::repeatable`], and what `take` says.
    pub(crate) async fn each_page<Row, F>(
        &self,
        enough: usize,
        mut page: impl FnMut(String) -> F,
        mut take: impl FnMut(Vec<Row>) -> Result<(), Failure>,
    ) -> Result<bool, Failure>
    where
        F: Future<Output = Result<Page<Row>, Status>>,
    {
        let (mut left, mut token) = (enough, String::new());
        loop {
            let asked = || {
                let page = page(token.clone());
                async move { page.await.map(Response::new) }
            };
            let (mut rows, next) = self.repeatable(asked).await?;
            let is_cut = rows.len() > left;
            rows.truncate(left);
            left -= rows.len();
            take(rows)?;
            if next.is_empty() || left == 0 {
                return Ok(is_cut || !next.is_empty());
            }
            token = next;
        }
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

/// Whether the same call may succeed a moment later: the server says so, or the connection broke.
fn is_passing(status: &Status) -> bool {
    status.code() == Code::Unavailable || refusal::is_broken_connection(status)
}

fn pause(attempt: u32, status: &Status) -> Duration {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let grown = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt - 1));
    asked.unwrap_or(grown).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn pauses_grow_follow_the_server_and_end() {
        let plain = Status::unavailable("x");
        assert_eq!(pause(1, &plain), Duration::from_millis(250));
        assert_eq!(pause(3, &plain), Duration::from_secs(1));
        let told = |seconds| {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            Status::with_error_details(Code::Unavailable, "x", details)
        };
        assert_eq!(pause(1, &told(2)), Duration::from_secs(2));
        assert_eq!(pause(1, &told(600)), Duration::from_secs(5));
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        assert!(is_passing(&Status::unavailable("x")));
        assert!(is_passing(&Status::from_error("the connection broke".into())));
        assert!(!is_passing(&Status::unknown("x")));
        assert!(!is_passing(&Status::internal("x")));
        assert!(!is_passing(&Status::resource_exhausted("x")));
    }

    /// A client that never connects.
    fn nowhere() -> Client {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Client { channel, bearer: Bearer::new("t", None).unwrap(), url: String::new() }
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_over_empty_pages() {
        let pages = [("", &[][..], "a"), ("a", &[1, 2], "b"), ("b", &[], "c"), ("c", &[3, 4], "")];
        let client = nowhere();
        let read = async |enough| {
            let mut asked = 0;
            let rows = client.pages(enough, |token| {
                let (expected, rows, next) = pages[asked];
                asked += 1;
                assert_eq!(token, expected);
                std::future::ready(Ok((rows.to_vec(), next.to_owned())))
            });
            (rows.await.unwrap(), asked)
        };
        assert_eq!(read(usize::MAX).await, (vec![1, 2, 3, 4], 4));
        assert_eq!(read(3).await, (vec![1, 2, 3], 4));
        assert_eq!(read(2).await, (vec![1, 2], 2), "no more is asked for than is needed");
        assert_eq!(read(1).await, (vec![1], 2));
    }

    #[test]
    fn the_token_does_not_print() {
        let bearer = Bearer::new("sentinel", None).unwrap();
        assert!(!format!("{:?}", bearer.0).contains("sentinel"));
    }
}
