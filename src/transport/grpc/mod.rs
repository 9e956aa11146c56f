//! gRPC: one file a service. Each method takes its message apart, calls the service, and puts the answer
//! together.

mod agents;
mod audit;
mod convert;
mod foreign;
mod runtime;
mod secrets;
mod tokens;

use std::convert::Infallible;

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use tonic::{Request, Status, server::NamedService, service::Routes};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder;
use tower::ServiceExt as _;

use foreign::with_our_status;

use super::error::{MAX_MEMBERS, to_status};
use crate::{
    domain::{Fault, FaultCode},
    proto::{
        FILE_DESCRIPTOR_SET,
        v1::{
            agents_service_server::AgentsServiceServer, audit_service_server::AuditServiceServer,
            runtime_service_server::RuntimeServiceServer, secrets_service_server::SecretsServiceServer,
            tokens_service_server::TokensServiceServer,
        },
    },
    service::{Call, Error, Service},
};

/// The services of this package, for health and metrics.
pub const SERVICE_NAMES: [&str; 5] = [
    SecretsServiceServer::<Service>::NAME,
    AgentsServiceServer::<Service>::NAME,
    RuntimeServiceServer::<Service>::NAME,
    TokensServiceServer::<Service>::NAME,
    AuditServiceServer::<Service>::NAME,
];

/// All services.
pub(super) struct Services {
    secrets: SecretsServiceServer<Service>,
    agents: AgentsServiceServer<Service>,
    runtime: RuntimeServiceServer<Service>,
    tokens: TokensServiceServer<Service>,
    audit: AuditServiceServer<Service>,
    /// Health, reflection (v1 and v1alpha), and what there is none of.
    others: Router,
    request_bytes: usize,
}

/// The longest message of a service that needs no token, in bytes: a name and its frame. Reflection repeats what it is
/// sent, and keeps several copies of it.
const OPEN_MESSAGE_BYTES: usize = 4096;

impl Services {
    /// Messages longer than `request_bytes` are refused.
    pub(super) fn new(service: &Service, health: HealthReporter, request_bytes: usize) -> Self {
        let mut others = Routes::builder();
        let health = HealthServer::new(HealthService::from_health_reporter(health));
        others.add_service(health.max_decoding_message_size(OPEN_MESSAGE_BYTES));
        // A descriptor set of our own build always decodes; if it did not, only reflection would be missing
        if let Ok(reflection) = reflection().build_v1() {
            others.add_service(reflection.max_decoding_message_size(OPEN_MESSAGE_BYTES));
        }
        if let Ok(reflection) = reflection().build_v1alpha() {
            others.add_service(reflection.max_decoding_message_size(OPEN_MESSAGE_BYTES));
        }
        let service = || service.clone();
        Self {
            secrets: SecretsServiceServer::new(service()).max_decoding_message_size(request_bytes),
            agents: AgentsServiceServer::new(service()).max_decoding_message_size(request_bytes),
            runtime: RuntimeServiceServer::new(service()).max_decoding_message_size(request_bytes),
            tokens: TokensServiceServer::new(service()).max_decoding_message_size(request_bytes),
            audit: AuditServiceServer::new(service()).max_decoding_message_size(request_bytes),
            others: others.routes().prepare().into_axum_router(),
            request_bytes,
        }
    }

    /// Has a call answered by the service that its path names.
    pub(super) async fn answer(&self, request: http::Request<Body>) -> Response {
        let path = request.uri().path().as_bytes();
        let name = path.strip_prefix(b"/").and_then(|path| path.split(|byte| *byte == b'/').next());
        let [secrets, agents, runtime, tokens, audit] = SERVICE_NAMES.map(|name| Some(name.as_bytes()));
        let response = if name == secrets {
            ask(&self.secrets, request).await
        } else if name == runtime {
            ask(&self.runtime, request).await
        } else if name == agents {
            ask(&self.agents, request).await
        } else if name == tokens {
            ask(&self.tokens, request).await
        } else if name == audit {
            ask(&self.audit, request).await
        } else {
            return with_our_status(ask(&self.others, request).await, OPEN_MESSAGE_BYTES);
        };
        with_our_status(response, self.request_bytes)
    }
}

async fn ask<S, B>(server: &S, request: http::Request<Body>) -> Response
where
    S: tower::Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible> + Clone,
    B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    server.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).map(Body::new)
}

/// Our protos, and those of the error details, so that grpcurl shows them as fields.
fn reflection<'set>() -> Builder<'set> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Takes a request apart: who calls, and the message.
fn open<T>(mut request: Request<T>) -> Result<(Call, T), Status> {
    let call = request.extensions_mut().remove::<Call>().ok_or_else(|| to_status(&Error::Unauthenticated))?;
    Ok((call, request.into_inner()))
}

/// Refuses a message of so many members that telling what is wrong with each is no use.
fn check_members(count: usize) -> Result<(), Status> {
    if count > MAX_MEMBERS {
        return Err(to_status(&Error::invalid(Fault::over("", FaultCode::TooMany, MAX_MEMBERS))));
    }
    Ok(())
}
