//! Callers without a token of ours: an issuer vouches for them, and the operator's rules say what they may.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use superserve::proto::v1::{
    CreateTokenRequest, ListAgentsRequest, RevokeTokenRequest, WatchSecretsRequest, WhoAmIRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT,
    cli::Cli,
    fixtures::secrets_of,
    issuer::{KeyServer, SigningKey, key_set, now, write_rules},
    on_each_database,
    pki::Authority,
    server::Server,
    steps::{audit, resolve},
};

const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "agents/one";

on_each_database!(
    an_identity_does_what_its_rule_says_and_no_more,
    an_identity_belongs_to_its_tenant,
    an_identity_ends_with_its_tenant,
);

/// Claims that hold for five minutes.
fn claims(subject: &str) -> Value {
    json!({"iss": ISSUER, "sub": subject, "aud": "superserve", "iat": now(), "exp": now() + 300})
}

/// An issuer with the keys of a file beside the rules.
fn issuer_of_file(server: &Server, keys: &[&SigningKey], rules: &str) -> String {
    let path = server.data_dir().join("keys.json");
    std::fs::write(&path, key_set(keys)).unwrap();
    format!(
        "[[issuers]]\nissuer = {ISSUER:?}\naudiences = [\"superserve\"]\njwks_file = \"{path}\"\n\
         algorithms = [\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"EdDSA\"]\n{rules}\n",
        path = path.display()
    )
}

fn rule(claims: &str, scopes: &[&str], agents: &str) -> String {
    format!(
        "[[issuers.rules]]\nclaims = {{ {claims} }}\ntenant = \"ten_default\"\nscopes = {scopes:?}\nagents = {agents}\n"
    )
}

/// A server that looks for its rules beside its database, and begins without any.
fn start(database: Database) -> Server {
    let setup = Server::with(database);
    let path = write_rules(setup.data_dir(), &[]);
    setup.env("SUPERSERVE_IDENTITIES", &path).start()
}

async fn take_rules(server: &Server, issuers: &[String]) {
    write_rules(server.data_dir(), issuers);
    let said = server.reload_identities().await;
    assert!(said.contains("files read again"), "{said}");
}

async fn an_identity_does_what_its_rule_says_and_no_more(database: Database) {
    let server = start(database);
    let (own, foreign) = (server.deploy("own").await, server.deploy("foreign").await);
    for agent in [&own, &foreign] {
        server.set(agent, &json!({"A": "x"})).await;
    }
    let key = SigningKey::p256("k1");
    let scopes = ["secrets:list", "secrets:resolve", "tokens:admin"];
    let rule = rule(&format!("sub = {SUBJECT:?}"), &scopes, &format!("[{own:?}]"));
    let token = key.sign(&claims(SUBJECT));
    let grpc = server.grpc().await.token(&token);
    assert_eq!(resolve(&grpc, &own).await.unwrap_err().code(), Code::Unauthenticated, "no rule yet");
    take_rules(&server, &[issuer_of_file(&server, &[&key], &rule)]).await;

    assert_eq!(resolve(&grpc, &own).await.unwrap()["A"], "x");
    let rest = server.rest().token(&token);
    assert_eq!(rest.get(&secrets_of(&own)).send().await.json()["keys"], json!(["A"]));
    assert_eq!(resolve(&grpc, &foreign).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(rest.get(&secrets_of(&foreign)).send().await.status, 404);
    let denied = rest.patch(&secrets_of(&own)).json(&json!({"secrets": {"A": "y"}})).send().await;
    assert_eq!(denied.refusal().1, json!({"required_scope": "secrets:write"}));
    // What it grants is no more than it has, and it is no token that could be revoked
    let mut tokens = grpc.tokens.clone();
    let grant = |agents: &[&str]| CreateTokenRequest {
        name: "more".to_owned(),
        agent_ids: agents.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    assert_eq!(tokens.create_token(grant(&[])).await.unwrap_err().code(), Code::PermissionDenied);
    tokens.create_token(grant(&[&own])).await.unwrap();

    let name = format!("{ISSUER}#{SUBJECT}");
    let me = tokens.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.tenant.as_str(), me.token.as_ref().unwrap().id.as_str()), ("ten_default", name.as_str()));
    assert!(me.token.unwrap().expires_at.is_some());
    let validated = rest.get("/v1/auth/validate").send().await.json();
    assert_eq!(validated, json!({"valid": true, "user": {"id": name, "email": ""}}));
    let revoke = RevokeTokenRequest { token_id: name.clone() };
    let admin = server.grpc().await;
    assert_eq!(admin.tokens.clone().revoke_token(revoke).await.unwrap_err().code(), Code::NotFound);

    let trail = audit(&admin, &own).await;
    assert_eq!((trail[0].action.as_str(), &trail[0].actor), ("secrets.resolve", &name));
    let log = server.log();
    assert!(log.contains(&name), "{log}");
    assert!(!log.contains(&token[token.len() - 40..]), "{log}");
}

async fn an_identity_belongs_to_its_tenant(database: Database) {
    let server = start(database);
    let agent = server.deploy("demo").await;
    let key = SigningKey::ed25519("k1");
    let all = rule("role = \"all\"", &["agents:read", "secrets:list"], "\"all\"");
    let claimed = "[[issuers.rules]]\nclaims = { role = \"claimed\" }\ntenant_claim = \"/org/id\"\n\
                   scopes = [\"agents:read\"]\nagents_claim = \"agents\"\n";
    let other = all.replace("ten_default", "ten_other").replace("\"all\" }", "\"other\" }");
    take_rules(&server, &[issuer_of_file(&server, &[&key], &format!("{all}{other}{claimed}"))]).await;
    let sees = async |more: Value| {
        let mut claims = claims("somebody");
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let grpc = server.grpc().await.token(&key.sign(&claims));
        let listed = grpc.agents.clone().list_agents(ListAgentsRequest::default()).await?;
        Ok::<_, tonic::Status>(listed.into_inner().agents.into_iter().map(|it| it.id).collect::<Vec<_>>())
    };
    let of_default =
        |agents: Value| json!({"role": "claimed", "org": {"id": "ten_default"}, "agents": agents});
    assert_eq!(sees(json!({"role": "all"})).await.unwrap(), [agent.as_str()]);
    assert_eq!(sees(json!({"role": "other"})).await.unwrap(), [""; 0]);
    assert_eq!(sees(of_default(json!([agent]))).await.unwrap(), [agent.as_str()]);
    assert_eq!(sees(of_default(json!("agt_other"))).await.unwrap(), [""; 0]);
    for refused in
        [of_default(json!([])), of_default(json!("all")), json!({"role": "claimed", "agents": [agent]})]
    {
        assert_eq!(sees(refused.clone()).await.unwrap_err().code(), Code::Unauthenticated, "{refused}");
    }
}

async fn an_identity_ends_with_its_tenant(database: Database) {
    let server = start(database);
    let made = server.setup().run(&["tenants", "create", "going", "--json"]).done();
    let made: Value = serde_json::from_str(&made).unwrap();
    let tenant = made["tenant"]["id"].as_str().unwrap();
    let key = SigningKey::p256("k1");
    let scopes = ["agents:write", "secrets:write", "secrets:resolve"];
    let of = |subject: &str| rule(&format!("sub = {subject:?}"), &scopes, "\"all\"");
    let rules = format!("{}{}", of(SUBJECT).replace("ten_default", tenant), of("stays"));
    take_rules(&server, &[issuer_of_file(&server, &[&key], &rules)]).await;
    let (going, stays) = (key.sign(&claims(SUBJECT)), key.sign(&claims("stays")));
    let deploy = async |token: &str| {
        server.rest().token(token).post("/v1/agents").json(&json!({"name": "demo"})).send().await
    };
    let agent = deploy(&going).await.json()["id"].as_str().unwrap().to_owned();
    let set = async |value: &str| {
        let set = server.rest().token(&going).patch(&secrets_of(&agent));
        set.json(&json!({"secrets": {"A": value}})).send().await.status.as_u16()
    };
    assert_eq!(set("x").await, 200);
    // As a deletion leaves it that is killed after its first step
    let begun = "UPDATE tenants SET deleted_at = 1 WHERE id = $1";
    assert_eq!(server.backdoor().await.change(begun, [tenant.into()]).await, 1);
    assert_eq!(set("y").await, 401);
    let grpc = server.grpc().await.token(&going);
    assert_eq!(resolve(&grpc, &agent).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(deploy(&going).await.status, 401);
    assert_eq!(deploy(&stays).await.status, 201, "who belongs to another tenant goes on");
}

#[tokio::test]
async fn every_allowed_algorithm_is_known() {
    let server = start(Database::Sqlite);
    let (rsa, p256, p384, ed) = (
        SigningKey::rsa("rsa", "issuer"),
        SigningKey::p256("p256"),
        SigningKey::p384("p384"),
        SigningKey::ed25519("ed"),
    );
    let rules = rule(&format!("sub = {SUBJECT:?}"), &["agents:read"], "\"all\"");
    take_rules(&server, &[issuer_of_file(&server, &[&rsa, &p256, &p384, &ed], &rules)]).await;
    let status = async |token: &str| server.rest().token(token).get("/v1/agents").send().await.status;
    for (key, algorithm) in [
        (&rsa, "RS256"),
        (&rsa, "RS384"),
        (&rsa, "RS512"),
        (&rsa, "PS256"),
        (&rsa, "PS384"),
        (&rsa, "PS512"),
        (&p256, "ES256"),
        (&p384, "ES384"),
        (&ed, "EdDSA"),
    ] {
        assert_eq!(status(&key.sign_as(algorithm, &claims(SUBJECT))).await, 200, "{algorithm}");
        let other = if algorithm == "RS256" { "PS256" } else { "RS256" };
        let header = json!({"alg": other, "kid": key.id}).to_string();
        let mistaken = key.sign_texts(algorithm, &header, &claims(SUBJECT).to_string());
        assert_eq!(status(&mistaken).await, 401, "{algorithm} that says {other}");
    }
}

#[tokio::test]
async fn a_pod_with_its_projected_token_alone_runs_its_agent() {
    const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
    let authority = Authority::new();
    let key = SigningKey::rsa("cluster-key", "issuer");
    let api_server =
        KeyServer::start_encrypted(&[&key], &authority.path("cert.pem"), &authority.path("key.pem"));
    api_server.published().bearer = Some("the-servers-own-token".to_owned());
    let server = start(Database::Sqlite);
    let agent = server.deploy("my-agent").await;
    server.set(&agent, &json!({"A": "from the pod"})).await;
    let own_token = server.data_dir().join("own-token");
    std::fs::write(&own_token, "the-servers-own-token\n").unwrap();
    let rules = format!(
        "[[issuers]]\nissuer = {CLUSTER:?}\naudiences = [\"superserve\"]\n\
         jwks_url = \"https://localhost:{}/openid/v1/jwks\"\nca_file = {:?}\ntoken_file = {own_token:?}\n{}",
        api_server.port(),
        authority.path("ca.pem"),
        rule(
            "sub = \"system:serviceaccount:agents:my-agent\"",
            &["secrets:resolve", "agents:read"],
            &format!("[{agent:?}]")
        )
    );
    take_rules(&server, &[rules]).await;
    // As the API server makes it
    let projected = |account: &str| {
        key.sign(&json!({
            "aud": ["superserve"],
            "exp": now() + 3607,
            "iat": now(),
            "iss": CLUSTER,
            "jti": "8b1e2a2e-6f5b-4a43-8a4d-6a3f6a0f0c1d",
            "kubernetes.io": {
                "namespace": "agents",
                "node": {"name": "node-1", "uid": "0d1c"},
                "pod": {"name": "my-agent-0", "uid": "3f6a"},
                "serviceaccount": {"name": account, "uid": "5a43"},
            },
            "nbf": now(),
            "sub": format!("system:serviceaccount:agents:{account}"),
        }))
    };
    let file = server.data_dir().join("projected");
    std::fs::write(&file, projected("my-agent")).unwrap();
    let pod = Cli::new(server.address()).env("SUPERSERVE_TOKEN_FILE", file.to_str().unwrap());
    let ran = pod.run(&["secrets", "run", "my-agent", "--", "sh", "-c", "printf %s \"$A\""]).done();
    assert_eq!(ran, "from the pod");
    std::fs::write(&file, projected("my-agent-2")).unwrap();
    pod.run(&["secrets", "run", "my-agent", "--", "true"]).failed(125);
    assert_eq!(api_server.published().asked, 1, "its keys are kept");
}

#[tokio::test]
async fn a_watch_ends_with_what_vouches_for_its_caller_and_with_its_rules() {
    let server = start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let key = SigningKey::p256("k1");
    let scopes = ["secrets:list"];
    let rules = rule(&format!("sub = {SUBJECT:?}"), &scopes, "\"all\"");
    let issuer =
        issuer_of_file(&server, &[&key], &rules).replace("audiences", "clock_skew_seconds = 0\naudiences");
    take_rules(&server, std::slice::from_ref(&issuer)).await;
    let admin = server.grpc().await;
    let watch = async |claims: &Value| {
        let mut runtime = admin.token(&key.sign(claims)).runtime;
        let request = WatchSecretsRequest { agent_id: agent.clone() };
        let mut stream = runtime.watch_secrets(request).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().revision, 0);
        stream
    };
    let mut short = claims(SUBJECT);
    short["exp"] = json!(now() + 5);
    let begun = Instant::now();
    let mut ends = watch(&short).await;
    let mut lasts = watch(&claims(SUBJECT)).await;
    let ended = tokio::time::timeout(LIMIT, ends.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.get_details_error_info().unwrap().reason, "UNAUTHENTICATED");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // It is no token in the database that could be found to have ended there
    let change = async || server.set(&agent, &json!({"A": "x"})).await;
    change().await;
    assert_eq!(lasts.message().await.unwrap().unwrap().revision, 1);
    take_rules(&server, &[issuer.replace(SUBJECT, "agents/two")]).await;
    let ended = tokio::time::timeout(LIMIT, lasts.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    let mut runtime = admin.token(&key.sign(&claims(SUBJECT))).runtime;
    let again = runtime.watch_secrets(WatchSecretsRequest { agent_id: agent.clone() }).await;
    assert_eq!(again.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_identity_has_a_rate_of_its_own() {
    let setup = Server::with(Database::Sqlite).arg("--rate-limit=1");
    let path = write_rules(setup.data_dir(), &[]);
    let server = setup.env("SUPERSERVE_IDENTITIES", &path).start();
    let key = SigningKey::p256("k1");
    let rules = rule("aud = \"superserve\"", &["agents:read"], "\"all\"");
    take_rules(&server, &[issuer_of_file(&server, &[&key], &rules)]).await;
    let status = async |subject: &str| {
        // A fresh token each time: it is the identity that is counted
        server.rest().token(&key.sign(&claims(subject))).get("/v1/agents").send().await.status.as_u16()
    };
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(status("one").await);
    }
    assert!(seen[0] == 200 && seen.contains(&429), "{seen:?}");
    assert_eq!(status("two").await, 200);
}

#[tokio::test]
async fn faulty_rules_are_refused_with_their_line_and_change_nothing() {
    let server = start(Database::Sqlite);
    let key = SigningKey::p256("k1");
    let good =
        issuer_of_file(&server, &[&key], &rule(&format!("sub = {SUBJECT:?}"), &["agents:read"], "\"all\""));
    take_rules(&server, std::slice::from_ref(&good)).await;
    let rest = server.rest().token(&key.sign(&claims(SUBJECT)));
    for (faulty, said) in [
        (
            good.replace("agents:read", "agents:all"),
            "line 6: rule 1 of the issuer \\\"https://issuer.example\\\": scopes: there is no scope \\\"agents:all\\\"",
        ),
        (good.replace("keys.json", "nowhere.json"), "nowhere.json cannot be read"),
        ("issuers = ".to_owned(), "line 1"),
    ] {
        write_rules(server.data_dir(), &[faulty]);
        let told = server.reload_identities().await;
        assert!(told.contains("what was in use stays in use") && told.contains(said), "{told}");
        assert_eq!(rest.get("/v1/agents").send().await.status, 200, "{said}");
    }
    let setup = Server::with(Database::Sqlite);
    let path = write_rules(setup.data_dir(), &[good.replace("audiences", "audience")]);
    let refused = setup.arg(&format!("--identities={path}")).run_serve().failed(1);
    assert!(
        refused.contains("--identities") && refused.contains("line 3: unknown field `audience`"),
        "{refused}"
    );
}
