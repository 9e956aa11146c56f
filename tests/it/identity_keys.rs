//! The keys of issuers: had again when they change, kept while their server is away, and not for ever.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{
    Database, eventually,
    issuer::{KeyServer, SigningKey, key_set, now, write_rules},
    server::Server,
};

const ISSUER: &str = "https://issuer.example";

fn token(key: &SigningKey) -> String {
    key.sign(&json!({"iss": ISSUER, "sub": "one", "aud": "superserve", "exp": now() + 300}))
}

/// A server that has this issuer's keys over the network.
fn start(keys: &KeyServer, settings: &str) -> Server {
    let setup = Server::with(Database::Sqlite);
    let issuer = format!(
        "[[issuers]]\nissuer = {ISSUER:?}\naudiences = [\"superserve\"]\njwks_url = {:?}\n{settings}\n\
         [[issuers.rules]]\nclaims = {{ sub = \"one\" }}\ntenant = \"ten_default\"\nscopes = [\"agents:read\"]\nagents = \"all\"\n",
        keys.url()
    );
    let path = write_rules(setup.data_dir(), &[issuer]);
    // Who waits here asks often
    setup.env("SUPERSERVE_IDENTITIES", &path).env("SUPERSERVE_MAX_FAILED_AUTH", "0").start()
}

async fn status(server: &Server, key: &SigningKey) -> u16 {
    server.rest().token(&token(key)).get("/v1/agents").send().await.status.as_u16()
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_and_not_too_often() {
    let (first, second, third) = (SigningKey::p256("a"), SigningKey::p256("b"), SigningKey::p256("c"));
    let keys = KeyServer::start(&[&first]);
    let server = start(&keys, "");
    assert_eq!(status(&server, &first).await, 200);
    assert_eq!(keys.published().asked, 1);
    keys.published().body = key_set(&[&first, &second]);
    assert_eq!(status(&server, &second).await, 200, "it signs with a new key at once");
    assert_eq!(status(&server, &first).await, 200);
    assert_eq!(keys.published().asked, 2);
    // Ten seconds after it was asked it may be asked again, also where a slow machine makes them pass here
    let begun = Instant::now();
    let allowed = |asked: u64| asked + begun.elapsed().as_secs() / 10;
    for _ in 0..20 {
        assert_eq!(status(&server, &third).await, 401);
    }
    let asked = keys.published().asked;
    assert!(asked as u64 <= allowed(2), "who invents keys does not make it ask: {asked}");
    keys.published().body = key_set(&[&third]);
    eventually("the pause to end", async || (status(&server, &third).await == 200).then_some(())).await;
    assert_eq!(status(&server, &first).await, 401, "a key that is withdrawn is known no more");
    let asked = keys.published().asked;
    assert!(asked as u64 <= allowed(3), "{asked}");
}

#[tokio::test]
async fn who_gives_up_waiting_takes_the_answer_from_nobody() {
    let (first, second, invented) = (SigningKey::p256("a"), SigningKey::p256("b"), SigningKey::p256("c"));
    let keys = KeyServer::start(&[&first]);
    let server = start(&keys, "");
    assert_eq!(status(&server, &first).await, 200);
    {
        let mut published = keys.published();
        published.is_slow = true;
        published.body = key_set(&[&first, &second]);
    }
    let rest = server.rest().token(&token(&invented));
    let impatient = rest.get("/v1/agents").header("grpc-timeout", "700m").send().await;
    assert_eq!(impatient.status, 504);
    let patient = status(&server, &second);
    let answered = async {
        eventually("the issuer to be asked", async || (keys.published().asked == 2).then_some(())).await;
        keys.published().is_slow = false;
    };
    assert_eq!(tokio::join!(patient, answered).0, 200, "the new key is there");
    assert_eq!(keys.published().asked, 2, "nobody asked once more");
}

#[tokio::test]
async fn a_key_that_cannot_be_asked_for_is_not_said_to_be_unknown() {
    let (first, second) = (SigningKey::p256("a"), SigningKey::p256("b"));
    let keys = KeyServer::start(&[&first]);
    let server = start(&keys, "");
    assert_eq!(status(&server, &first).await, 200);
    {
        let mut published = keys.published();
        published.is_down = true;
        published.body = key_set(&[&first, &second]);
    }
    for _ in 0..3 {
        assert_eq!(status(&server, &second).await, 503, "perhaps its issuer has it by now");
    }
    assert_eq!(status(&server, &first).await, 200);
    keys.published().is_down = false;
    eventually("it to be asked again", async || (status(&server, &second).await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_by_the_clock() {
    let (first, second) = (SigningKey::p256("a"), SigningKey::p256("b"));
    let keys = KeyServer::start(&[&first]);
    let server = start(&keys, "refresh_seconds = 1");
    assert_eq!(status(&server, &first).await, 200);
    keys.published().body = key_set(&[&second]);
    eventually("the keys to be had again", async || (status(&server, &first).await == 401).then_some(()))
        .await;
    assert_eq!(status(&server, &second).await, 200);
}

#[tokio::test]
async fn known_keys_outlive_their_server_for_a_while() {
    let key = SigningKey::ed25519("a");
    let keys = KeyServer::start(&[&key]);
    let server = start(&keys, "algorithms = [\"EdDSA\"]\nrefresh_seconds = 1\nkeep_seconds = 8");
    assert_eq!(status(&server, &key).await, 200);
    let asked = {
        let mut published = keys.published();
        published.is_down = true;
        published.asked
    };
    eventually("it to be missed", async || (keys.published().asked > asked + 1).then_some(())).await;
    assert_eq!(status(&server, &key).await, 200, "what it gave last is believed");
    eventually("the keys to be too old", async || (status(&server, &key).await == 503).then_some(())).await;
    let refused = server.rest().token(&token(&key)).get("/v1/agents").send().await;
    assert_eq!(
        (refused.refusal(), refused.header("retry-after")),
        (("Service unavailable".to_owned(), json!({})), "1")
    );
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200, "tokens of ours need no issuer");
    keys.published().is_down = false;
    eventually("it to be there again", async || (status(&server, &key).await == 200).then_some(())).await;
    let told = |message: &str| server.log().lines().filter(|line| line.contains(message)).count();
    assert_eq!(told("the keys of an issuer are not to be had"), 1);
    assert_eq!(told("to be had again"), 1);
}

#[tokio::test]
async fn what_is_published_badly_is_not_believed() {
    let key = SigningKey::p256("a");
    let keys = KeyServer::start(&[&key]);
    let server = start(&keys, "refresh_seconds = 1");
    assert_eq!(status(&server, &key).await, 200);
    let huge = json!({"keys": [key.public()], "more": "x".repeat(300_000)}).to_string();
    for body in ["", "<html>", "{\"keys\":[]}", &huge, &Value::from(7).to_string()] {
        let asked = keys.published().asked;
        keys.published().body = body.to_owned();
        eventually("it to be read", async || (keys.published().asked > asked + 1).then_some(())).await;
        assert_eq!(status(&server, &key).await, 200, "the keys before stay");
    }
}

#[tokio::test]
async fn a_server_starts_while_an_issuer_is_away() {
    let key = SigningKey::p256("a");
    let keys = KeyServer::start(&[&key]);
    keys.published().is_down = true;
    let server = start(&keys, "refresh_seconds = 1");
    assert_eq!(status(&server, &key).await, 503);
    keys.published().is_down = false;
    eventually("it to be there", async || (status(&server, &key).await == 200).then_some(())).await;
}
