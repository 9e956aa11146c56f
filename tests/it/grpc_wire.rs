//! gRPC below the generated clients: reflection, health, gRPC-Web, deadlines, bytes that are no message.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use superserve::{
    proto::v1::{ListSecretsRequest, ListSecretsResponse, SetSecretsRequest, WatchSecretsRequest},
    transport::SERVICE_NAMES,
};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    on_each_database,
    rest::{Answer, Rest},
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
    let answer = web_call(&server.rest(), LIST, &list.encode_to_vec()).send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/grpc-web+proto"));
    let (messages, trailers) = web_frames(&answer);
    assert_eq!(ListSecretsResponse::decode(&*messages[0]).unwrap().keys, ["A"]);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    let refused = web_call(&server.rest().anonymous(), LIST, &list.encode_to_vec()).send().await;
    assert_eq!((refused.status.as_u16(), grpc_status(&refused).as_str()), (200, "16"));
    assert_ne!(refused.header("x-request-id"), "");
    // No message, no frame, no method: the caller's fault, in gRPC's words
    let rest = server.rest();
    let not_utf8 = [0x0a, 2, 0xff, 0xfe];
    for (path, body, status) in [
        (LIST, frame(&[0x0a, 200]), "3"),
        (LIST, frame(&not_utf8), "3"),
        ("/superserve.secrets.v1.SecretsService/None", frame(&[]), "12"),
        ("/nobody/None", frame(&[]), "12"),
    ] {
        let call = rest.post(path).header("content-type", "application/grpc-web").body(body);
        assert_eq!(grpc_status(&call.send().await), status, "{path}");
    }
    for body in
        [vec![], vec![0], vec![9, 0, 0, 0, 0], vec![0, 0xff, 0xff, 0xff, 0xff], vec![1, 0, 0, 0, 1, 7]]
    {
        let call = rest.post(LIST).header("content-type", "application/grpc-web+proto").body(body.clone());
        let answer = call.send().await;
        assert!(!["", "0"].contains(&grpc_status(&answer).as_str()), "{body:?}: {answer:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault() {
    let server = Server::start(Database::Sqlite);
    let mut raw = tonic::client::Grpc::new(server.grpc().await.channel());
    raw.ready().await.unwrap();
    // Field 1, which the service reads as a string: these bytes are no UTF-8
    let mut request = Request::new(vec![0xff_u8, 0xfe]);
    *request.metadata_mut() = bearer(&server);
    let codec = ProstCodec::<Vec<u8>, ListSecretsResponse>::default();
    let refused = raw.unary(request, LIST.parse().unwrap(), codec).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Invalid secret format"));
}

async fn a_callers_deadline_is_kept(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    let mut backdoor = server.backdoor().await;
    backdoor.block_writers(&agent_id).await;
    let secrets = [("A".to_owned(), "x".to_owned())].into();
    let set = SetSecretsRequest { agent_id: agent_id.clone(), secrets, ..Default::default() };
    let began = Instant::now();
    // Over gRPC-Web: tonic's own client would keep the deadline itself
    let call =
        web_call(&server.rest(), "/superserve.secrets.v1.SecretsService/SetSecrets", &set.encode_to_vec());
    let refused = call.header("grpc-timeout", "300m").send().await;
    assert_eq!(
        (grpc_status(&refused).as_str(), refused.header("grpc-message")),
        ("4", "Request%20timed%20out")
    );
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

/// A call as a browser makes it.
fn web_call(rest: &Rest, path: &str, message: &[u8]) -> crate::harness::rest::Call {
    let call = rest.post(path).header("content-type", "application/grpc-web+proto").header("x-grpc-web", "1");
    call.header("accept", "application/grpc-web+proto").body(frame(message))
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// The messages of an answer, and its trailers, which gRPC-Web sends as the last frame.
fn web_frames(answer: &Answer) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers, mut rest) = (Vec::new(), String::new(), answer.body.clone());
    while !rest.is_empty() {
        let head = rest.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let content = rest.split_to(length.try_into().unwrap());
        match head[0] {
            0 => messages.push(content),
            _ => trailers = String::from_utf8(content.to_vec()).unwrap(),
        }
    }
    (messages, trailers)
}

/// The status of an answer, which stands in its head or in its trailers.
fn grpc_status(answer: &Answer) -> String {
    match answer.header("grpc-status") {
        "" => {
            let trailers = web_frames(answer).1;
            let line = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:"));
            line.unwrap_or_default().trim().to_owned()
        }
        status => status.to_owned(),
    }
}

fn bearer(server: &Server) -> tonic::metadata::MetadataMap {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {}", server.admin_token()).parse().unwrap());
    metadata
}
