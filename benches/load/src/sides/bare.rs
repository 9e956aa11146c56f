//! Servers that answer at once, in the service's own shapes: what transport and encoding alone cost. They run as
//! processes of their own.

use std::{collections::HashMap, fs, net::SocketAddr, path::Path};

use anyhow::{Result, bail};
use axum::{Json, Router, extract::Path as PathOf, routing};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::{
    load::{Target, Wire},
    options::BareServer,
    process::{Running, command, free_address, wait_for},
    proto::v1::{self, runtime_service_server as runtime, secrets_service_server as secrets},
    workload::{KEYS, key_name},
};

/// A running one.
pub struct Bare {
    running: Running,
    address: SocketAddr,
    wire: Wire,
}

struct Answers;

impl Bare {
    /// Starts one and waits until it listens.
    pub fn start(wire: Wire, directory: &Path, processor: Option<usize>) -> Result<Self> {
        let address = free_address()?;
        let kind = if wire == Wire::Grpc { "bare-grpc" } else { "bare-rest" };
        let mut command = command(&std::env::current_exe()?, processor);
        command.args([kind, &address.port().to_string()]);
        let log = directory.join("bare.log");
        let mut running = Running::start(&mut command, &log)?;
        let listens = wait_for("a bare server to listen", || {
            if running.has_ended() {
                Some(false)
            } else {
                std::net::TcpStream::connect(address).is_ok().then_some(true)
            }
        })?;
        if !listens {
            bail!("the bare server has ended: {}", fs::read_to_string(log)?);
        }
        Ok(Self { running, address, wire })
    }

    pub fn target(&self) -> Target {
        Target {
            addresses: vec![self.address],
            wire: self.wire,
            token: "none".to_owned(),
            servers: vec![self.running.pid()],
        }
    }
}

/// Is one, until it is killed.
pub fn serve(server: BareServer) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match server {
            BareServer::BareGrpc { port } => {
                tonic::transport::Server::builder()
                    .add_service(secrets::SecretsServiceServer::new(Answers))
                    .add_service(runtime::RuntimeServiceServer::new(Answers))
                    .serve(([127, 0, 0, 1], port).into())
                    .await?;
            }
            BareServer::BareRest { port } => {
                use axum::serve::ListenerExt as _;
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
                let listener = listener.tap_io(|socket| {
                    let _slower_without = socket.set_nodelay(true);
                });
                axum::serve(listener, router()).await?;
            }
        }
        Ok(())
    })
}

fn router() -> Router {
    let keys = || Json(json!({"keys": all_keys()}));
    let secrets = routing::get(async move |_agent: PathOf<String>| keys())
        .patch(async move |_agent: PathOf<String>, _body: Json<HashMap<String, Value>>| keys());
    Router::new().route("/v1/agents/{agent}/secrets", secrets)
}

fn all_keys() -> Vec<String> {
    (0..KEYS).map(key_name).collect()
}

#[tonic::async_trait]
impl secrets::SecretsService for Answers {
    async fn set_secrets(
        &self,
        request: Request<v1::SetSecretsRequest>,
    ) -> Result<Response<v1::SetSecretsResponse>, Status> {
        let changes = request.into_inner().secrets.into_keys();
        let changes = changes.map(|key| v1::SecretChange { key, kind: 2 }).collect();
        let answer = v1::SetSecretsResponse { keys: all_keys(), revision: 7, changes, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn list_secrets(
        &self,
        _request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        let time = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_456_000 });
        let secret = |key| v1::SecretMetadata {
            key,
            version: 7,
            fingerprint: "0123456789ab".to_owned(),
            created_at: time,
            updated_at: time,
            updated_by: "tok_0123456789abcdefghijkl".to_owned(),
            previous_until: None,
        };
        let secrets = all_keys().into_iter().map(secret).collect();
        Ok(Response::new(v1::ListSecretsResponse { keys: all_keys(), secrets, revision: 7 }))
    }

    async fn delete_secret(
        &self,
        _request: Request<v1::DeleteSecretRequest>,
    ) -> Result<Response<v1::DeleteSecretResponse>, Status> {
        let keys = (1..KEYS).map(key_name).collect();
        Ok(Response::new(v1::DeleteSecretResponse { keys, revision: 8 }))
    }
}

#[tonic::async_trait]
impl runtime::RuntimeService for Answers {
    type WatchSecretsStream = std::pin::Pin<
        Box<dyn tonic::codegen::tokio_stream::Stream<Item = Result<v1::WatchSecretsResponse, Status>> + Send>,
    >;

    async fn resolve_secrets(
        &self,
        _request: Request<v1::ResolveSecretsRequest>,
    ) -> Result<Response<v1::ResolveSecretsResponse>, Status> {
        let env = all_keys().into_iter().map(|key| (key, "v".repeat(64))).collect();
        Ok(Response::new(v1::ResolveSecretsResponse { env, revision: 7, not_modified: false }))
    }

    async fn check_required_secrets(
        &self,
        _request: Request<v1::CheckRequiredSecretsRequest>,
    ) -> Result<Response<v1::CheckRequiredSecretsResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn watch_secrets(
        &self,
        _request: Request<v1::WatchSecretsRequest>,
    ) -> Result<Response<Self::WatchSecretsStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
