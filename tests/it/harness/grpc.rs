//! The generated clients, each with a token.

use std::net::SocketAddr;

use superserve::proto::v1::{
    agents_service_client::AgentsServiceClient, audit_service_client::AuditServiceClient,
    runtime_service_client::RuntimeServiceClient, secrets_service_client::SecretsServiceClient,
    tokens_service_client::TokensServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::LIMIT;

/// A connection that shows a token with every call.
pub(crate) type Authenticated = InterceptedService<Channel, Bearer>;

/// One client of each service, on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    /// `AgentsService`.
    pub(crate) agents: AgentsServiceClient<Authenticated>,
    /// `AuditService`.
    pub(crate) audit: AuditServiceClient<Authenticated>,
    /// `RuntimeService`.
    pub(crate) runtime: RuntimeServiceClient<Authenticated>,
    /// `SecretsService`.
    pub(crate) secrets: SecretsServiceClient<Authenticated>,
    /// `TokensService`.
    pub(crate) tokens: TokensServiceClient<Authenticated>,
    channel: Channel,
}

/// Adds the token to a call's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

// === impl Grpc ===

impl Grpc {
    /// Connects without TLS.
    ///
    /// # Panics
    /// When nobody listens.
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URL");
        let channel = endpoint.timeout(LIMIT).connect().await.expect("the server accepts");
        Self::on(channel, token)
    }

    /// The same connection with another token.
    pub(crate) fn token(&self, token: &str) -> Self {
        Self::on(self.channel.clone(), token)
    }

    /// The connection itself, for calls without a token.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of any kind with a token.
    pub(crate) fn on(channel: Channel, token: &str) -> Self {
        let bearer = Bearer(format!("Bearer {token}").parse().expect("a token is ASCII"));
        let authenticated = InterceptedService::new(channel.clone(), bearer);
        Self {
            agents: AgentsServiceClient::new(authenticated.clone()),
            audit: AuditServiceClient::new(authenticated.clone()),
            runtime: RuntimeServiceClient::new(authenticated.clone()),
            secrets: SecretsServiceClient::new(authenticated.clone()),
            tokens: TokensServiceClient::new(authenticated),
            channel,
        }
    }
}

// === impl Bearer ===

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
