//! Promise: no value and no token outside the memory of the process, in whatever form.
//!
//! Each way in, right or wrong, gets a random text of its own; then everything that the server wrote and answered
//! is searched for all of them.

use http::Method;
use serde_json::json;
use superserve::proto::v1::{ListTokensRequest, RevokeTokenRequest, RotateTokenRequest, SetSecretsRequest};
use tempfile::TempDir;

use crate::harness::{
    Database,
    collector::Collector,
    fixtures::secrets_of,
    on_each_database,
    postgres::Cluster,
    rest::Call,
    search::{Search, forms, sentinel},
    server::Server,
    sql::Sql,
    steps::{audit, create_token, resolve, resolver},
};

on_each_database!(tokens_stay_inside);

#[tokio::test]
async fn values_stay_inside_with_sqlite() {
    let scene = Scene::start(Database::Sqlite).await;
    let said = scene.play().await;
    scene.search(&said, scene.server.data_dir()).await;
}

#[tokio::test]
async fn values_stay_inside_with_postgres() {
    let Some(cluster) = Cluster::start() else { return };
    let scene = Scene::start(Database::Postgres(cluster.create_database().await)).await;
    let said = scene.play().await;
    Sql::connect(&scene.server).await.run("CHECKPOINT").await;
    scene.search(&said, cluster.directory()).await;
}

#[test]
fn the_search_finds_what_is_planted() {
    let (text, other) = (sentinel(), sentinel());
    let search = Search::new([("it", text.as_str())]);
    let noise = "0123456789abcdef".repeat(40);
    assert_eq!(search.find("here", noise.as_bytes()), Vec::<String>::new());
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("below")).unwrap();
    let file = directory.path().join("below/file");
    for (form, bytes) in forms(&text) {
        for before in 0..40 {
            let haystack = [&noise.as_bytes()[..before], &bytes[..], noise.as_bytes()].concat();
            assert!(!search.find("here", &haystack).is_empty(), "{form} after {before}");
        }
        std::fs::write(&file, [noise.as_bytes(), &bytes].concat()).unwrap();
        assert!(!search.find_in_files(directory.path()).is_empty(), "{form}");
    }
    for (_, bytes) in forms(&other) {
        assert_eq!(search.find("here", &bytes), Vec::<String>::new());
    }
    // As real encoders write it, within something longer
    let within = format!("é \"{text}\" /+");
    let json = serde_json::to_vec(&json!({"a": [within]})).unwrap();
    let url: String = url::form_urlencoded::byte_serialize(within.as_bytes()).collect();
    let debug = format!("{:?}", within.as_bytes());
    for written in [json, url.into_bytes(), format!("{within:?}").into_bytes(), debug.into_bytes()] {
        assert!(!search.find("here", &written).is_empty(), "{}", String::from_utf8_lossy(&written));
    }
}

async fn tokens_stay_inside(database: Database) {
    let server = Server::with(database).arg("--log-level=trace").start();
    let (rest, grpc) = (server.rest(), server.grpc().await);
    let (kept, kept_text) = create_token(&grpc, &["agents:read"]).await;
    let (revoked, revoked_text) = create_token(&grpc, &["agents:read"]).await;
    let rotate = RotateTokenRequest { token_id: kept.id.clone(), overlap: Some(one_hour()) };
    let rotated = grpc.clone().tokens.rotate_token(rotate).await.unwrap().into_inner();
    let rotated_text = rotated.text.clone();
    let mut said = vec![format!("{rotated:?}")];
    for text in [&kept_text, &revoked_text, &rotated_text] {
        assert_eq!(rest.token(text).get("/v1/agents").send().await.status, 200);
        let refused = rest.token(text).get("/v1/agents/agt_1/secrets").send().await;
        let misplaced = rest.get(&format!("/v1/agents/{text}")).header("x-request-id", text).send().await;
        said.push(format!("{refused:?}{misplaced:?}"));
    }
    let revoke = RevokeTokenRequest { token_id: revoked.id.clone() };
    grpc.clone().tokens.revoke_token(revoke).await.unwrap();
    let refused = rest.token(&revoked_text).get("/v1/agents").send().await;
    assert_eq!(refused.status, 401);
    let listed = grpc.clone().tokens.list_tokens(ListTokensRequest::default()).await.unwrap();
    let metrics = server.ops().get("/metrics").send().await.text();
    said.push(format!("{refused:?}{listed:?}{metrics}{kept:?}{:?}", audit(&grpc, "").await));
    let texts = [("kept", &*kept_text), ("revoked", &*revoked_text), ("rotated", &*rotated_text)];
    let search = Search::new(texts.into_iter().chain([("first", server.admin_token())]));
    let mut found = search.find("an answer", said.concat().as_bytes());
    found.extend(search.find_in_files(server.data_dir()));
    assert!(found.is_empty(), "{found:#?}");
    assert!(
        said.concat().contains(&revoked.id) && server.log().contains("\"request\""),
        "the search saw too little"
    );
}

fn one_hour() -> prost_types::Duration {
    prost_types::Duration { seconds: 3600, nanos: 0 }
}

/// A server, an agent, and a text for each way in.
struct Scene {
    server: Server,
    collector: Collector,
    agent: String,
    /// A key: it may be seen, and so proves that the search sees.
    key: String,
    texts: Vec<(&'static str, String)>,
}

/// What the server answered, beside what it wrote.
struct Said(Vec<String>);

/// The ways in. A name that ends in `set` sets a value; the others are mistakes, and refused.
const WAYS: [&str; 26] = [
    "REST set",
    "gRPC set",
    "CLI set",
    "key",
    "cut body",
    "no JSON",
    "NUL",
    "list",
    "unknown field",
    "long value",
    "long body",
    "media type",
    "pattern",
    "no agent",
    "If-Match",
    "Idempotency-Key",
    "query",
    "deleted key",
    "route",
    "method",
    "x-request-id",
    "traceparent",
    "tracestate",
    "bearer",
    "gRPC key",
    "gRPC bytes",
];

// === impl Scene ===

impl Scene {
    async fn start(database: Database) -> Self {
        let collector = Collector::start();
        let server = collector.of_all(Server::with(database)).arg("--log-level=trace").start();
        let agent = server.deploy("demo").await;
        let strict = json!({"name": "demo", "required_secrets": [{"name": "STRICT", "pattern": "^[0-9]$"}]});
        assert_eq!(server.rest().post("/v1/agents").json(&strict).send().await.status, 200);
        let texts = WAYS.map(|way| (way, sentinel())).to_vec();
        Self { server, collector, agent, key: format!("K{}", sentinel()), texts }
    }

    fn text(&self, way: &str) -> &str {
        &self.texts.iter().find(|(name, _)| *name == way).expect("a way in").1
    }

    /// Sends every text its way and gives all that was answered.
    async fn play(&self) -> Said {
        let mut said = Said(Vec::new());
        let set = json!({"secrets": {&self.key: self.text("REST set"), "STRICT": "7"}});
        let set = self.patch().json(&set).send().await;
        assert_eq!(set.status, 200, "{}", set.text());
        self.set_by_grpc().await;
        self.set_by_cli(&mut said);
        for (way, call) in self.mistakes() {
            let answer = call.send().await;
            assert!(answer.status.is_client_error(), "{way}: {answer:?}");
            let mut text = answer.text();
            if way == "key" {
                assert_eq!(answer.json()["details"]["errors"][0]["key"], format!("{}-", self.text(way)));
                text = text.replacen(self.text(way), "", 1);
            }
            said.0.push(format!("{:?}{text}", answer.headers));
        }
        self.grpc_mistakes(&mut said).await;
        let garbage = format!("{}\r\n\r\n", self.text("method"));
        let answer = self.server.rest().raw(garbage.as_bytes(), std::time::Duration::from_millis(200)).await;
        said.0.push(String::from_utf8_lossy(&answer).into_owned());

        // And once out, as it should: nothing of that stays
        let values = resolve(&resolver(&self.server).await, &self.agent).await.unwrap();
        assert_eq!(values[&self.key], self.text("REST set"));
        assert_eq!(values["BY_GRPC"], self.text("gRPC set"));
        assert_eq!(values["BY_CLI"], self.text("CLI set"));
        let listed = self.server.rest().get(&format!("{}?view=full", secrets_of(&self.agent))).send().await;
        let metrics = self.server.ops().get("/metrics").send().await;
        said.0.push(format!(
            "{}{}{:?}",
            listed.text(),
            metrics.text(),
            audit(&self.server.grpc().await, "").await
        ));
        said
    }

    fn patch(&self) -> Call {
        self.server.rest().patch(&secrets_of(&self.agent))
    }

    fn mistakes(&self) -> Vec<(&'static str, Call)> {
        let (rest, secrets) = (self.server.rest(), secrets_of(&self.agent));
        let text = |way| self.text(way);
        let value = |way| json!({"secrets": {"A": text(way)}});
        let long = |way, bytes: usize| json!({"secrets": {"A": text(way).repeat(bytes / 24 + 1)}});
        let json = |body: String| self.patch().header("content-type", "application/json").body(body);
        let elsewhere = |path: &str, way| rest.patch(path).json(&value(way));
        vec![
            ("key", self.patch().json(&json!({"secrets": {format!("{}-", text("key")): "v"}}))),
            ("cut body", json(format!("{{\"secrets\": {{\"A\": \"{}", text("cut body")))),
            ("no JSON", json(format!("A={}", text("no JSON")))),
            ("NUL", self.patch().json(&json!({"secrets": {"A": format!("{}\0", text("NUL"))}}))),
            ("list", self.patch().json(&json!({"secrets": {"A": [text("list"), {"B": text("list")}]}}))),
            ("unknown field", self.patch().json(&json!({"secrets": {"A": "v"}, "B": text("unknown field")}))),
            ("long value", self.patch().json(&long("long value", 70_000))),
            ("long body", self.patch().json(&long("long body", 1_100_000))),
            (
                "media type",
                self.patch().header("content-type", "text/plain").body(text("media type").to_owned()),
            ),
            ("pattern", self.patch().json(&json!({"secrets": {"STRICT": text("pattern")}}))),
            ("no agent", elsewhere("/v1/agents/agt_0/secrets", "no agent")),
            ("If-Match", self.patch().header("if-match", text("If-Match")).json(&value("If-Match"))),
            (
                "Idempotency-Key",
                self.patch()
                    .header("idempotency-key", &text("Idempotency-Key").repeat(11))
                    .json(&value("key")),
            ),
            ("query", rest.get(&format!("{secrets}?view={0}&{0}=1", text("query")))),
            ("deleted key", rest.delete(&format!("{secrets}/{}", text("deleted key")))),
            ("route", rest.get(&format!("/v1/{}", text("route")))),
            ("method", rest.call(Method::from_bytes(text("method").as_bytes()).unwrap(), &secrets)),
            ("x-request-id", rest.get("/v1").header("x-request-id", &format!("A {}", text("x-request-id")))),
            ("traceparent", rest.get("/v1").header("traceparent", text("traceparent"))),
            (
                "tracestate",
                rest.get("/v1")
                    .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                    .header("tracestate", &format!("a={}", text("tracestate"))),
            ),
            ("bearer", rest.token(text("bearer")).get(&secrets)),
        ]
    }

    async fn set_by_grpc(&self) {
        let secrets = [("BY_GRPC".to_owned(), self.text("gRPC set").to_owned())].into();
        let request = SetSecretsRequest { agent_id: self.agent.clone(), secrets, ..Default::default() };
        self.server.grpc().await.secrets.set_secrets(request).await.unwrap();
    }

    fn set_by_cli(&self, said: &mut Said) {
        let cli = self.server.cli();
        let output = cli.run_with(&["secrets", "set", "demo", "BY_CLI=-"], self.text("CLI set").as_bytes());
        assert_eq!(output.code, 0, "{}", output.stderr);
        said.0.push(format!("{output:?}"));
    }

    async fn grpc_mistakes(&self, said: &mut Said) {
        let key = format!("{}-", self.text("gRPC key"));
        let secrets = [(key, self.text("gRPC key").to_owned())].into();
        let request = SetSecretsRequest { agent_id: self.agent.clone(), secrets, ..Default::default() };
        let refused = self.server.grpc().await.secrets.set_secrets(request).await.unwrap_err();
        said.0.push(refused.message().to_owned());
        // A frame of gRPC-Web that is no message: field 2 runs over its end
        let message = format!("\x12\x7f{}", self.text("gRPC bytes"));
        let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message.as_bytes()].concat();
        let path = "/superserve.secrets.v1.SecretsService/SetSecrets";
        let call =
            self.server.rest().post(path).header("content-type", "application/grpc-web+proto").body(frame);
        said.0.push(format!("{:?}", call.send().await));
    }

    /// Nothing is in what was said and in what was written; but what may be there is found by the same search.
    async fn search(&self, said: &Said, database: &std::path::Path) {
        let traces =
            self.collector.until("the last call", |span| span.name.ends_with("/ListAuditEvents")).await;
        let search = Search::new(self.texts.iter().map(|(way, text)| (*way, text.as_str())));
        let said = said.0.concat();
        let mut found = search.find("an answer", said.as_bytes());
        found.extend(search.find_in_files(database));
        found.extend(search.find_in_files(self.server.data_dir()));
        found.extend(search.find("a trace", &traces));
        assert!(found.is_empty(), "{found:#?}");
        let key = Search::new([("the key", self.key.as_str()), ("the agent", self.agent.as_str())]);
        assert_eq!(key.find("a trace", &traces), Vec::<String>::new());
        let route = Search::new([("a route", "/v1/agents/{agent_id}/secrets")]);
        assert!(!route.find("a trace", &traces).is_empty(), "the search saw no traces");
        assert!(!key.find("", said.as_bytes()).is_empty() && !key.find_in_files(database).is_empty());
        assert!(
            self.server.log().contains("\"level\":\"DEBUG\""),
            "the log is not as talkative as it can be"
        );
    }
}
