//! A token in the place of another: both are good for the overlap, then only the new one, on every replica.

use futures_util::future::join_all;
use prost_types::Duration;
use serde_json::json;
use superserve::proto::v1::{
    CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, RotateTokenRequest, RotateTokenResponse,
    Token, WatchSecretsRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT,
    cli::Cli,
    eventually,
    fixtures::ALL_SCOPES,
    grpc::Grpc,
    on_each_database,
    server::Server,
    steps::{audit, create_token},
};

on_each_database!(
    both_are_good_until_the_overlap_ends,
    without_an_overlap_the_old_one_ends_at_once,
    an_overlap_lengthens_no_life,
    what_has_ended_is_not_rotated,
    who_may_rotate_is_who_could_create,
    a_rotation_that_fails_changes_nothing,
    of_several_at_once_one_is_done,
);

/// Long enough for what is done meanwhile.
const OVERLAP: i64 = 6;

async fn rotate(grpc: &Grpc, id: &str, seconds: Option<i64>) -> Result<RotateTokenResponse, Status> {
    let overlap = seconds.map(|seconds| Duration { seconds, nanos: 0 });
    let request = RotateTokenRequest { token_id: id.to_owned(), overlap };
    Ok(grpc.clone().tokens.rotate_token(request).await?.into_inner())
}

/// The new token, its text, and the token before.
fn parts(rotated: RotateTokenResponse) -> (Token, String, Token) {
    (rotated.token.unwrap(), rotated.text, rotated.previous.unwrap())
}

async fn create(grpc: &Grpc, request: CreateTokenRequest) -> (Token, String) {
    let made = grpc.clone().tokens.create_token(request).await.unwrap().into_inner();
    (made.token.unwrap(), made.text)
}

/// All tokens as the list has them, but for when they were used.
async fn listed(grpc: &Grpc) -> Vec<Token> {
    let list = grpc.tokens.clone().list_tokens(ListTokensRequest::default()).await.unwrap().into_inner();
    list.tokens.into_iter().map(|token| Token { last_used_at: None, ..token }).collect()
}

/// The server, and where there can be one, a replica.
fn with_replica(database: Database) -> (Server, Option<Server>) {
    let is_sqlite = matches!(database, Database::Sqlite);
    let server = Server::start(database);
    let replica = (!is_sqlite).then(|| server.replica().start());
    (server, replica)
}

async fn status(server: &Server, text: &str) -> u16 {
    server.rest().token(text).get("/v1/auth/validate").send().await.status.as_u16()
}

fn micros(at: Option<prost_types::Timestamp>) -> i64 {
    let at = at.unwrap();
    at.seconds * 1_000_000 + i64::from(at.nanos) / 1000
}

/// What is wrong with which field.
fn fault(refused: &Status) -> (String, String) {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(!violations[0].description.is_empty(), "{violations:?}");
    (violations[0].field.clone(), violations[0].reason.clone())
}

async fn both_are_good_until_the_overlap_ends(database: Database) {
    let (server, replica) = with_replica(database);
    let servers: Vec<_> = [Some(&server), replica.as_ref()].into_iter().flatten().collect();
    let agent = server.deploy("demo").await;
    let grpc = server.grpc().await;
    let later = (std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().unwrap()) + 600 * LIMIT;
    let request = CreateTokenRequest {
        name: "ci".to_owned(),
        scopes: vec!["secrets:list".to_owned(), "secrets:resolve".to_owned()],
        agent_ids: vec![agent],
        email: "a@b.example".to_owned(),
        expires_at: Some(later.into()),
    };
    let (old, old_text) = create(&grpc, request).await;
    // It is in the memory of all servers when it changes
    for server in &servers {
        assert_eq!(status(server, &old_text).await, 200);
    }
    let (new, new_text, previous) = parts(rotate(&grpc, &old.id, Some(OVERLAP)).await.unwrap());
    for server in &servers {
        assert_eq!((status(server, &old_text).await, status(server, &new_text).await), (200, 200));
    }
    assert!(new.id != old.id && new_text != old_text && new_text.starts_with("ss_"));
    let same =
        Token { id: new.id.clone(), created_at: new.created_at, expires_at: new.expires_at, ..old.clone() };
    assert_eq!(new, same);
    // It lives as long as the other was to
    let life = |token: &Token| micros(token.expires_at) - micros(token.created_at);
    assert_eq!(life(&new), life(&old));
    let end = micros(new.created_at) + OVERLAP * 1_000_000;
    assert_eq!(micros(previous.expires_at), end);
    assert_eq!(previous, Token { expires_at: previous.expires_at, ..old.clone() });
    assert_eq!(listed(&grpc).await[..2], [new.clone(), previous]);

    let ended = async || {
        let mut all = true;
        for server in &servers {
            all &= status(server, &old_text).await == 401;
        }
        all.then_some(())
    };
    eventually("the old token to end", ended).await;
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    assert!(now >= end, "not before its time");
    for server in &servers {
        assert_eq!(status(server, &new_text).await, 200);
    }
    // The next one has the same life again, and a token without an end none
    let (next, _, _) = parts(rotate(&grpc, &new.id, None).await.unwrap());
    assert_eq!(life(&next), life(&old));
    let (endless, _) = create_token(&grpc, &["agents:read"]).await;
    assert_eq!(rotate(&grpc, &endless.id, Some(OVERLAP)).await.unwrap().token.unwrap().expires_at, None);
}

async fn without_an_overlap_the_old_one_ends_at_once(database: Database) {
    let (server, replica) = with_replica(database);
    let servers: Vec<_> = [Some(&server), replica.as_ref()].into_iter().flatten().collect();
    let agent_id = server.deploy("demo").await;
    let grpc = server.grpc().await;
    for seconds in [None, Some(0)] {
        let (old, old_text) = create_token(&grpc, &["secrets:list"]).await;
        for server in &servers {
            assert_eq!(status(server, &old_text).await, 200);
        }
        let watching = WatchSecretsRequest { agent_id: agent_id.clone() };
        let watch = grpc.token(&old_text).runtime.watch_secrets(watching).await;
        let mut watch = watch.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().revision, 0);
        let (new, new_text, previous) = parts(rotate(&grpc, &old.id, seconds).await.unwrap());
        for server in &servers {
            assert_eq!((status(server, &old_text).await, status(server, &new_text).await), (401, 200));
        }
        assert_eq!((previous.revoked_at, previous.expires_at), (new.created_at, None));
        let ended = tokio::time::timeout(LIMIT, watch.message()).await.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::Unauthenticated);
        let trail = audit(&grpc, "").await;
        let mut told: Vec<_> =
            trail[..2].iter().map(|event| (event.action.as_str(), event.subject.as_str())).collect();
        told.sort_unstable();
        assert_eq!(told, [("token.create", new.id.as_str()), ("token.rotate", old.id.as_str())]);
        assert_eq!(trail[0].request_id, trail[1].request_id);
    }
    // A token that may make tokens may replace itself
    let (own, own_text) = create_token(&grpc, &["tokens:admin"]).await;
    let (new, new_text, _) = parts(rotate(&grpc.token(&own_text), &own.id, None).await.unwrap());
    assert_eq!((status(&server, &own_text).await, status(&server, &new_text).await), (401, 200));
    assert_eq!(new.scopes, ["tokens:admin"]);
    assert_eq!(audit(&grpc, "").await[0].actor, own.id);
}

async fn an_overlap_lengthens_no_life(database: Database) {
    let server = Server::start(database);
    let grpc = server.grpc().await;
    let soon = (std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().unwrap()) + 10 * LIMIT;
    let request =
        CreateTokenRequest { name: "ci".to_owned(), expires_at: Some(soon.into()), ..Default::default() };
    let (old, _) = create(&grpc, request).await;
    let (_, _, previous) = parts(rotate(&grpc, &old.id, Some(86_400)).await.unwrap());
    assert_eq!(previous, old);
    for seconds in [-1, 30 * 86_400 + 1, i64::MAX] {
        let (other, text) = create_token(&grpc, &["agents:read"]).await;
        let refused = rotate(&grpc, &other.id, Some(seconds)).await.unwrap_err();
        assert_eq!(fault(&refused), ("overlap".to_owned(), "OUT_OF_RANGE".to_owned()));
        assert_eq!(status(&server, &text).await, 200);
    }
}

async fn what_has_ended_is_not_rotated(database: Database) {
    let server = Server::start(database);
    let grpc = server.grpc().await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(create_token(&grpc, &["agents:read"]).await.0);
    }
    let [revoked, expired, replaced] = &tokens[..] else { panic!("{tokens:?}") };
    grpc.tokens.clone().revoke_token(RevokeTokenRequest { token_id: revoked.id.clone() }).await.unwrap();
    let expire = format!("UPDATE tokens SET expires_at = 1 WHERE id = '{}'", expired.id);
    server.backdoor().await.run(&expire).await;
    rotate(&grpc, &replaced.id, Some(3600)).await.unwrap();
    let (before, trail) = (listed(&grpc).await, audit(&grpc, "").await);
    for (token, reason) in [(revoked, "TOKEN_ENDED"), (expired, "TOKEN_ENDED"), (replaced, "TOKEN_REPLACED")]
    {
        let refused = rotate(&grpc, &token.id, Some(3600)).await.unwrap_err();
        assert_eq!(fault(&refused), ("token_id".to_owned(), reason.to_owned()));
    }
    assert_eq!((listed(&grpc).await, audit(&grpc, "").await), (before, trail));
    // People are told what to do instead
    let said = |token: &Token| server.cli().run(&["tokens", "rotate", &token.id]).failed(2);
    assert!(said(revoked).contains("create another token instead [token_ended]"), "{}", said(revoked));
    assert!(said(replaced).contains("rotate the token that replaced it"), "{}", said(replaced));
}

async fn who_may_rotate_is_who_could_create(database: Database) {
    let server = Server::start(database);
    let (own, foreign) = (server.deploy("own").await, server.deploy("foreign").await);
    let grpc = server.grpc().await;
    let limited_to = async |agents: &[&str]| {
        let agent_ids = agents.iter().map(ToString::to_string).collect();
        let request = CreateTokenRequest { name: "t".to_owned(), agent_ids, ..Default::default() };
        create(&grpc, request).await.0
    };
    let limited = grpc.token(&server.token(&ALL_SCOPES, &[&own]).await);
    let mut refusals = Vec::new();
    let beyond = [limited_to(&[]).await, limited_to(&[&foreign]).await, limited_to(&[&own, &foreign]).await];
    // What is beyond its reach it cannot tell from what is not there
    let ids = beyond.iter().map(|token| token.id.as_str());
    for id in ids.chain(["tok_0000000000000000000000", "tok_", "ss_"]) {
        let refused = rotate(&limited, id, None).await.unwrap_err();
        refusals.push((refused.code(), refused.message().to_owned(), refused.details().to_vec()));
    }
    assert_eq!(refusals[0].0, Code::PermissionDenied);
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    rotate(&limited, &limited_to(&[&own]).await.id, None).await.unwrap();

    // Without the scope not even itself
    let scopes: Vec<_> = ALL_SCOPES.into_iter().filter(|scope| *scope != "tokens:admin").collect();
    let (mortal, text) = create_token(&grpc, &scopes).await;
    let refused = rotate(&grpc.token(&text), &mortal.id, None).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().metadata["required_scope"], "tokens:admin");
    assert_eq!(status(&server, &text).await, 200);

    let scopes = "tokens:admin,agents:read";
    let made = server.setup().run(&["tenants", "token", "--name", "platform", "--scope", scopes]).done();
    let platform = listed(&grpc).await.into_iter().find(|token| token.name == "platform").unwrap();
    let refused = rotate(&grpc, &platform.id, None).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().metadata["required_scope"], "tenants:all");
    assert_eq!(status(&server, made.trim_end()).await, 200);
    let new = rotate(&grpc.token(made.trim_end()), &platform.id, None).await.unwrap();
    assert_eq!(new.token.unwrap().scopes, ["agents:read", "tenants:all", "tokens:admin"]);
}

async fn a_rotation_that_fails_changes_nothing(database: Database) {
    let server = Server::start(database);
    let grpc = server.grpc().await;
    let (old, text) = create_token(&grpc, &["agents:read"]).await;
    let (before, trail) = (listed(&grpc).await, audit(&grpc, "").await);
    let sql = server.backdoor().await;
    // The record of the rotation is the last thing that is written
    let (refuse, allow) = if sql.is_sqlite() {
        (
            "CREATE TRIGGER no_audit BEFORE INSERT ON audit_events WHEN NEW.action = 'token.rotate' \
             BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END",
            "DROP TRIGGER no_audit",
        )
    } else {
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused by a trigger'; END $$; \
             CREATE TRIGGER no_audit BEFORE INSERT ON audit_events \
             FOR EACH ROW WHEN (NEW.action = 'token.rotate') EXECUTE FUNCTION refuse()",
            "DROP TRIGGER no_audit ON audit_events",
        )
    };
    sql.run(refuse).await;
    for overlap in [None, Some(3600)] {
        let refused = rotate(&grpc, &old.id, overlap).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal);
    }
    assert_eq!((listed(&grpc).await, audit(&grpc, "").await), (before, trail));
    assert_eq!(status(&server, &text).await, 200);
    sql.run(allow).await;
    let (_, new_text, _) = parts(rotate(&grpc, &old.id, None).await.unwrap());
    assert_eq!((status(&server, &text).await, status(&server, &new_text).await), (401, 200));
}

async fn of_several_at_once_one_is_done(database: Database) {
    let server = Server::start(database);
    let grpc = server.grpc().await;
    let (old, _) = create_token(&grpc, &["agents:read"]).await;
    let outcomes = join_all((0..8).map(|_| rotate(&grpc, &old.id, Some(3600)))).await;
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1);
    for refused in refused {
        assert_eq!(fault(&refused.unwrap_err()).1, "TOKEN_REPLACED");
    }
    assert_eq!(listed(&grpc).await.len(), 3, "the admin's, the old one and one new one");
}

#[test]
fn the_command_prints_the_new_text_and_nothing_else() {
    let server = Server::start(Database::Sqlite);
    let admin = server.cli();
    let made = admin.run(&["tokens", "create", "--name", "ci", "--scope", "agents:read"]).done();
    let ci = |text: &str| Cli::new(server.address()).env("SUPERSERVE_TOKEN", text.trim_end());
    let list = admin.run(&["tokens", "list", "--json"]).done();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let tokens = list["tokens"].as_array().unwrap();
    let id = tokens.iter().find(|token| token["name"] == "ci").unwrap()["id"].as_str().unwrap();
    let rotated = admin.run(&["tokens", "rotate", id, "--overlap", "24h"]);
    assert!(rotated.stderr.contains("Token:    ci (tok_"), "{}", rotated.stderr);
    assert!(rotated.stderr.contains(&format!("Replaces: {id}, which ends at 2")), "{}", rotated.stderr);
    assert!(!rotated.stderr.contains("ss_"), "{}", rotated.stderr);
    let text = rotated.done();
    assert!(text.starts_with("ss_") && text.len() == 53, "the text and nothing else is on stdout");
    for text in [&made, &text] {
        ci(text).run(&["agents", "list"]).done();
    }
    // The one that was made is rotated at once
    let whoami = ci(&text).run(&["whoami", "--json"]).done();
    let whoami: serde_json::Value = serde_json::from_str(&whoami).unwrap();
    let id = whoami["token"]["id"].as_str().unwrap();
    let again = admin.run(&["tokens", "rotate", id, "--json"]).done();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["previous"]["id"], &again["token"]["name"]), (&json!(id), &json!("ci")));
    assert!(ci(&text).run(&["whoami"]).failed(2).contains("Not authenticated"));
    ci(again["text"].as_str().unwrap()).run(&["whoami"]).done();
}
