//! Keyrings handed out to servers one after the other: nobody wraps by a key that somebody has not, and who meets one says
//! so, looks for it, and goes on.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use superserve::{
    crypto::{DataKey, Keyring, Random},
    domain::{AgentId, KekId, TenantId, Timestamp},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    on_each_database,
    search::sentinel,
    server::{Server, Setup},
    steps::{resolve, resolver},
};

on_each_database!(
    a_key_that_is_not_there_is_looked_for,
    no_server_is_left_behind_by_a_rotation,
    a_primary_key_waits_for_the_last_server,
    keyrings_go_round_by_restarts,
    a_server_that_is_gone_is_not_waited_for,
    who_was_cut_off_wraps_by_no_key_that_was_given_up,
    who_lacks_the_key_in_use_does_not_start,
    a_restored_backup_tells_its_key,
);

async fn a_key_that_is_not_there_is_looked_for(database: Database) {
    let server = Server::start(database);
    let value = sentinel();
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    server.set(&agent, &json!({"KEY": value})).await;
    server.set(&other, &json!({"KEY": value})).await;
    let file = server.setup().keyring();
    let (before, with_new, new) = with_new_key(&file);
    // A server that had the new key as its primary has been here
    rewrap(&server, &agent, &with_new).await;

    let grpc = resolver(&server).await;
    let refused = resolve(&grpc, &agent).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((refused.code(), info.reason.as_str()), (Code::Unavailable, "KEY_UNAVAILABLE"));
    assert_eq!(info.metadata["key_id"], new);
    assert!(refused.get_details_retry_info().is_some());
    let set = server.rest().patch(&secrets_of(&agent)).json(&json!({"secrets": {"B": "b"}})).send().await;
    assert_eq!((set.status.as_u16(), set.header("retry-after")), (503, "1"));
    assert_eq!(set.json()["details"], json!({"code": "key_unavailable", "key_id": new}));
    let deleted = server.rest().delete(&format!("{}/KEY", secrets_of(&agent))).send().await;
    assert_eq!(deleted.status, 503);
    // The others are served, and for one agent nobody sends their calls elsewhere
    assert_eq!(resolve(&grpc, &other).await.unwrap()["KEY"], value);
    assert_eq!(server.ops().get("/readyz").send().await.status, 200);
    server.deploy("more").await;
    // But where all servers use that key: then there are servers that can do more
    let note = "UPDATE keys SET primary_since = (SELECT MAX(primary_since) + 1 FROM keys) WHERE id = $1";
    assert_eq!(server.backdoor().await.change(note, [new.as_str().into()]).await, 1);
    let fingerprint = with_new.get(&KekId::parse(&new).unwrap()).unwrap().fingerprint();
    is_not_ready_without(&server, &new, &fingerprint).await;
    assert_eq!(resolve(&grpc, &other).await.unwrap()["KEY"], value);
    assert_eq!(resolve(&grpc, &agent).await.unwrap_err().code(), Code::Unavailable);
    assert!(!server.log().contains("does not open"), "{}", server.log());

    // Nobody tells the server that the key is there now
    fs::write(&file, with_new.to_json().as_slice()).unwrap();
    let resolved = async || resolve(&grpc, &agent).await.ok();
    assert_eq!(eventually("the key to be found", resolved).await["KEY"], value);
    assert_eq!(server.ops().get("/readyz").send().await.status, 200);
    server.set(&agent, &json!({"B": "b"})).await;
    // At once: not when it looks by itself, from time to time
    let log = server.log();
    let looked = log.rfind("looking for it").unwrap();
    assert!(log[looked..].contains("keyring read again"), "{log}");
    assert!(before.get(&KekId::parse(&new).unwrap()).is_none());
}

async fn no_server_is_left_behind_by_a_rotation(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    // The operator has a keyring of his own
    let mine = server.data_dir().join("mine.json");
    fs::copy(server.setup().keyring(), &mine).unwrap();
    let operator = server.setup().clone().env("SUPERSERVE_KEYRING", mine.to_str().unwrap());
    operator.run(&["keys", "generate"]);
    let new = newest(&mine);
    let refused = operator.run(&["keys", "rotate", "--wait", "1s"]).failed(1);
    assert!(refused.contains("1 server(s) do not have the key") && refused.contains(&new), "{refused}");
    assert!(refused.contains(server.data_dir().to_str().unwrap()), "it is named: {refused}");
    assert_eq!(primary(&mine), primary(&server.setup().keyring()));
    let status = status(&operator);
    assert_eq!(status["servers"][0]["lacks"], json!([new]));
    assert_eq!(agents_under(&status, &new), 0);

    // It waits for a server that gets it meanwhile
    let rotating = operator.begin(&["keys", "rotate", "--json"]);
    fs::copy(&mine, server.setup().keyring()).unwrap();
    let rotated: Value = serde_json::from_str(&rotating.await.unwrap().done()).unwrap();
    assert_eq!((&rotated["primary"], &rotated["rewrapped"]), (&json!(new), &json!(1)));
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
    // A server that has it and still wraps by the old one is named before that is removed
    let old = primary(&server.setup().keyring());
    let refused = operator.run(&["keys", "retire", &old, "--wait", "1s"]).failed(1);
    assert!(refused.contains("1 server(s) still wrap"), "{refused}");
    fs::copy(&mine, server.setup().keyring()).unwrap();
    assert_eq!(operator.run(&["keys", "retire", &old]).code, 0);
}

async fn a_primary_key_waits_for_the_last_server(database: Database) {
    let Some(Pair { first, second, second_file, agent, value }) = pair(database).await else { return };
    let generated = first.setup().run(&["keys", "generate", "--primary"]);
    assert!(generated.code == 0 && generated.stderr.contains("once each of them has it"), "{generated:?}");
    let (old, new) = (primary(&second_file), primary(&first.setup().keyring()));
    assert!(first.reload().await.contains(&new));
    let both_serve = async || {
        for server in [&first, &second] {
            assert_eq!(resolve(&resolver(server).await, &agent).await.unwrap()["KEY"], value);
            let late = server.deploy(&sentinel()).await;
            server.set(&late, &json!({"KEY": value})).await;
            for server in [&first, &second] {
                assert_eq!(resolve(&resolver(server).await, &late).await.unwrap()["KEY"], value);
            }
        }
    };
    both_serve().await;
    let told = status(first.setup());
    assert_eq!((agents_under(&told, &new), agents_under(&told, &old)), (0, 3), "{told}");
    let lacking = told["servers"].as_array().unwrap().iter().filter(|it| it["lacks"] == json!([new]));
    assert_eq!(lacking.count(), 1, "{told}");
    let metrics = first.ops().get("/metrics").send().await.text();
    assert!(metrics.contains("superserve_key_rotation_agents_done_total 0\n"), "{metrics}");

    // Neither is told anything by a signal
    fs::copy(first.setup().keyring(), &second_file).unwrap();
    let all_new = async || {
        let told = status(first.setup());
        let wraps_by_it = told["servers"].as_array().unwrap().iter().all(|it| it["wraps"] == json!(new));
        (wraps_by_it && agents_under(&told, &old) == 0).then_some(())
    };
    eventually("all agents under the new key", all_new).await;
    both_serve().await;
    assert_eq!(agents_under(&status(first.setup()), &new), 5);
    let done = |metrics: &str| -> u64 {
        let line = metrics.lines().find(|it| it.starts_with("superserve_key_rotation_agents_done_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let [one, other] = [&first, &second].map(|server| server.ops().get("/metrics").send());
    assert_eq!(done(&one.await.text()) + done(&other.await.text()), 3);
    for server in [&first, &second] {
        let log = server.log();
        assert!(!log.contains("a call failed") && !log.contains(&value), "{log}");
    }
}

async fn keyrings_go_round_by_restarts(database: Database) {
    let Some(Pair { mut first, mut second, second_file, agent, value }) = pair(database).await else {
        return;
    };
    let keyring = first.setup().keyring();
    let old = primary(&second_file);
    let serve = async |server: &mut Server, other: &Server| {
        assert!(server.stop().await.success());
        server.restart();
        for server in [&*server, other] {
            assert_eq!(resolve(&resolver(server).await, &agent).await.unwrap()["KEY"], value);
            let late = server.deploy(&sentinel()).await;
            server.set(&late, &json!({"KEY": value})).await;
        }
    };
    // Not read by the running ones, but by those that start
    let mut with_new = Keyring::parse(&fs::read(&keyring).unwrap()).unwrap();
    let new = with_new.add_key(&Random::new(), Timestamp(i64::MAX / 2)).unwrap();
    with_new.promote(&new);
    fs::write(&keyring, with_new.to_json().as_slice()).unwrap();
    serve(&mut first, &second).await;
    assert_eq!(agents_under(&status(first.setup()), new.as_str()), 0, "the second has no such key");
    fs::copy(&keyring, &second_file).unwrap();
    serve(&mut second, &first).await;
    let all_new = async || (agents_under(&status(first.setup()), &old) == 0).then_some(());
    eventually("all agents under the new key", all_new).await;
    assert_eq!(first.setup().run(&["keys", "retire", &old]).code, 0);
    fs::copy(&keyring, &second_file).unwrap();
    serve(&mut first, &second).await;
    serve(&mut second, &first).await;
    for server in [&first, &second] {
        assert!(!server.log().contains("a call failed"), "{}", server.log());
    }
}

async fn a_server_that_is_gone_is_not_waited_for(database: Database) {
    let Some(Pair { first, mut second, .. }) = pair(database).await else { return };
    second.kill9();
    first.setup().run(&["keys", "generate", "--primary"]);
    first.reload().await;
    let new = primary(&first.setup().keyring());
    assert_eq!(agents_under(&status(first.setup()), &new), 0, "it may only have been cut off");
    was_not_seen_lately(&second).await;
    let moved = async || (agents_under(&status(first.setup()), &new) == 1).then_some(());
    eventually("the new key to be used", moved).await;
    // It comes back with the keyring that it had, and says what it needs
    let refused = second.setup().run_serve();
    assert!(refused.code != 0 && refused.stderr.contains(&new), "{}", refused.stderr);
    assert_eq!(status(first.setup())["servers"].as_array().unwrap().len(), 1);
}

async fn who_was_cut_off_wraps_by_no_key_that_was_given_up(database: Database) {
    let Some(Pair { first, second, second_file, agent, value }) = pair(database).await else { return };
    let (file, old) = (first.setup().keyring(), primary(&second_file));
    second.pause();
    was_not_seen_lately(&second).await;
    let operate = |arguments: &[&str]| {
        let done = first.setup().run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
    };
    operate(&["keys", "generate"]);
    first.reload().await;
    operate(&["keys", "rotate"]);
    operate(&["keys", "retire", &old]);
    first.reload().await;
    let keyring = Keyring::parse(&fs::read(&file).unwrap()).unwrap();
    let (new, fingerprint) = (keyring.primary().id().to_string(), keyring.primary().fingerprint());

    second.go_on();
    // At once, and when it has looked around
    let late = json!({"name": "late"});
    let refused = second.rest().post("/v1/agents").json(&late).send().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"), "{}", refused.text());
    is_not_ready_without(&second, &new, &fingerprint).await;
    let refused = second.rest().post("/v1/agents").json(&late).send().await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["details"], json!({"code": "key_unavailable", "key_id": new}));
    let told = status(first.setup());
    assert_eq!((agents_under(&told, &old), agents_under(&told, &new)), (0, 1), "{told}");
    let in_use = "SELECT id FROM keys WHERE primary_since IS NOT NULL ORDER BY primary_since DESC LIMIT 1";
    let in_use: String = first.backdoor().await.row(in_use, []).await.try_get("", "id").unwrap();
    assert_eq!(in_use, new);
    // The others are as they were, and new ones come
    let third = first.replica().start();
    for server in [&first, &third] {
        assert_eq!(server.ops().get("/readyz").send().await.status, 200);
        assert_eq!(resolve(&resolver(server).await, &agent).await.unwrap()["KEY"], value);
    }
    // And it comes along as soon as it has the key
    fs::copy(&file, &second_file).unwrap();
    let ready = async || (second.ops().get("/readyz").send().await.status == 200).then_some(());
    eventually("readiness", ready).await;
    let late = second.deploy("late").await;
    second.set(&late, &json!({"KEY": value})).await;
    assert_eq!(resolve(&resolver(&first).await, &late).await.unwrap()["KEY"], value);
}

async fn who_lacks_the_key_in_use_does_not_start(database: Database) {
    let mut server = Server::start(database);
    let file = server.setup().keyring();
    let before = fs::read(&file).unwrap();
    server.setup().run(&["keys", "generate"]);
    server.reload().await;
    assert_eq!(server.setup().run(&["keys", "rotate"]).code, 0);
    assert!(server.stop().await.success());
    let (new, with_new) = (primary(&file), fs::read(&file).unwrap());
    fs::write(&file, before).unwrap();
    let refused = server.setup().run_serve();
    let keyring = Keyring::parse(&with_new).unwrap();
    assert_ne!(refused.code, 0);
    let needed = [&new, &keyring.primary().fingerprint()];
    assert!(needed.iter().all(|word| refused.stderr.contains(*word)), "{}", refused.stderr);
    fs::write(&file, with_new).unwrap();
    server.restart();
}

async fn a_restored_backup_tells_its_key(database: Database) {
    let mut server = Server::start(database);
    server.deploy("demo").await;
    assert!(server.stop().await.success());
    let file = server.setup().keyring();
    let keyring = Keyring::parse(&fs::read(&file).unwrap()).unwrap();
    let (id, fingerprint) = (keyring.primary().id().to_string(), keyring.primary().fingerprint());
    let kept = fs::read(&file).unwrap();
    let other = Keyring::generate(&Random::new(), Timestamp(1)).unwrap();
    for found in [None, Some(other.to_json())] {
        match found {
            None => fs::remove_file(&file).unwrap(),
            Some(other) => fs::write(&file, other.as_slice()).unwrap(),
        }
        let told = server.setup().run(&["keys", "status", "--json"]);
        let keys: Value = serde_json::from_str(&told.stdout).unwrap();
        let key = keys["keys"].as_array().unwrap().iter().find(|key| key["id"] == json!(id)).unwrap();
        assert_eq!((&key["state"], &key["agents"]), (&json!("absent"), &json!(1)));
        assert_eq!(key["fingerprint"], json!(fingerprint));
        assert!(key["noted_at"].is_string() && key["primary_since"].is_string(), "{key}");
        assert!(told.code == 1 && told.stderr.contains("keyring"), "{told:?}");
    }
    fs::write(&file, kept).unwrap();
    let told = server.setup().run(&["keys", "status"]);
    assert!(told.code == 0 && told.stdout.contains("IN USE SINCE"), "{told:?}");
}

/// Two servers, each with a keyring file of its own.
struct Pair {
    first: Server,
    second: Server,
    second_file: PathBuf,
    agent: String,
    value: String,
}

/// SQLite has one server.
async fn pair(database: Database) -> Option<Pair> {
    let Database::Postgres(_) = database else { return None };
    let first = Server::start(database);
    let second_file = first.data_dir().join("second.json");
    fs::copy(first.setup().keyring(), &second_file).unwrap();
    let second = first.replica().env("SUPERSERVE_KEYRING", second_file.to_str().unwrap()).start();
    let (agent, value) = (first.deploy("demo").await, sentinel());
    first.set(&agent, &json!({"KEY": value})).await;
    Some(Pair { first, second, second_file, agent, value })
}

/// As if time had passed.
async fn was_not_seen_lately(server: &Server) {
    let name = server.data_dir().to_str().unwrap().to_owned();
    let age = "UPDATE servers SET seen_at = seen_at - 31000000 WHERE id LIKE '%' || $1 || '%'";
    assert_eq!(server.backdoor().await.change(age, [name.into()]).await, 1);
}

/// Waits until a server says that it would need this key.
async fn is_not_ready_without(server: &Server, key: &str, fingerprint: &str) {
    let told = async || {
        let ready = server.ops().get("/readyz").send().await;
        (ready.status == 503).then(|| ready.text())
    };
    let told = eventually("it not to be ready", told).await;
    assert!(told.contains(key) && told.contains(fingerprint), "{told}");
}

/// The keyring of a file, the same with another key as the primary one, and the id of that.
fn with_new_key(file: &PathBuf) -> (Keyring, Keyring, String) {
    let before = Keyring::parse(&fs::read(file).unwrap()).unwrap();
    let mut with_new = before.clone();
    let new = with_new.add_key(&Random::new(), Timestamp(1)).unwrap();
    with_new.promote(&new);
    (before, with_new, new.to_string())
}

/// Wraps an agent's data key by the primary key of a keyring, past the server, which does not have that.
async fn rewrap(server: &Server, agent: &str, keyring: &Keyring) {
    let sql = server.backdoor().await;
    let key = keyring.primary();
    let note = "INSERT INTO keys (id, check_value, created_at) VALUES ($1, $2, 1)";
    let note_values = [key.id().as_str().into(), key.check_value().to_vec().into()];
    assert_eq!(sql.change(note, note_values).await, 1);
    let row = "SELECT kek_id, wrapped_key FROM agents WHERE id = $1";
    let row = sql.row(row, [agent.into()]).await;
    let (kek, bytes): (String, Vec<u8>) =
        (row.try_get("", "kek_id").unwrap(), row.try_get("", "wrapped_key").unwrap());
    let wrapped = superserve::crypto::WrappedKey { kek: KekId::parse(&kek).unwrap(), bytes };
    let (tenant, id) = (TenantId::default_tenant(), AgentId::parse(agent).unwrap());
    let _same: DataKey = keyring.unwrap_key(&wrapped, &tenant, &id).unwrap();
    let again = keyring.rewrap(&wrapped, &tenant, &id, &Random::new()).unwrap();
    let change = "UPDATE agents SET kek_id = $1, wrapped_key = $2 WHERE id = $3";
    let values = [again.kek.as_str().into(), again.bytes.into(), agent.into()];
    assert_eq!(sql.change(change, values).await, 1);
}

fn primary(file: &PathBuf) -> String {
    Keyring::parse(&fs::read(file).unwrap()).unwrap().primary().id().to_string()
}

fn newest(file: &PathBuf) -> String {
    Keyring::parse(&fs::read(file).unwrap()).unwrap().newest().id().to_string()
}

fn status(setup: &Setup) -> Value {
    serde_json::from_str(&setup.run(&["keys", "status", "--json"]).stdout).unwrap()
}

fn agents_under(status: &Value, id: &str) -> u64 {
    let keys = status["keys"].as_array().unwrap().iter();
    keys.filter(|key| key["id"] == json!(id)).map(|key| key["agents"].as_u64().unwrap()).sum()
}
