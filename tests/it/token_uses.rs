//! When a token was last used: it is known within a minute, on every replica, and no call pays for it.

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::json;
use superserve::proto::v1::{ListTokensRequest, Token, WhoAmIRequest};

use crate::harness::{
    Database,
    grpc::Grpc,
    issuer::{SigningKey, key_set, now, write_rules},
    on_each_database, postgres,
    server::Server,
    sql::Sql,
    steps::create_token,
};

on_each_database!(
    a_use_is_written_once_and_within_a_minute,
    a_server_that_ends_in_order_writes_what_it_knows,
    a_use_never_goes_back,
    an_identity_is_no_token_of_ours,
);

/// A minute, and some time for a server that has much to do.
const WITHIN: Duration = Duration::from_secs(75);

/// Calls before anything is written.
const CALLS: usize = 200;

/// Of each write to `token_uses`, one row.
const COUNTING: [&str; 2] = [
    "CREATE TABLE uses_written (token_id TEXT);
     CREATE TRIGGER count_added AFTER INSERT ON token_uses
     BEGIN INSERT INTO uses_written VALUES (NEW.token_id); END;
     CREATE TRIGGER count_changed AFTER UPDATE ON token_uses
     BEGIN INSERT INTO uses_written VALUES (NEW.token_id); END;",
    "CREATE TABLE uses_written (token_id TEXT);
     CREATE FUNCTION count_use() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN INSERT INTO uses_written VALUES (NEW.token_id); RETURN NULL; END $$;
     CREATE TRIGGER count_uses AFTER INSERT OR UPDATE ON token_uses
     FOR EACH ROW EXECUTE FUNCTION count_use()",
];

async fn written(sql: &Sql, token: &Token) -> i64 {
    let count = "SELECT COUNT(*) AS n FROM uses_written WHERE token_id = $1";
    sql.row(count, [token.id.as_str().into()]).await.try_get("", "n").unwrap()
}

/// A token as the list shows it.
async fn listed(admin: &Grpc, token: &Token) -> Token {
    let list = admin.tokens.clone().list_tokens(ListTokensRequest::default()).await.unwrap().into_inner();
    list.tokens.into_iter().find(|it| it.id == token.id).unwrap()
}

/// When a token was last used, in microseconds since the epoch, as the list says.
async fn last_used(admin: &Grpc, token: &Token) -> Option<i64> {
    let at = listed(admin, token).await.last_used_at?;
    Some(at.seconds * 1_000_000 + i64::from(at.nanos) / 1000)
}

fn micros_now() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}

async fn a_use_is_written_once_and_within_a_minute(database: Database) {
    let is_sqlite = matches!(database, Database::Sqlite);
    let here = Server::start(database);
    // Where there can be another server, it is that which is asked
    let other = (!is_sqlite).then(|| here.replica().start());
    let there = other.as_ref().unwrap_or(&here).grpc().await;
    let sql = here.backdoor().await;
    sql.run(COUNTING[usize::from(!is_sqlite)]).await;
    let (token, text) = create_token(&here.grpc().await, &["agents:read"]).await;
    let version = async || {
        let row = "SELECT xmin::text AS version FROM tokens WHERE id = $1";
        sql.row(row, [token.id.as_str().into()]).await.try_get::<String>("", "version").unwrap()
    };
    let version_before = if is_sqlite { None } else { Some(version().await) };
    let (rest, begun) = (here.rest().token(&text), micros_now());
    for _ in 0..CALLS {
        assert_eq!(rest.get("/v1/agents").send().await.status, 200);
    }
    assert_eq!(
        (written(&sql, &token).await, last_used(&there, &token).await),
        (0, None),
        "no call writes it"
    );

    // It is used all the time, and yet written once
    let waiting = Instant::now();
    let (used, seen) = loop {
        assert_eq!(rest.get("/v1/agents").send().await.status, 200);
        if let Some(used) = last_used(&there, &token).await {
            break (used, micros_now());
        }
        assert!(waiting.elapsed() < WITHIN, "not written within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(written(&sql, &token).await, 1);
    assert!((begun..=seen).contains(&used), "{begun} {used} {seen}");
    // What is kept of the token itself is as it was
    let version_after = if is_sqlite { None } else { Some(version().await) };
    assert_eq!(version_before, version_after);
    // And a token that nobody has used is known not to have been
    let (unused, _) = create_token(&here.grpc().await, &["agents:read"]).await;
    assert_eq!((written(&sql, &unused).await, last_used(&there, &unused).await), (0, None));
}

async fn a_server_that_ends_in_order_writes_what_it_knows(database: Database) {
    let mut server = Server::start(database);
    let (token, text) = create_token(&server.grpc().await, &["agents:read"]).await;
    let begun = micros_now();
    assert_eq!(server.rest().token(&text).get("/v1/agents").send().await.status, 200);
    assert!(server.stop().await.success());
    let ended = micros_now();
    server.restart();
    let used = last_used(&server.grpc().await, &token).await.unwrap();
    assert!((begun..=ended).contains(&used), "{begun} {used} {ended}");
    // Of one that is killed the last minute is lost, and no more
    assert_eq!(server.rest().token(&text).get("/v1/agents").send().await.status, 200);
    server.kill9();
    server.restart();
    assert_eq!(last_used(&server.grpc().await, &token).await, Some(used));
}

async fn a_use_never_goes_back(database: Database) {
    const LATER: i64 = 4_102_444_800_000_000;
    let mut server = Server::start(database);
    let (token, text) = create_token(&server.grpc().await, &["agents:read"]).await;
    // As another server has noted it, whose clock is ahead
    let insert = format!("INSERT INTO token_uses (token_id, used_at) VALUES ('{}', {LATER})", token.id);
    server.backdoor().await.run(&insert).await;
    assert_eq!(server.rest().token(&text).get("/v1/agents").send().await.status, 200);
    assert!(server.stop().await.success());
    server.restart();
    assert_eq!(last_used(&server.grpc().await, &token).await, Some(LATER));
    // And what is earlier gives way
    server.backdoor().await.run("UPDATE token_uses SET used_at = 1").await;
    assert_eq!(server.rest().token(&text).get("/v1/agents").send().await.status, 200);
    assert!(server.stop().await.success());
    server.restart();
    let used = last_used(&server.grpc().await, &token).await.unwrap();
    assert!((2..LATER).contains(&used), "{used}");
}

#[tokio::test]
async fn of_several_servers_the_latest_use_counts() {
    let Some(database) = postgres::Database::create().await else { return };
    let mut first = Server::start(Database::Postgres(database));
    let mut second = first.replica().start();
    let third = first.replica().start();
    let (token, text) = create_token(&third.grpc().await, &["agents:read"]).await;
    for server in [&first, &second] {
        assert_eq!(server.rest().token(&text).get("/v1/agents").send().await.status, 200);
    }
    // The later use is written first
    assert!(second.stop().await.success());
    let used = last_used(&third.grpc().await, &token).await.unwrap();
    assert!(first.stop().await.success());
    assert_eq!(last_used(&third.grpc().await, &token).await, Some(used));
}

async fn an_identity_is_no_token_of_ours(database: Database) {
    let setup = Server::with(database);
    let (key, keys) = (SigningKey::ed25519("k1"), setup.data_dir().join("keys.json"));
    std::fs::write(&keys, key_set(&[&key])).unwrap();
    let issuer = format!(
        "[[issuers]]\nissuer = \"https://issuer.example\"\naudiences = [\"superserve\"]\n\
         jwks_file = \"{keys}\"\nalgorithms = [\"EdDSA\"]\n\
         [[issuers.rules]]\nclaims = {{ sub = \"one\" }}\ntenant = \"ten_default\"\nscopes = [\"agents:read\"]\n\
         agents = \"all\"\n",
        keys = keys.display()
    );
    let path = write_rules(setup.data_dir(), &[issuer]);
    let mut server = setup.env("SUPERSERVE_IDENTITIES", &path).start();
    let claims = json!({
        "iss": "https://issuer.example", "sub": "one", "aud": "superserve", "iat": now(), "exp": now() + 300
    });
    let grpc = server.grpc().await.token(&key.sign(&claims));
    let me = grpc.tokens.clone().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner().token.unwrap();
    assert_eq!((me.id.as_str(), me.last_used_at), ("https://issuer.example#one", None));
    let admin = server.grpc().await.tokens.who_am_i(WhoAmIRequest {}).await.unwrap();
    let admin = admin.into_inner().token.unwrap();
    assert!(server.stop().await.success());
    let rows =
        server.backdoor().await.row("SELECT COUNT(*) AS n, MIN(token_id) AS id FROM token_uses", []).await;
    let rows = (rows.try_get::<i64>("", "n").unwrap(), rows.try_get::<String>("", "id").unwrap());
    assert_eq!(rows, (1, admin.id));
}
