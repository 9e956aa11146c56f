//! gRPC: one file a service. Each method takes its message apart, calls the service, and puts the answer
//! together.

mod agents;
mod audit;
mod convert;
mod foreign;
mod runtime;
mod secrets;
mod tokens;

use axum::Router;
use tonic::{Request, Status, server::NamedService, service::Routes};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder;

pub(super) use foreign::with_our_status;

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

/// All services with health and reflection (v1 and v1alpha).
pub(super) fn router(service: &Service, health: HealthReporter, request_bytes: usize) -> Router {
    let mut routes = Routes::builder();
    routes
        .add_service(SecretsServiceServer::new(service.clone()).max_decoding_message_size(request_bytes))
        .add_service(AgentsServiceServer::new(service.clone()).max_decoding_message_size(request_bytes))
        .add_service(RuntimeServiceServer::new(service.clone()).max_decoding_message_size(request_bytes))
        .add_service(TokensServiceServer::new(service.clone()).max_decoding_message_size(request_bytes))
        .add_service(AuditServiceServer::new(service.clone()).max_decoding_message_size(request_bytes))
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)));
    // A descriptor set of our own build always decodes; if it did not, only reflection would be missing
    if let Ok(reflection) = reflection().build_v1() {
        routes.add_service(reflection);
    }
    if let Ok(reflection) = reflection().build_v1alpha() {
        routes.add_service(reflection);
    }
    routes.routes().prepare().into_axum_router()
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
