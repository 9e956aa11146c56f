//! Guesses at tokens: how many a source has, who is not touched by another's guesses, and what they cost.

use std::{net::Ipv4Addr, time::Instant};

use serde_json::json;
use superserve::{
    domain::TokenText,
    proto::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, WhoAmIRequest},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT, eventually,
    issuer::{SigningKey, key_set, now, write_rules},
    pki::Authority,
    postgres::Cluster,
    rest::{Answer, Rest},
    server::Server,
};

const WHO_AM_I: &str = "/v1/auth/validate";

/// Another address of this machine.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A token that is none, another one for each number.
fn guess(n: u32) -> TokenText {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    TokenText::from_random(&bytes)
}

async fn try_out(rest: &Rest, token: &str) -> Answer {
    rest.token(token).get(WHO_AM_I).send().await
}

/// That it is refused unasked, as the documentation says.
fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.refusal(), ("Too many requests".to_owned(), json!({})));
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_source_has_so_many_guesses_and_its_good_callers_go_on() {
    let server = Server::with(Database::Sqlite).arg("--max-failed-auth=20").start();
    let (rest, grpc) = (server.rest(), server.grpc().await);
    let other = server.token(&["agents:read"], &[]).await;
    let stranger = server.token(&["agents:read"], &[]).await;
    // These two are known here before anybody guesses: guesses may all come within a moment
    assert_eq!(rest.get(WHO_AM_I).send().await.status, 200);
    assert_eq!(try_out(&rest, &other).await.status, 200);
    for n in 0..20 {
        // In either protocol, and whatever it looks like
        let token = if n % 3 == 0 { format!("not-a-token-{n}") } else { guess(n).expose().to_owned() };
        if n % 2 == 0 {
            assert_eq!(try_out(&rest, &token).await.status, 401);
        } else {
            let refused = grpc.token(&token).tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
    }
    assert_refused(&try_out(&rest, guess(20).expose()).await);
    let refused = grpc.token(guess(21).expose()).tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "Too many requests"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "RATE_LIMITED");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    // A token that is good, but was not seen here lately, cannot be told from one
    assert_refused(&try_out(&rest, &stranger).await);

    assert_eq!(try_out(&rest, &other).await.status, 200);
    let mut known = grpc.clone();
    known.tokens.who_am_i(WhoAmIRequest {}).await.expect("the admin is known here");
    // Who shows nothing guesses nothing, and what is open stays open
    assert_eq!(rest.anonymous().get(WHO_AM_I).send().await.status, 401);
    assert_eq!(rest.anonymous().get("/openapi.json").send().await.status, 200);
    let elsewhere = rest.at(ELSEWHERE);
    assert_eq!(try_out(&elsewhere, &stranger).await.status, 200);
    assert_eq!(try_out(&elsewhere, guess(22).expose()).await.status, 401);

    // A token that was good is a guess once it is revoked
    let tokens = known.tokens.list_tokens(ListTokensRequest::default()).await.unwrap();
    for token in tokens.into_inner().tokens.into_iter().filter(|token| token.name == "test") {
        known.tokens.revoke_token(RevokeTokenRequest { token_id: token.id }).await.unwrap();
    }
    assert_eq!(try_out(&rest, &other).await.status, 401);
    assert_refused(&try_out(&rest, &other).await);
    let log = server.log();
    assert_eq!(log.matches("too many failed authentications").count(), 1, "once a source and minute");
    assert!(log.contains("127.0.0.1") && !log.contains(guess(20).expose()) && !log.contains("not-a-token"));
}

#[tokio::test]
async fn six_hundred_are_the_default_and_none_is_no_limit() {
    let limited = Server::start(Database::Sqlite);
    let unlimited = Server::with(Database::Sqlite).arg("--max-failed-auth=0").start();
    let began = Instant::now();
    for n in 0..600 {
        assert_eq!(try_out(&limited.rest(), guess(n).expose()).await.status, 401);
    }
    let next = try_out(&limited.rest(), guess(600).expose()).await;
    assert!(began.elapsed() < 2 * LIMIT, "too slow to be in one minute");
    assert_refused(&next);
    for n in 0..602 {
        assert_eq!(try_out(&unlimited.rest(), guess(n).expose()).await.status, 401);
    }
}

#[tokio::test]
async fn tokens_of_issuers_and_certificates_are_guesses_too() {
    let setup = Server::with(Database::Sqlite).arg("--max-failed-auth=3");
    let (key, forger) = (SigningKey::p256("k1"), SigningKey::p256("k1"));
    let keys = setup.data_dir().join("keys.json");
    std::fs::write(&keys, key_set(&[&key])).unwrap();
    let issuer = format!(
        "[[issuers]]\nissuer = \"https://issuer.example\"\naudiences = [\"superserve\"]\njwks_file = {keys:?}\n\
         [[issuers.rules]]\nclaims = {{ sub = \"one\" }}\ntenant = \"ten_default\"\n\
         scopes = [\"agents:read\"]\nagents = \"all\"\n"
    );
    let path = write_rules(setup.data_dir(), &[issuer]);
    let server = setup.env("SUPERSERVE_IDENTITIES", &path).start();
    let claims = json!({
        "iss": "https://issuer.example", "sub": "one", "aud": "superserve", "iat": now(), "exp": now() + 300,
    });
    let rest = server.rest();
    for _ in 0..3 {
        assert_eq!(try_out(&rest, &forger.sign(&claims)).await.status, 401);
    }
    let good = key.sign(&claims);
    assert_refused(&try_out(&rest, &good).await);
    assert_eq!(try_out(&rest.at(ELSEWHERE), &good).await.status, 200);

    let (authority, clients) = (Authority::new(), Authority::new());
    let client_ca = format!("--tls-client-ca={}", clients.path("ca.pem"));
    let server = authority.serve(&[&client_ca, "--max-failed-auth=3"]);
    let nobody = clients.issue();
    let status = async |token| {
        let answer = authority.get(&server, "h2", Some(&nobody), token).await.expect("a connection");
        answer.status().as_u16()
    };
    for _ in 0..3 {
        assert_eq!(status(None).await, 401);
    }
    assert_eq!(status(None).await, 429);
    assert_eq!(status(Some(guess(1).expose())).await, 429);
}

/// Else who hangs up before he is answered would guess as often as he likes.
#[tokio::test]
async fn a_guess_that_is_given_up_is_one() {
    let Some(cluster) = Cluster::start() else { return };
    let database = Database::Postgres(cluster.create_database().await);
    let server = Server::with(database).arg("--max-failed-auth=5").start();
    let rest = server.rest();
    assert_eq!(rest.get(WHO_AM_I).send().await.status, 200);
    for n in 0..5 {
        let call = rest.token(guess(n).expose()).get(WHO_AM_I).header("grpc-timeout", "1n").send().await;
        assert!([401, 504].contains(&call.status.as_u16()), "{}", call.text());
    }
    assert_refused(&try_out(&rest, guess(5).expose()).await);
    // Who is known may give up as often as he likes
    for _ in 0..5 {
        let _given_up = rest.get(WHO_AM_I).header("grpc-timeout", "1n").send().await;
    }
    assert_eq!(rest.get(WHO_AM_I).send().await.status, 200);
}

/// A database that is away is a database that would have been asked in vain: 503 is said where it is asked.
#[tokio::test]
async fn the_database_is_not_asked_for_guesses_beyond_the_limit() {
    let Some(mut cluster) = Cluster::start() else { return };
    let database = Database::Postgres(cluster.create_database().await);
    let server = Server::with(database).arg("--max-failed-auth=5").start();
    let rest = server.rest();
    for n in 0..5 {
        assert_eq!(try_out(&rest, guess(n).expose()).await.status, 401);
    }
    cluster.stop();
    for n in 5..20 {
        assert_refused(&try_out(&rest, guess(n).expose()).await);
    }
    assert_eq!(try_out(&rest.at(ELSEWHERE), guess(20).expose()).await.status, 503);
}

#[tokio::test]
async fn what_could_not_be_found_out_is_no_failure() {
    let Some(mut cluster) = Cluster::start() else { return };
    let database = Database::Postgres(cluster.create_database().await);
    let server = Server::with(database).arg("--max-failed-auth=2").start();
    let mut grpc = server.grpc().await;
    let token = grpc.tokens.create_token(CreateTokenRequest { name: "a".to_owned(), ..Default::default() });
    let token = token.await.unwrap().into_inner().text;
    cluster.stop();
    for _ in 0..3 {
        assert_eq!(try_out(&server.rest(), &token).await.status, 503);
    }
    cluster.start_again();
    let known = async || (try_out(&server.rest(), &token).await.status == 200).then_some(());
    eventually("the database", known).await;
}
