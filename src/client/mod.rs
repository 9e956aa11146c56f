//! The client of the service: a connection with a token, the generated clients on it, and errors that a program can read.
//!
//! The command line uses it too. It retries where a repeat has no second effect, and waits as long as the server asks;
//! an [`Error`] says by its [`reason`](Error::reason) what happened, never by its sentence; tokens and the values of a
//! [`Resolved`] environment print as `[redacted]` and are wiped on drop.
//!
//! ```no_run
//! use superserve::{
//!     client::{Client, Error, Server, Token},
//!     proto::v1::{ListSecretsRequest, ResolveSecretsRequest, SetSecretsRequest},
//! };
//!
//! # async fn example(agent_id: String, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::parse("https://secrets.example.com")?.trusting(std::fs::read("ca.pem")?);
//! let client = Client::connect(&server, &Token::parse(token)?).await?;
//!
//! // With a name of its own a set may be repeated: it is done once
//! let set = SetSecretsRequest {
//!     agent_id: agent_id.clone(),
//!     secrets: [("ANTHROPIC_API_KEY".to_owned(), "sk-ant-…".to_owned())].into(),
//!     idempotency_key: "set-of-2026-11-26".to_owned(),
//!     ..SetSecretsRequest::default()
//! };
//! client.repeatable(async || client.secrets().set_secrets(set.clone()).await).await?;
//!
//! let list = ListSecretsRequest { agent_id: agent_id.clone() };
//! let listed = client.repeatable(async || client.secrets().list_secrets(list.clone()).await).await?;
//! println!("{:?} at revision {}", listed.keys, listed.revision);
//!
//! // Another token: this one may resolve
//! match client.resolve(ResolveSecretsRequest { agent_id, ..ResolveSecretsRequest::default() }).await {
//!     Ok(resolved) => {
//!         let environment = resolved.values.iter().map(|(key, value)| (key, value.expose()));
//!         std::process::Command::new("agent").envs(environment).spawn()?;
//!     }
//!     Err(error) if error.reason() == "REQUIRED_SECRETS_MISSING" => println!("missing: {:?}", error.missing()),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The generated requests and answers are plain messages: those that carry a value or a token print as `[redacted]`, and
//! are not wiped by themselves. A program that wants all memory wiped sets an allocator that does, as the binary of
//! this crate does.

mod error;
mod server;
mod token;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    domain::SecretValue,
    proto::v1::{
        ResolveSecretsRequest, ResolveSecretsResponse, agents_service_client::AgentsServiceClient,
        audit_service_client::AuditServiceClient, runtime_service_client::RuntimeServiceClient,
        secrets_service_client::SecretsServiceClient, tokens_service_client::TokensServiceClient,
    },
    trace,
};

pub use crate::proto::ERROR_DOMAIN as DOMAIN;
pub use error::{Answer, Error};
pub use server::{AddressError, Server};
pub use token::{MalformedToken, Token};

/// How often a call is made that has no second effect.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A channel that sends the token along.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// One page of a list: its rows, and the token of the next page, which is empty on the last.
pub type Page<Row> = (Vec<Row>, String);

/// Puts the token into every call, and the trace that it belongs to. It prints without the token.
#[derive(Clone, Debug)]
pub struct Bearer {
    token: MetadataValue<Ascii>,
    trace: Option<Arc<trace::Context>>,
}

/// A connection with a token. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
    server: String,
}

/// An agent's environment.
#[derive(Debug)]
pub struct Resolved {
    /// The agent's revision at which all values were read.
    pub revision: i64,
    /// Values by their keys; none where [`Resolved::not_modified`].
    pub values: BTreeMap<String, SecretValue>,
    /// The agent is still at the revision of the request's `if_revision_not`.
    pub not_modified: bool,
}

// === impl Bearer ===

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.token.clone());
        if let Some(trace) = &self.trace {
            trace.write(request.metadata_mut().as_mut());
        }
        Ok(request)
    }
}

// === impl Client ===

impl Client {
    /// Connects with a token. The token is not looked at before the first call.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the CAs cannot be read, [`Error::Unreachable`] when there is no connection within 5 s.
    pub async fn connect(server: &Server, token: &Token) -> Result<Self, Error> {
        let channel = server.connect().await?;
        Ok(Self::on(channel, token, server))
    }

    fn on(channel: Channel, token: &Token, server: &Server) -> Self {
        let bearer = Bearer { token: token.header(), trace: server.trace.clone() };
        Self { channel, bearer, server: server.shown().to_owned() }
    }

    /// Sets, lists and deletes secrets.
    #[must_use]
    pub fn secrets(&self) -> SecretsServiceClient<Authorized> {
        SecretsServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Deploys, reads and deletes agents.
    #[must_use]
    pub fn agents(&self) -> AgentsServiceClient<Authorized> {
        AgentsServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Checks, resolves and watches.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Authorized> {
        RuntimeServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Creates, lists, rotates and revokes tokens.
    #[must_use]
    pub fn tokens(&self) -> TokensServiceClient<Authorized> {
        TokensServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Reads the audit trail.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Authorized> {
        AuditServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// What a status means that came by another way, such as from a stream.
    #[must_use]
    pub fn error(&self, status: Status) -> Error {
        Error::of(&self.server, status)
    }

    /// Makes a call once, at most 30 s long.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub async fn once<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        call.await.map(Response::into_inner).map_err(|status| self.error(status))
    }

    /// Makes a call, and again up to three times while the error [may pass](Error::is_retryable). It pauses as long as
    /// the server asks, else 250 ms and longer each time, and gives up where that is more than 5 s of a rate limit. Only
    /// for calls of which a repeat has no second effect: reads, deploys, and writes with an `idempotency_key`.
    ///
    /// # Errors
    /// As [`Client::once`], after the last attempt.
    pub async fn repeatable<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => self.error(status),
            };
            match pause(attempt, &error) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Hands on each page of a list as it comes, so that nothing is kept of a long one, until it ends or `enough` rows
    /// were handed on. `page` asks for the page that a page token begins; a page may be empty and yet not the last.
    /// Says whether there are more rows.
    ///
    /// # Errors
    /// As [`Client::repeatable`], and what `take` says.
    pub async fn each_page<Row, E: From<Error>>(
        &self,
        enough: usize,
        mut page: impl AsyncFnMut(String) -> Result<Page<Row>, Status>,
        mut take: impl FnMut(Vec<Row>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (mut left, mut token) = (enough, String::new());
        loop {
            let (mut rows, next) =
                self.repeatable(async || page(token.clone()).await.map(Response::new)).await?;
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

    /// Asks for an agent's values, again while the error may pass. Needs a token with `secrets:resolve`.
    ///
    /// # Errors
    /// As [`Client::repeatable`]; of reason `REQUIRED_SECRETS_MISSING` with the [missing keys](Error::missing).
    pub async fn resolve(&self, request: ResolveSecretsRequest) -> Result<Resolved, Error> {
        let answer = self.repeatable(async || self.runtime().resolve_secrets(request.clone()).await);
        let ResolveSecretsResponse { env, revision, not_modified } = answer.await?;
        let values = env.into_iter().map(|(key, value)| (key, SecretValue::from_opened(value))).collect();
        Ok(Resolved { revision, values, not_modified })
    }
}

/// How long to wait before the next attempt; `None` when there is to be none.
fn pause(attempt: u32, error: &Error) -> Option<Duration> {
    let asked = error.retry_after();
    let is_too_long = !error.may_pass_by_itself() && asked.is_some_and(|asked| asked > LONGEST_PAUSE);
    if attempt >= ATTEMPTS || !error.is_retryable() || is_too_long {
        return None;
    }
    let grown = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt - 1));
    Some(asked.unwrap_or(grown).clamp(FIRST_PAUSE, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, transport::Endpoint};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn told(code: Code, seconds: u64) -> Error {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
        Error::of("http://a", Status::with_error_details(code, "x", details))
    }

    #[test]
    fn pauses_grow_follow_the_server_and_end() {
        let plain = |status| Error::of("http://a", status);
        let unavailable = plain(Status::unavailable("x"));
        assert_eq!(pause(1, &unavailable), Some(Duration::from_millis(250)));
        assert_eq!(pause(3, &unavailable), Some(Duration::from_secs(1)));
        assert_eq!(pause(4, &unavailable), None);
        assert_eq!(pause(1, &told(Code::Unavailable, 2)), Some(Duration::from_secs(2)));
        assert_eq!(pause(1, &told(Code::Unavailable, 600)), Some(Duration::from_secs(5)));
        assert_eq!(pause(1, &told(Code::ResourceExhausted, 2)), Some(Duration::from_secs(2)));
        assert_eq!(pause(1, &told(Code::ResourceExhausted, 600)), None, "a limit is not over before");
        assert_eq!(pause(1, &plain(Status::internal("x"))), None);
    }

    /// A client that never connects.
    fn nowhere() -> Client {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Client::on(channel, &Token::parse("t").unwrap(), &Server::parse("http://127.0.0.1:1").unwrap())
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_over_empty_pages() {
        let pages = [("", &[][..], "a"), ("a", &[1, 2], "b"), ("b", &[], "c"), ("c", &[3, 4], "")];
        let client = nowhere();
        let read = async |enough| {
            let (mut asked, mut rows) = (0, Vec::new());
            let page = async |token: String| {
                let (expected, rows, next) = pages[asked];
                asked += 1;
                assert_eq!(token, expected);
                Ok((rows.to_vec(), next.to_owned()))
            };
            let more = client.each_page(enough, page, |more| {
                rows.extend(more);
                Ok::<_, Error>(())
            });
            let more = more.await.unwrap();
            (rows, asked, more)
        };
        assert_eq!(read(usize::MAX).await, (vec![1, 2, 3, 4], 4, false));
        assert_eq!(read(3).await, (vec![1, 2, 3], 4, true));
        assert_eq!(read(2).await, (vec![1, 2], 2, true), "no more is asked for than is needed");
        assert_eq!(read(1).await, (vec![1], 2, true));
    }

    #[tokio::test]
    async fn a_client_prints_without_its_token() {
        let token = Token::parse("sentinel").unwrap();
        let client = Client::on(nowhere().channel, &token, &Server::parse("http://a").unwrap());
        assert!(!format!("{client:?}{token:?}").contains("sentinel"));
    }
}
