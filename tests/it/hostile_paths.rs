//! Paths that are read differently by different programs. Here a path is taken as it comes: its segments are decoded once,
//! after it was taken apart, and what is then no agent's id is none. So nothing is reached by a detour, whatever a proxy
//! has let through.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Database,
    fixtures::secrets_of,
    frames::{Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, frame},
    rest::Rest,
    server::Server,
};

const SILENCE: Duration = Duration::from_secs(5);

/// What must not be seen.
const KEY: &str = "KEY_OF_THE_OTHER_AGENT";

/// Paths that another program might read as one of the other agent's, or as anything else.
const DETOURS: [&str; 56] = [
    "/v1/agents/MINE/../OTHER/secrets",
    "/v1/agents/MINE/%2e%2e/OTHER/secrets",
    "/v1/agents/MINE/.%2E/OTHER/secrets",
    "/v1/agents/MINE%2f..%2fOTHER/secrets",
    "/v1/agents/MINE%2F%2e%2e%2FOTHER/secrets",
    "/v1/agents/MINE%252f..%252fOTHER/secrets",
    "/v1/agents/MINE/secrets/../../OTHER/secrets",
    "/v1/agents/MINE/secrets/%2e%2e%2f%2e%2e%2fOTHER%2fsecrets",
    "/v1/agents/MINE\\..\\OTHER/secrets",
    "/v1/agents/MINE%5c..%5cOTHER/secrets",
    "/v1/agents/MINE%00OTHER/secrets",
    "/v1/agents/MINE,OTHER/secrets",
    "/v1/agents/MINE;OTHER/secrets",
    "/v1/agents/MINE&OTHER/secrets",
    "/v1/agents/OTHER/secrets;x",
    "/v1/agents/OTHER;x/secrets",
    "/v1/agents/OTHER%3bx/secrets",
    "/v1/agents/OTHER%00/secrets",
    "/v1/agents/OTHER%20/secrets",
    "/v1/agents/%20OTHER/secrets",
    "/v1/agents/OTHER%0a/secrets",
    "/v1/agents/OTHER%0d%0ax:%20y/secrets",
    "/v1/agents/OTHER%ff/secrets",
    "/v1/agents/OTHER%c0%80/secrets",
    "/v1/agents/OTHER/secrets/",
    "/v1/agents/OTHER/secrets/.",
    "/v1/agents/OTHER/secrets%3fview=full",
    "/v1/agents/OTHER/secrets%23",
    "/v1/agents/OTHER/./secrets",
    "/v1/agents/OTHER//secrets",
    "/v1/agents//OTHER/secrets",
    "//v1/agents/OTHER/secrets",
    "/v1//agents/OTHER/secrets",
    "/./v1/agents/OTHER/secrets",
    "/../v1/agents/OTHER/secrets",
    "/V1/agents/OTHER/secrets",
    "/v1/Agents/OTHER/secrets",
    "/v1/agents%2fOTHER%2fsecrets",
    "/v1%2fagents/OTHER/secrets",
    "/v1/agents/OTHER/secrets?agent_id=MINE",
    "/v1/agents/OTHER/secrets?agent_id=OTHER&agent_id=MINE",
    "/openapi.json/../v1/agents/OTHER/secrets",
    "/openapi.json%2f..%2fv1/agents/OTHER/secrets",
    "/openapi.json;/v1/agents/OTHER/secrets",
    "/grpc.health.v1.Health/../v1/agents/OTHER/secrets",
    "/grpc.health.v1.Health/%2e%2e/v1/agents/OTHER/secrets",
    "/grpc.health.v1.Health/Check/../../v1/agents/OTHER/secrets",
    "/v1/agents/%/secrets",
    "/v1/agents/%zz/secrets",
    "/v1/agents/%2/secrets",
    "/v1/agents/%ff/secrets",
    "/v1/agents/%u0061/secrets",
    "/v1/agents//secrets",
    "/v1/agents/./secrets",
    "/v1/agents/../secrets",
    "/v1/agents/%00/secrets",
];

/// A token for one agent, and another agent.
struct House {
    server: Server,
    mine: String,
    other: String,
    token: String,
}

impl House {
    async fn start() -> Self {
        let server = Server::start(Database::Sqlite);
        let (mine, other) = (server.deploy("mine").await, server.deploy("other").await);
        server.set(&other, &json!({KEY: "x"})).await;
        server.set(&mine, &json!({"MINE": "x"})).await;
        let scopes = ["agents:read", "agents:write", "secrets:list", "secrets:write"];
        let token = server.token(&scopes, &[&mine]).await;
        Self { server, mine, other, token }
    }

    /// Ways that might lead to the other agent, or nowhere.
    fn detours(&self) -> Vec<String> {
        let (mine, other) = (&self.mine, &self.other);
        let secrets = secrets_of(other);
        let encoded = encoded(other);
        let mut paths: Vec<String> =
            DETOURS.map(|path| path.replace("MINE", mine).replace("OTHER", other)).into();
        paths.extend([
            secrets.clone(),
            secrets.to_uppercase(),
            secrets_of(&encoded),
            secrets_of(&encoded.to_uppercase()),
            secrets_of(&format!("{other}\u{200b}")),
            format!("/{}", "a/".repeat(5000)),
            format!("/v1/agents/{}/secrets", "%61".repeat(4000)),
            format!("/v1/agents/{}/secrets", "a".repeat(12_000)),
        ]);
        paths
    }

    /// That nothing has come of all that.
    async fn is_untouched(&self) {
        assert_eq!(self.server.keys(&self.other).await, json!([KEY]));
        assert_eq!(self.server.keys(&self.mine).await, json!(["MINE"]));
        let log = self.server.log();
        assert!(!log.contains("panicked") && !log.contains("a call failed"), "{log}");
    }
}

/// An id of which each letter is written by its number.
fn encoded(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat()
}

/// That an answer is a refusal of the documented shape, whoever it was sent to. A body may be missing where the request
/// was no HTTP or too long, which the library answers.
fn assert_refused(what: &str, status: u16, body: &[u8], statuses: &[u16]) {
    let text = String::from_utf8_lossy(body);
    assert!(statuses.contains(&status) || [400, 414, 431].contains(&status), "{what}: {status} {text}");
    assert!(!text.contains(KEY), "{what}: {text}");
    if body.is_empty() {
        assert!([400, 414, 431].contains(&status), "{what}: {status} without a body");
        return;
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
    let members: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(members, ["detail", "details", "status"], "{what}: {text}");
    assert_eq!(body["status"], status, "{what}: {text}");
}

/// Sends a request line of any bytes over HTTP/1.1, and gives the first answer's status and body.
async fn http1(rest: &Rest, line: &[u8], token: Option<&str>, body: &str) -> (u16, Vec<u8>) {
    let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!(
        " HTTP/1.1\r\nhost: x\r\n{bearer}content-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    let answer = rest.raw(&[line, head.as_bytes()].concat(), SILENCE).await;
    let text = String::from_utf8_lossy(&answer);
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{}: no answer: {text}", line.escape_ascii()));
    let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    (status, answer[at..].to_vec())
}

#[tokio::test]
async fn no_detour_leads_to_another_agent_over_http1() {
    let house = House::start().await;
    let rest = house.server.rest();
    let set = json!({"secrets": {"NEW": "x"}}).to_string();
    for path in house.detours() {
        for (method, body) in [("GET", ""), ("PATCH", set.as_str()), ("DELETE", "")] {
            let line = format!("{method} {path}");
            let (status, body) = http1(&rest, line.as_bytes(), Some(&house.token), body).await;
            assert_refused(&line, status, &body, &[404, 405, 422]);
        }
        let line = format!("GET {path}");
        let (status, body) = http1(&rest, line.as_bytes(), None, "").await;
        let is_open = path.starts_with("/grpc.health.v1.Health/");
        assert_refused(&line, status, &body, if is_open { &[404] } else { &[401] });
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn no_form_of_a_target_leads_anywhere_else() {
    let house = House::start().await;
    let rest = house.server.rest();
    let secrets = secrets_of(&house.other);
    let mut targets: Vec<Vec<u8>> = [
        format!("http://x{secrets}"),
        format!("http://127.0.0.1{secrets}"),
        format!("https://evil.example:1{secrets}"),
        format!("http://user:password@x{secrets}"),
        format!("http:{secrets}"),
        format!("http:///{secrets}"),
        format!("//x{secrets}"),
        format!("x:1{secrets}"),
        secrets[1..].to_owned(),
        format!("?{secrets}"),
        format!("#{secrets}"),
        format!("{secrets}\t"),
        "*".to_owned(),
        "x:443".to_owned(),
        "http://x".to_owned(),
        format!("/{}", "a".repeat(70_000)),
    ]
    .map(String::into_bytes)
    .into();
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\x01", b"\x7f", b"\0", b"\xe2\x80\xa8"] {
        targets.push([secrets.as_bytes(), bytes].concat());
        targets.push([b"/v1/agents/", bytes, b"/secrets"].concat());
        targets.push([b"/", bytes].concat());
    }
    for method in ["GET", "OPTIONS", "CONNECT", "TRACE", "get", "M-SEARCH", "PRI"] {
        for target in &targets {
            let line = [method.as_bytes(), b" ", target].concat();
            let what = line[..line.len().min(200)].escape_ascii().to_string();
            let (status, body) = http1(&rest, &line, Some(&house.token), "").await;
            assert_refused(&what, status, &body, &[404, 405, 422]);
        }
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn no_detour_leads_to_another_agent_over_http2() {
    let house = House::start().await;
    let bearer = format!("Bearer {}", house.token);
    let mut paths = house.detours();
    paths.extend(
        ["", "*", "v1/agents", "http://x/v1/agents", "?", "#", "/ /", "/\u{1}", "/\u{7f}"].map(str::to_owned),
    );
    let secrets = secrets_of(&house.other);
    let authorities = ["", "evil.example", "x/../..", "user:password@x", "x, y", "\u{1}"];
    let calls = paths.iter().map(|path| ("x", path)).chain(authorities.map(|name| (name, &secrets)));
    for (authority, path) in calls {
        let headers = block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
            ("authorization", &bearer),
        ]);
        let what = format!("{authority:?} {:?}", path.chars().take(100).collect::<String>());
        let mut connection = Connection::open(house.server.address(), &[]).await;
        connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &headers)).await.unwrap();
        if let Some(body) = body_of(&mut connection, &what).await {
            let status = serde_json::from_slice::<Value>(&body).unwrap_or_default()["status"].as_u64();
            let status = status.and_then(|status| u16::try_from(status).ok());
            assert_refused(&what, status.unwrap_or(431), &body, &[404, 405, 422]);
        }
    }
    house.is_untouched().await;
}

/// The body of the answer on the first stream; `None` if the stream or the connection is ended instead.
async fn body_of(connection: &mut Connection, what: &str) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let frame = connection.next().await?;
        match frame.kind {
            RST_STREAM | GOAWAY => return None,
            // `:status: 200`, and 500, from HPACK's table
            HEADERS => assert!(![0x88, 0x8e].contains(&frame.payload[0]), "{what}"),
            DATA => body.extend_from_slice(&frame.payload),
            _ => {}
        }
        if frame.stream == 1 && frame.flags & END_STREAM != 0 {
            return Some(body);
        }
    }
}

/// An id that is written in another way is the id that it stands for, and that one is what is looked at.
#[tokio::test]
async fn an_id_is_decoded_before_it_is_judged() {
    let house = House::start().await;
    let rest = house.server.rest().token(&house.token);
    let mine = rest.get(&secrets_of(&encoded(&house.mine))).send().await;
    assert_eq!((mine.status.as_u16(), mine.json()), (200, json!({"keys": ["MINE"]})));
    let other = rest.get(&secrets_of(&encoded(&house.other))).send().await;
    assert_eq!(other.refusal(), ("Agent not found".to_owned(), json!({"code": "agent_not_found"})));
    // A key is decoded once as well
    let deleted = |key: &str| rest.delete(&format!("{}/{key}", secrets_of(&house.mine))).send();
    for key in ["%254dINE", "MINE%00", "MINE%2f", "..%2fsecrets%2fMINE"] {
        let refused = deleted(key).await;
        assert!(matches!(refused.status.as_u16(), 404 | 422), "{key}: {}", refused.text());
        refused.refusal();
    }
    house.is_untouched().await;
    assert_eq!(deleted("%4dINE").await.json(), json!({"keys": []}));
}
