//! gRPC below the generated clients: reflection, health, gRPC-Web, deadlines. What is refused there is in
//! `grpc_errors`.

use std::time::{Duration, Instant};

use prost::Message as _;
use superserve::{
    proto::v1::{ListSecretsRequest, ListSecretsResponse, SetSecretsRequest, WatchSecretsRequest},
    transport::SERVICE_NAMES,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    grpc_web::{call, frame, frames, status},
    on_each_database,
    server::Server,
};

on_each_database!(a_callers_deadline_is_kept);

const LIST: &str = "/superserve.secrets.v1.SecretsService/ListSecrets";

macro_rules! list_and_describe {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("superserve.secrets.v1.SecretsService".to_owned())),
            ask(MessageRequest::FileContainingSymbol("google.rpc.BadRequest".to_owned())),
        ];
        let mut client = ServerReflectionClient::new($channel);
        let mut answers =
            client.server_reflection_info(futures_util::stream::iter(questions)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("a list of services");
        };
        for symbol in ["SetSecrets", "BadRequest"] {
            let Some(MessageResponse::FileDescriptorResponse(files)) =
                answers.message().await.unwrap().unwrap().message_response
            else {
                panic!("a file with {symbol}");
            };
            assert!(
                files.file_descriptor_proto.concat().windows(symbol.len()).any(|at| at == symbol.as_bytes())
            );
        }
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

#[tokio::test]
async fn services_are_described_and_healthy_without_a_token() {
    let server = Server::start(Database::Sqlite);
    let channel = server.grpc().await.channel();
    let both = [list_and_describe!(v1, channel.clone()), list_and_describe!(v1alpha, channel.clone())];
    for services in both {
        for name in SERVICE_NAMES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(services.iter().any(|service| service == name), "{name} in {services:?}");
        }
    }
    let mut health = HealthClient::new(channel);
    for service in SERVICE_NAMES.into_iter().chain([""]) {
        let status = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(status.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn a_browser_is_served_over_http1() {
    let server = Server::start(Database::Sqlite);
    let agent_id = server.deploy("demo").await;
    server.set(&agent_id, &serde_json::json!({"A": "x"})).await;
    let list = ListSecretsRequest { agent_id };
    let answer = call(&server.rest(), LIST, &list.encode_to_vec()).send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/grpc-web+proto"));
    let (messages, trailers) = frames(&answer);
    assert_eq!(ListSecretsResponse::decode(&*messages[0]).unwrap().keys, ["A"]);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    // A content type may have parameters
    for content_type in ["application/grpc-web+proto; charset=utf-8", "Application/grpc-web"] {
        let call = server.rest().post(LIST).header("content-type", content_type);
        let answer = call.body(frame(&list.encode_to_vec())).send().await;
        assert_eq!((frames(&answer).0.len(), status(&answer).code()), (1, Code::Ok), "{content_type}");
    }

    let refused = call(&server.rest().anonymous(), LIST, &list.encode_to_vec()).send().await;
    assert_eq!((refused.status.as_u16(), status(&refused).code()), (200, Code::Unauthenticated));
    assert_ne!(refused.header("x-request-id"), "");
}

async fn a_callers_deadline_is_kept(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    let backdoor = server.backdoor().await;
    backdoor.block_writers(&agent_id).await;
    let secrets = [("A".to_owned(), "x".to_owned())].into();
    let set = SetSecretsRequest { agent_id: agent_id.clone(), secrets, ..Default::default() };
    let began = Instant::now();
    // Over gRPC-Web: tonic's own client would keep the deadline itself
    let call = call(&server.rest(), "/superserve.secrets.v1.SecretsService/SetSecrets", &set.encode_to_vec());
    let refused = status(&call.header("grpc-timeout", "300m").send().await);
    assert_eq!((refused.code(), refused.message()), (Code::DeadlineExceeded, "Request timed out"));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_stream_outlives_the_longest_call() {
    let server = Server::with(Database::Sqlite).arg("--request-timeout=1").start();
    let agent_id = server.deploy("demo").await;
    let secrets = secrets_of(&agent_id);
    let watch = WatchSecretsRequest { agent_id };
    let mut revisions = server.grpc().await.runtime.watch_secrets(watch).await.unwrap().into_inner();
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 0);
    // Not for luck: that time passes is what this is about
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let set = async || {
        let set =
            server.rest().patch(&secrets).json(&serde_json::json!({"secrets": {"A": "x"}})).send().await;
        (set.status == 200).then_some(())
    };
    eventually("a set", set).await;
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 1);
}
