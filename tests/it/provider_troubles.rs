//! Promise: where a key provider is slow, busy or refuses, callers are told so in time, and it is asked no more than needed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{
    Database, eventually,
    moto::Moto,
    server::Server,
    steps::{resolve, resolver},
    transit::{KEY, Transit},
};

/// Longer than one answer is waited for, shorter than two.
const IN_TIME: Duration = Duration::from_secs(9);

/// The status with which an agent of this name is deployed.
async fn deploy(server: &Server, name: &str) -> u16 {
    server.rest().post("/v1/agents").json(&json!({"name": name})).send().await.status.as_u16()
}

#[tokio::test]
async fn while_logins_hang_all_are_told_in_time() {
    let transit = Transit::small().await;
    let server = transit.settings_of_a_pod(Server::with(Database::Sqlite)).start();
    server.deploy("before").await;
    let logins = {
        let mut engine = transit.small_engine();
        engine.end_tokens();
        engine.holds_logins = true;
        engine.logins
    };
    let began = Instant::now();
    let names: Vec<_> = (0..8).map(|n| format!("agent {n}")).collect();
    assert_eq!(join_all(names.iter().map(|name| deploy(&server, name))).await, [503; 8]);
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    assert_eq!(transit.small_engine().logins - logins, 1, "one login is for all");
    transit.small_engine().holds_logins = false;
    let again = async || (deploy(&server, "after").await == 201).then_some(());
    eventually("the engine to let it in", again).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_had_anew_for_every_call() {
    let transit = Transit::small().await;
    let server = transit.settings_of_a_pod(Server::with(Database::Sqlite)).start();
    server.deploy("before").await;
    let (logins, began) = (transit.small_engine().logins, Instant::now());
    transit.small_engine().forbids = true;
    for n in 0..20 {
        assert_eq!(deploy(&server, &format!("agent {n}")).await, 503);
    }
    // Ten seconds later it may be tried again, also where a slow machine makes them pass here
    let allowed = 1 + began.elapsed().as_secs() / 10;
    let made = transit.small_engine().logins - logins;
    assert!(made as u64 <= allowed, "each login is a lease: {made}");
    transit.small_engine().forbids = false;
    server.deploy("after").await;
}

#[tokio::test]
async fn calls_for_one_agent_ask_for_its_data_key_once() {
    let transit = Transit::small().await;
    let mut server = transit.settings(Server::with(Database::Sqlite)).start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    server.kill9();
    server.restart();
    let grpc = resolver(&server).await;
    let before = {
        let mut engine = transit.small_engine();
        engine.takes = Duration::from_millis(500);
        engine.unwraps
    };
    for values in join_all((0..20).map(|_| resolve(&grpc, &agent))).await {
        assert_eq!(values.unwrap()["KEY"], "v");
    }
    assert_eq!(transit.small_engine().unwraps - before, 1);
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_data_key_to_the_next() {
    let transit = Transit::small().await;
    let mut server = transit.settings(Server::with(Database::Sqlite)).start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    server.kill9();
    server.restart();
    let before = {
        let mut engine = transit.small_engine();
        engine.takes = Duration::from_millis(1500);
        engine.unwraps
    };
    let path = format!("/v1/agents/{agent}/secrets");
    let rest = server.rest();
    let set = async || {
        let body = json!({"secrets": {"OTHER": "o"}});
        rest.patch(&path).header("grpc-timeout", "700m").json(&body).send().await.status.as_u16()
    };
    assert_eq!(set().await, 504, "it is faster than the engine");
    eventually("the data key to be at hand", async || (set().await == 200).then_some(())).await;
    assert_eq!(transit.small_engine().unwraps - before, 1);
}

#[tokio::test]
async fn data_keys_in_use_are_asked_for_anew_side_by_side() {
    let transit = Transit::small().await;
    let setup = transit.settings(Server::with(Database::Sqlite));
    let mut server = setup.env("SUPERSERVE_DATA_KEY_CACHE", "20").start();
    let mut agents = Vec::new();
    for n in 0..40 {
        let agent = server.deploy(&format!("agent {n}")).await;
        server.set(&agent, &json!({"KEY": "v"})).await;
        agents.push(agent);
    }
    // All data keys are of one age
    server.kill9();
    server.restart();
    let grpc = resolver(&server).await;
    let resolve_all = async || {
        for values in join_all(agents.iter().map(|agent| resolve(&grpc, agent))).await {
            assert_eq!(values.unwrap()["KEY"], "v");
        }
    };
    resolve_all().await;
    let before = {
        let mut engine = transit.small_engine();
        engine.takes = Duration::from_millis(300);
        engine.most_at_once = 0;
        engine.unwraps
    };
    // One after the other they would take longer than the half that is left
    let asked = async || {
        resolve_all().await;
        (transit.small_engine().unwraps >= before + agents.len()).then_some(())
    };
    eventually("all data keys to be asked for anew", asked).await;
    let engine = transit.small_engine();
    assert!((8..=16).contains(&engine.most_at_once), "{}", engine.most_at_once);
    assert_eq!(engine.unwraps, before + agents.len(), "each of them once");
}

#[tokio::test]
async fn a_provider_that_has_too_much_to_do_is_asked_again() {
    let transit = Transit::small().await;
    let server = transit.settings(Server::with(Database::Sqlite)).start();
    transit.small_engine().too_many = 2;
    server.deploy("demo").await;
    assert_eq!(transit.small_engine().too_many, 0);
    transit.small_engine().too_many = 100;
    assert_eq!(deploy(&server, "other").await, 503, "not for ever");
    assert_eq!(transit.small_engine().too_many, 96);
}

#[tokio::test]
async fn aws_kms_is_asked_again_that_throttles() {
    let Some(moto) = Moto::start().await else { return };
    let server = moto.settings_with_throttle(Server::with(Database::Sqlite)).start();
    moto.throttle(2);
    server.deploy("demo").await;
    assert_eq!(moto.throttled(), 0);
    moto.throttle(100);
    assert_eq!(deploy(&server, "other").await, 503, "not for ever");
    assert_eq!(moto.throttled(), 96);
}

#[tokio::test]
async fn what_was_wrapped_anew_before_an_error_stays_so() {
    let transit = Transit::small().await;
    let mut server = Server::start(Database::Sqlite);
    for n in 0..40 {
        server.deploy(&format!("agent {n}")).await;
    }
    assert!(server.terminate().success());
    let setup = transit.settings(server.setup().clone());
    // To be checked at the start takes it some calls too
    transit.small_engine().works_for = Some(25);
    let refused = setup.run(&["keys", "rotate"]);
    assert!(refused.code != 0 && refused.stderr.contains("it works no more"), "{}", refused.stderr);
    transit.small_engine().works_for = None;
    let told = setup.run(&["keys", "status", "--json"]).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let remote = format!("transit:transit/{KEY}");
    let keys = told["keys"].as_array().unwrap().iter();
    let moved: u64 =
        keys.filter(|key| key["id"] == json!(remote)).map(|key| key["agents"].as_u64().unwrap()).sum();
    assert!((16..=25).contains(&moved), "{told}");
}
