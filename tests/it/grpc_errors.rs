//! What a gRPC library refuses before a call reaches us: told as our own refusals are, with a reason, and with no
//! word of what was sent.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use superserve::proto::v1::ListSecretsResponse;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database,
    grpc_web::{self, PROTO, call, frame, status},
    rest::Answer,
    server::Server,
};

const LIST: &str = "/superserve.secrets.v1.SecretsService/ListSecrets";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Stands in every request, and in no answer.
const SENTINEL: &str = "XsentinelX";

const MALFORMED: Refusal =
    (Code::InvalidArgument, "Invalid secret format", "INVALID_FORMAT", Some("MALFORMED"));
const TOO_LONG: Refusal =
    (Code::InvalidArgument, "Invalid secret format", "INVALID_FORMAT", Some("TOO_LONG"));
const UNIMPLEMENTED: Refusal = (Code::Unimplemented, "Not implemented", "UNIMPLEMENTED", None);
const NOT_FOUND: Refusal = (Code::NotFound, "Not found", "NOT_FOUND", None);

/// The code, the sentence, the reason, and the fault.
type Refusal = (Code, &'static str, &'static str, Option<&'static str>);

#[tokio::test]
async fn bytes_that_are_no_call_are_the_callers_fault() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    let not_utf8 = [0x0a, 2, 0xff, 0xfe];
    let bodies = [
        (frame(&[0x0a, 200]), MALFORMED),
        (frame(&not_utf8), MALFORMED),
        (vec![], MALFORMED),
        (vec![0], MALFORMED),
        (vec![0, 0, 0, 0, 9, 1], MALFORMED),
        (vec![9, 0, 0, 0, 0], MALFORMED),
        (vec![1, 0, 0, 0, 1, 7], MALFORMED),
        (vec![0, 0, 0x10, 0, 1], TOO_LONG),
        (vec![0, 0xff, 0xff, 0xff, 0xff], TOO_LONG),
    ];
    for (body, expected) in bodies {
        let call = rest.post(LIST).header("content-type", PROTO).body(body);
        assert_refused(&call.send().await, expected);
    }
    for text in ["!!!!", "AAAA!", "A", SENTINEL] {
        let call = rest.post(LIST).header("content-type", "application/grpc-web-text").body(text);
        assert_refused(&call.send().await, MALFORMED);
    }
    // Over HTTP/2 it is the same
    let mut raw = tonic::client::Grpc::new(server.grpc().await.channel());
    raw.ready().await.unwrap();
    let mut request = Request::new(not_utf8[2..].to_vec());
    let bearer = format!("Bearer {}", server.admin_token());
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let codec = ProstCodec::<Vec<u8>, ListSecretsResponse>::default();
    assert_is(&raw.unary(request, LIST.parse().unwrap(), codec).await.unwrap_err(), MALFORMED);
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_a_reason() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    for path in [
        "/superserve.secrets.v1.SecretsService/None",
        "/nobody/None",
        "/superserve.secrets.v1.SecretsService/",
    ] {
        assert_refused(&call(&rest, path, &[]).send().await, UNIMPLEMENTED);
    }
    let compressed = call(&rest, LIST, &[]).header("grpc-encoding", SENTINEL).send().await;
    assert_refused(&compressed, UNIMPLEMENTED);
    assert_eq!(compressed.header("grpc-accept-encoding"), "identity", "it says what would be read");

    let health = HealthCheckRequest { service: SENTINEL.to_owned() }.encode_to_vec();
    for method in ["Check", "Watch"] {
        let path = format!("/grpc.health.v1.Health/{method}");
        assert_refused(&call(&rest, &path, &health).send().await, NOT_FOUND);
    }
    // A stream's status comes at its end
    let symbol = MessageRequest::FileContainingSymbol(SENTINEL.to_owned());
    for (question, expected) in [(Some(symbol), NOT_FOUND), (None, MALFORMED)] {
        let question = ServerReflectionRequest { host: SENTINEL.to_owned(), message_request: question };
        let answer = call(&rest, REFLECT, &question.encode_to_vec()).send().await;
        assert!(answer.headers.get("grpc-status").is_none() && !grpc_web::frames(&answer).1.is_empty());
        assert_refused(&answer, expected);
    }
}

/// Refused so, over gRPC-Web, and with no word of the request.
fn assert_refused(answer: &Answer, expected: Refusal) {
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("x-request-id"), "");
    let status = status(answer);
    assert_is(&status, expected);
    let details = BASE64_STANDARD.encode(status.details());
    let all = format!("{answer:?}{status:?}{details}{}", String::from_utf8_lossy(status.details()));
    assert!(!all.contains(SENTINEL), "{all}");
}

fn assert_is(status: &Status, (code, sentence, reason, fault): Refusal) {
    assert_eq!((status.code(), status.message()), (code, sentence));
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("secrets.superserve.ai", reason));
    let violations =
        status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    let violations: Vec<_> = violations.into_iter().map(|it| (it.field, it.reason)).collect();
    let expected: Vec<_> = fault.into_iter().map(|fault| (String::new(), fault.to_owned())).collect();
    assert_eq!(violations, expected);
}
