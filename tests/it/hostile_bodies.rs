//! Bodies that are bombs, or not what they say: each gets a proper answer, none is kept, and nothing of one is repeated.

use std::time::Duration;

use prost::Message as _;
use serde_json::{Value, json};
use superserve::proto::v1::ListSecretsRequest;
use tonic::Code;

use crate::harness::{
    Database,
    fixtures::secrets_of,
    grpc_web::{call, frame, status},
    server::Server,
};

/// What a server may need more of memory for what is done here.
const GROWTH: u64 = 48 << 20;

/// Stands in bodies, and must stand in no answer and no line of the log.
const SENTINEL: &str = "hunter2sentinel";

/// Nearly as much as a request may have.
const LONG: usize = 1_000_000;

/// Bodies that no JSON reader should take for the setting of a secret.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let value = |value: &[u8]| [&b"{\"secrets\":{\"A\":"[..], value, b"}}"].concat();
    let string = |inner: &[u8]| value(&[b"\"", inner, b"\""].concat());
    let doubled = (0..9000).map(|_| format!("\"A\":\"{SENTINEL}\",")).collect::<Vec<_>>().concat();
    let wide = (0..60_000).map(|n| format!("\"A{n}\":\"x\",")).collect::<Vec<_>>().concat();
    vec![
        ("deep lists", b"[".repeat(LONG)),
        ("deep objects", b"{\"a\":".repeat(LONG / 5)),
        ("deep in a value", value(&b"[".repeat(LONG))),
        ("wide", text(&format!("{{\"secrets\":{{{wide}\"B\":\"x\"}}}}"))),
        ("a wide list", value(&[b"[", &b"0,".repeat(LONG / 2 - 20)[..], b"0]"].concat())),
        ("doubled", text(&format!("{{\"secrets\":{{{doubled}\"B\":\"x\"}}}}"))),
        ("doubled at the top", text("{\"secrets\":{\"A\":\"x\"},\"secrets\":{\"B\":\"x\"}}")),
        ("doubled by an escape", text(r#"{"secrets":{"A":"x","\u0041":"y"}}"#)),
        ("a long number", value(&b"1".repeat(LONG))),
        ("a long fraction", value(&[b"0.", &b"1".repeat(LONG)[..]].concat())),
        ("a huge exponent", value(b"1e999999999999")),
        ("a number", value(b"12345678901234567890123")),
        ("a negative zero", value(b"-0")),
        ("a leading zero", value(b"007")),
        ("a long value", string(&b"x".repeat(LONG))),
        ("a long value of escapes", string(&b"\\u0041".repeat(LONG / 6))),
        (
            "a long key of escapes",
            text(&format!("{{\"secrets\":{{\"{}\":\"x\"}}}}", "\\u0041".repeat(LONG / 6))),
        ),
        ("an escaped NUL", string(b"\\u0000")),
        ("half a pair", string(b"\\ud800")),
        ("the other half", string(b"\\udc00")),
        ("halves the wrong way round", string(b"\\udc00\\ud800")),
        ("half a pair and a letter", string(b"\\ud800\\u0041")),
        ("half an escape", string(b"\\u00")),
        ("an unknown escape", string(b"\\x41")),
        ("no UTF-8", string(b"\xff")),
        ("no UTF-8 in a key", text("{\"secrets\":{\"A").into_iter().chain(*b"\xff\":\"x\"}}").collect()),
        ("an overlong form", string(b"\xc0\x80")),
        ("half a pair in UTF-8", string(b"\xed\xa0\x80")),
        ("beyond Unicode", string(b"\xf4\x90\x80\x80")),
        ("UTF-16", "{\"secrets\":{\"A\":\"x\"}}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", [b"\xef\xbb\xbf", &string(b"x")[..]].concat()),
        ("a raw newline", string(b"a\nb")),
        ("a raw NUL", string(b"a\0b")),
        ("something after it", [&string(b"x")[..], b" x"].concat()),
        ("another after it", string(b"x").repeat(2)),
        ("a NUL after it", [&string(b"x")[..], b"\0"].concat()),
        ("nothing", vec![]),
        ("white space", b" ".repeat(LONG)),
        ("no end", text("{\"secrets\":{\"A\":\"x\"}")),
        ("a comma too many", text("{\"secrets\":{\"A\":\"x\",}}")),
        ("a comment", text("{\"secrets\":{/**/\"A\":\"x\"}}")),
        ("single quotes", text("{'secrets':{'A':'x'}}")),
        ("no quotes", text("{secrets:{A:x}}")),
        ("not a number", value(b"NaN")),
        ("a list of secrets", text("{\"secrets\":[{\"A\":\"x\"}]}")),
        ("a prototype", text("{\"__proto__\":{\"secrets\":{}},\"secrets\":{\"A\":\"x\"}}")),
        ("a form", text("secrets[A]=x")),
        ("XML", text("<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"x\">]><a>&b;</a>")),
    ]
}

#[tokio::test]
async fn bombs_are_refused_and_not_kept() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    let secrets = secrets_of(&server.deploy("demo").await);
    let mut before = None;
    // The second time around nothing grows that grows once
    for _ in 0..2 {
        for (what, body) in bombs() {
            for call in [rest.patch(&secrets), rest.post("/v1/agents")] {
                let call = call.header("content-type", "application/json").body(body.clone());
                let refused = call.send().await;
                assert_eq!(refused.status, 422, "{what}: {}", refused.text());
                let (detail, details) = refused.refusal();
                assert_eq!(detail, "Invalid secret format", "{what}");
                let errors = details["errors"].as_array().unwrap_or_else(|| panic!("{what}: {details}"));
                assert!((1..=1000).contains(&errors.len()), "{what}: {}", errors.len());
                assert!(!refused.text().contains(SENTINEL), "{what}");
            }
        }
        let (now, before) = (server.resident_bytes(), before.get_or_insert_with(|| server.resident_bytes()));
        assert!(now.saturating_sub(*before) < GROWTH, "{before} bytes, then {now}");
    }
    assert_eq!(rest.get(&secrets).send().await.json(), json!({"keys": []}));
    assert_eq!(rest.get("/v1/agents").send().await.json()["agents"].as_array().map(Vec::len), Some(1));
    assert!(!server.log().contains(SENTINEL) && !server.log().contains("panicked"));
}

#[tokio::test]
async fn nothing_is_unpacked() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let (rest, secrets) = (server.rest(), secrets_of(&agent));
    let plain = json!({"secrets": {"A": "x"}}).to_string();
    // A kilobyte of these would be a megabyte; but it is not looked at
    let packed = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &[0; 1000]].concat();
    for coding in ["gzip", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "gzip, identity", ""] {
        for body in [packed.clone(), plain.clone().into_bytes()] {
            let call = rest.patch(&secrets).header("content-type", "application/json");
            let refused = call.header("content-encoding", coding).body(body).send().await;
            assert_eq!(refused.status, 415, "{coding}: {}", refused.text());
            assert_eq!(refused.refusal(), ("Unsupported media type".to_owned(), json!({})));
        }
    }
    let call = rest.patch(&secrets).header("content-type", "application/json");
    let set = call.header("content-encoding", "identity").body(plain).send().await;
    assert_eq!(set.json(), json!({"keys": ["A"]}));

    let list = ListSecretsRequest { agent_id: agent }.encode_to_vec();
    let mut compressed = frame(&list);
    compressed[0] = 1;
    let path = "/superserve.secrets.v1.SecretsService/ListSecrets";
    for (coding, code) in [("gzip", Code::Unimplemented), ("identity", Code::InvalidArgument)] {
        let call = call_of(&server, path).header("grpc-encoding", coding).body(compressed.clone());
        assert_eq!(status(&call.send().await).code(), code, "{coding}");
    }
}

fn call_of(server: &Server, path: &str) -> crate::harness::rest::Call {
    call(&server.rest(), path, &[])
}

/// The statuses of all that the server answers to these bytes: what stands behind a request that lies must not be one more.
async fn statuses(server: &Server, bytes: &[u8]) -> Vec<u16> {
    let answer = server.rest().raw(bytes, Duration::from_secs(3)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.match_indices("HTTP/1.1 ").map(|(at, _)| text[at + 9..at + 12].parse().expect("a status")).collect()
}

/// What follows the head of a request, what may be answered to it, and what it is.
type Lie = (&'static str, String, &'static [u16]);

/// A body that sets a secret, and how long it is.
fn body() -> (String, usize) {
    let body = json!({"secrets": {"A": "x"}}).to_string();
    let length = body.len();
    (body, length)
}

fn lies_of_lengths() -> Vec<Lie> {
    let (body, length) = body();
    vec![
        ("shorter", format!("content-length: {}\r\n\r\n{body}", length + 1), &[504]),
        ("longer", format!("content-length: {}\r\n\r\n{body}", length - 1), &[422]),
        ("two lengths", format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n{body}"), &[400]),
        ("a list of lengths", format!("content-length: {length}, 0\r\n\r\n{body}"), &[400]),
        ("a sign", format!("content-length: +{length}\r\n\r\n{body}"), &[400]),
        ("a negative length", format!("content-length: -1\r\n\r\n{body}"), &[400]),
        ("a hexadecimal length", format!("content-length: 0x{length:x}\r\n\r\n{body}"), &[400]),
        ("a huge length", "content-length: 18446744073709551615\r\n\r\n".to_owned(), &[400, 413, 431]),
        ("a longer length still", "content-length: 99999999999999999999999\r\n\r\n".to_owned(), &[400]),
        ("a space in the name", format!("content-length : {length}\r\n\r\n{body}"), &[400]),
    ]
}

fn lies_of_chunks() -> Vec<Lie> {
    let (body, length) = body();
    let next = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    let chunk = format!("{length:x}\r\n{body}\r\n");
    vec![
        ("another coding", format!("transfer-encoding: gzip\r\n\r\n{body}"), &[400]),
        ("a coding after", format!("transfer-encoding: chunked, gzip\r\n\r\n{chunk}0\r\n\r\n"), &[400]),
        ("no coding", format!("transfer-encoding: xchunked\r\n\r\n{chunk}0\r\n\r\n"), &[400]),
        (
            "a huge chunk",
            "transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx".to_owned(),
            &[400, 413, 422, 504],
        ),
        (
            "a larger chunk",
            "transfer-encoding: chunked\r\n\r\n10000000000000000\r\nx".to_owned(),
            &[400, 422],
        ),
        ("a negative chunk", "transfer-encoding: chunked\r\n\r\n-1\r\nx".to_owned(), &[400, 422]),
        ("no chunk", "transfer-encoding: chunked\r\n\r\nhello".to_owned(), &[400, 422]),
        ("a chunk without an end", format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}"), &[504]),
        (
            "a chunk that is longer",
            format!("transfer-encoding: chunked\r\n\r\n1\r\n{body}\r\n0\r\n\r\n"),
            &[400, 422],
        ),
        (
            "endless extensions",
            format!("transfer-encoding: chunked\r\n\r\n1;{}\r\n{{\r\n0\r\n\r\n", "x".repeat(100_000)),
            &[400, 422],
        ),
        (
            "endless trailers",
            format!("transfer-encoding: chunked\r\n\r\n{chunk}0\r\n{}\r\n\r\n", "a: b\r\n".repeat(20_000)),
            &[400, 422],
        ),
        ("folded", format!("transfer-encoding:\r\n chunked\r\n\r\n{chunk}0\r\n\r\n"), &[400]),
        (
            "both",
            format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{next}"),
            &[400, 422],
        ),
        (
            "both, turned",
            format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{next}"),
            &[400, 422],
        ),
    ]
}

#[tokio::test]
async fn lengths_that_lie_are_refused() {
    let server = Server::with(Database::Sqlite).arg("--request-timeout=1").start();
    let agent = server.deploy("demo").await;
    let head = format!(
        "PATCH {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        secrets_of(&agent),
        server.admin_token()
    );
    for (what, rest, allowed) in lies_of_lengths().into_iter().chain(lies_of_chunks()) {
        let answers = statuses(&server, format!("{head}{rest}").as_bytes()).await;
        let first = answers.first().unwrap_or_else(|| panic!("{what}: no answer"));
        assert!(allowed.contains(first), "{what}: {answers:?}");
        assert!(!answers.contains(&200), "{what}: {answers:?}");
    }
    assert_eq!(server.keys(&agent).await, json!([]));
    assert!(!server.log().contains("panicked"));
}

/// A body that comes byte by byte has the time of a call, and not as long as its sender likes.
#[tokio::test]
async fn slow_bodies_time_out() {
    use tokio::{io::AsyncWriteExt as _, net::TcpStream};
    let server = Server::with(Database::Sqlite).arg("--request-timeout=1").start();
    let agent = server.deploy("demo").await;
    let head = format!(
        "PATCH {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000000\r\n\r\n",
        secrets_of(&agent),
        server.admin_token()
    );
    let (mut receive, mut send) = TcpStream::connect(server.address()).await.unwrap().into_split();
    send.write_all(head.as_bytes()).await.unwrap();
    let drip = async {
        while send.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = async {
        use tokio::io::AsyncReadExt as _;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            assert_ne!(receive.read_buf(&mut answer).await.unwrap(), 0, "{}", answer.escape_ascii());
        }
        answer
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(crate::harness::LIMIT, answer) => answer.expect("in time"),
        () = drip => panic!("cut off without an answer"),
    };
    let body = answer.split(|byte| *byte == b'\n').next_back().unwrap();
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body, json!({"status": 504, "detail": "Request timed out", "details": {}}));
}
