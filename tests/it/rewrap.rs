//! The life of a key-encryption key: generated, handed out, made primary, retired. Nobody notices, and nothing is lost.

use std::{cell::Cell, collections::HashMap, fmt::Write as _, fs};

use serde_json::{Value, json};
use superserve::{
    crypto::{DataKey, Keyring, Random},
    domain::{AgentId, KekId, TenantId},
};
use tonic::Code;

use crate::harness::{
    Database,
    cli::Output,
    eventually,
    fixtures::secrets_of,
    on_each_database,
    search::sentinel,
    server::{Server, Setup},
    sql::Sql,
    steps::{resolve, resolver},
};

/// Agents that one statement writes.
const AT_ONCE: usize = 5000;

/// Several batches of the command, and several looks of a server.
const MANY: usize = 4500;

on_each_database!(
    calls_go_on_during_a_rotation,
    a_rotation_that_was_killed_is_taken_up,
    two_rotations_at_once_do_each_agent_once,
    what_does_not_open_is_named_and_left,
    a_key_is_retired_when_no_agent_needs_it,
    agents_are_lost_only_when_told_to,
    a_keyring_that_does_not_fit_is_not_taken,
    a_server_brings_agents_under_its_primary_key,
    two_primaries_do_not_fight,
);

async fn calls_go_on_during_a_rotation(database: Database) {
    let server = Server::start(database);
    let replica = match server.database() {
        Database::Sqlite => None,
        Database::Postgres(_) => Some(server.replica().start()),
    };
    let servers: Vec<_> = [Some(&server), replica.as_ref()].into_iter().flatten().collect();
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    seed(&server, MANY).await;
    let (old, new) = generate(&server, &servers).await;

    let rotating = server.setup().begin(&["keys", "rotate", "--json"]);
    let is_done = Cell::new(false);
    let calls = async {
        let mut calls = 0;
        let grpc = [resolver(&server).await, resolver(servers[servers.len() - 1]).await];
        while !is_done.get() {
            let (server, grpc) = (servers[calls % servers.len()], &grpc[calls % 2]);
            assert_eq!(resolve(grpc, &agent).await.unwrap()["KEY"], value);
            server.set(&agent, &json!({"OTHER": calls.to_string()})).await;
            server.deploy(&format!("during-{calls}")).await;
            calls += 1;
        }
        calls
    };
    let rotated = async {
        let rotated = rotating.await.unwrap();
        is_done.set(true);
        rotated
    };
    let (calls, rotated) = tokio::join!(calls, rotated);
    assert!(calls > 3, "{calls}");
    assert!(!rotated.stderr.contains(&value), "{}", rotated.stderr);
    let told: Value = serde_json::from_str(&rotated.stdout).unwrap();
    assert_eq!((&told["primary"], &told["before"], &told["unopened"]), (&json!(new), &json!(old), &json!(0)));
    assert!(told["rewrapped"].as_u64().unwrap() > MANY as u64, "{told}");

    // Those that were added under the old key come along as soon as servers have read that there is a new one
    for server in &servers {
        assert!(server.reload().await.contains(&new));
    }
    let last = server.deploy("last").await;
    let total = (MANY + calls + 2) as u64;
    eventually("all agents under the new key", async || (agents(&server)[&new] == total).then_some(())).await;
    server.set(&last, &json!({"KEY": value})).await;
    for server in &servers {
        for agent in [&agent, &last] {
            assert_eq!(resolve(&resolver(server).await, agent).await.unwrap()["KEY"], value);
        }
        let log = server.log();
        assert!(!log.contains(&value) && !log.contains("does not open"), "{log}");
    }
}

async fn a_rotation_that_was_killed_is_taken_up(database: Database) {
    let mut server = Server::start(database);
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    seed(&server, 4 * MANY).await;
    let (old, new) = generate(&server, &[&server]).await;
    server.kill9();
    let (lock, sql) = (server.backdoor().await, server.backdoor().await);
    let last = sql.row("SELECT id FROM agents ORDER BY id DESC LIMIT 1", []).await;
    let last: String = last.try_get("", "id").unwrap();
    // However late the kill is: it cannot have come to an end
    if sql.is_sqlite() {
        let fails = format!("WHEN NEW.id = '{last}' BEGIN SELECT RAISE(ABORT, 'not yet'); END");
        sql.run(&format!("CREATE TRIGGER the_last BEFORE UPDATE ON agents {fails}")).await;
    } else {
        lock.block_writers(&last).await;
    }
    let mut rotating = server.setup().begin_in_vain(&["keys", "rotate"]);
    eventually("a part of it", async || (wrapped_by(&sql, &new).await > 0).then_some(())).await;
    rotating.0.kill().unwrap();
    rotating.0.wait().unwrap();
    lock.run(if sql.is_sqlite() { "DROP TRIGGER the_last" } else { "COMMIT" }).await;
    let left = wrapped_by(&sql, &old).await;
    assert!(left > 0 && wrapped_by(&sql, &new).await > 0, "{left}");
    assert_eq!(
        states(&server),
        [(new.clone(), "primary".to_owned()), (old.clone(), "decrypt-only".to_owned())]
    );

    let told = rotate(server.setup());
    assert_eq!((&told["rewrapped"], &told["left"], &told["before"]), (&json!(left), &json!(0), &Value::Null));
    assert_eq!(agents(&server), HashMap::from([(old, 0), (new, 4 * MANY as u64 + 1)]));
    let again = server.setup().run(&["keys", "rotate"]);
    assert!(again.code == 0 && again.stderr.contains("`superserve keys generate`"), "{again:?}");
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
}

async fn two_rotations_at_once_do_each_agent_once(database: Database) {
    let mut server = Server::start(database);
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    seed(&server, MANY).await;
    let (old, new) = generate(&server, &[&server]).await;
    // It would take part
    server.kill9();
    let [one, other] = [(); 2].map(|()| server.setup().begin(&["keys", "rotate", "--json"]));
    let told = [one.await.unwrap(), other.await.unwrap()]
        .map(|output| -> Value { serde_json::from_str(&output.done()).unwrap() });
    let done = told.each_ref().map(|told| told["rewrapped"].as_u64().unwrap());
    assert_eq!(done.iter().sum::<u64>(), MANY as u64 + 1, "{done:?}");
    assert!(told.iter().all(|told| told["primary"] == json!(new)), "{told:?}");
    assert_eq!(agents(&server), HashMap::from([(old, 0), (new, MANY as u64 + 1)]));
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
}

async fn what_does_not_open_is_named_and_left(database: Database) {
    let server = Server::start(database);
    let refused = server.setup().run(&["keys", "rotate"]).failed(1);
    assert!(
        refused.contains("`superserve keys generate`") && refused.contains("share the file"),
        "{refused}"
    );
    let (agent, broken) = (server.deploy("demo").await, server.deploy("broken").await);
    server.set(&agent, &json!({"KEY": "v"})).await;
    let (old, new) = generate(&server, &[&server]).await;
    let refused = server.setup().run(&["keys", "rotate", "--key", "kek_none"]).failed(1);
    assert!(refused.contains("kek_none"), "{refused}");
    let sql = server.backdoor().await;
    let change = "UPDATE agents SET wrapped_key = $1 WHERE id = $2";
    assert_eq!(sql.change(change, [vec![1_u8; 61].into(), broken.as_str().into()]).await, 1);

    let rotated = server.setup().run(&["keys", "rotate", "--json"]);
    let told: Value = serde_json::from_str(&rotated.stdout).unwrap();
    assert_eq!((rotated.code, &told["rewrapped"], &told["left"]), (1, &json!(1), &json!(1)));
    assert_eq!(told["unopened"], 1);
    assert!(rotated.stderr.contains(&broken) && rotated.stderr.contains("do not open"), "{}", rotated.stderr);
    assert_eq!(agents(&server), HashMap::from([(old.clone(), 1), (new, 1)]));
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
    // And back to another key, by name
    let told: Value =
        serde_json::from_str(&server.setup().run(&["keys", "rotate", "--key", &old, "--json"]).done())
            .unwrap();
    assert_eq!((&told["primary"], &told["rewrapped"]), (&json!(old), &json!(1)));
}

async fn a_key_is_retired_when_no_agent_needs_it(database: Database) {
    let mut server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    let (old, new) = generate(&server, &[&server]).await;
    let retire = |more: &[&str]| server.setup().run(&[&["keys", "retire", &old], more].concat());
    let refused = retire(&[]).failed(1);
    assert!(refused.contains("primary") && refused.contains("`superserve keys rotate`"), "{refused}");
    assert!(server.setup().run(&["keys", "retire", "kek_none"]).failed(1).contains("keys status"));
    rotate(server.setup());

    let checked = retire(&["--check", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&checked.done()).unwrap(), json!({"removable": old, "lost": 0}));
    assert_eq!(states(&server).len(), 2, "it was only looked at");
    // It waits for the server, which takes some seconds to see that another key is the primary one
    let retired = retire(&[]);
    assert!(retired.code == 0 && retired.stderr.contains("backup"), "{retired:?}");
    let key = &status(&server)[0];
    assert_eq!((&key["id"], &key["state"]), (&json!(new), &json!("primary")));
    assert!(server.reload().await.contains(&new));
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
    server.kill9();
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
    // What was there is still known, so that a backup's key can be told by it
    let key = &status(&server)[1];
    assert_eq!((&key["id"], &key["state"], &key["agents"]), (&json!(old), &json!("absent"), &json!(0)));
    assert!(key["primary_since"].is_string(), "{key}");
}

async fn agents_are_lost_only_when_told_to(database: Database) {
    let mut server = Server::start(database);
    let (agent, late) = (server.deploy("demo").await, server.deploy("late").await);
    server.set(&agent, &json!({"KEY": "v"})).await;
    server.set(&late, &json!({"KEY": "late"})).await;
    let (old, _) = generate(&server, &[&server]).await;
    let sql = server.backdoor().await;
    let wrapped = "SELECT wrapped_key FROM agents WHERE id = $1";
    let wrapped: Vec<u8> = sql.row(wrapped, [late.as_str().into()]).await.try_get("", "wrapped_key").unwrap();
    rotate(server.setup());
    server.kill9();
    // As if it had been restored
    let change = "UPDATE agents SET kek_id = $1, wrapped_key = $2 WHERE id = $3";
    let values = [old.as_str().into(), wrapped.into(), late.as_str().into()];
    assert_eq!(sql.change(change, values).await, 1);
    let kept = fs::read(server.setup().keyring()).unwrap();
    let retire =
        |more: &[&str]| server.setup().run(&[&["keys", "retire", &old, "--wait", "1s"], more].concat());
    let refused = [retire(&["--check"]).failed(1), retire(&["--lose-agents"]).failed(1)];
    assert!(refused[0].contains("does not") || refused[0].contains("still wrap"), "{refused:?}");
    assert!(refused[1].contains("secrets of 1 agent(s) are lost"), "{refused:?}");
    assert_eq!(fs::read(server.setup().keyring()).unwrap(), kept);
    let retired = retire(&["--lose-agents", "--yes", "--json"]);
    assert!(retired.code == 0 && retired.stderr.contains("1 agent(s) have lost"), "{retired:?}");
    assert_eq!(serde_json::from_str::<Value>(&retired.stdout).unwrap(), json!({"retired": old, "lost": 1}));

    server.restart();
    let grpc = resolver(&server).await;
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEY"], "v");
    assert_eq!(resolve(&grpc, &late).await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(server.ops().get("/readyz").send().await.status, 200, "nobody will ever have that key");
    // Whoever has a copy of the key has not lost them
    fs::write(server.setup().keyring(), kept).unwrap();
    server.reload().await;
    assert_eq!(resolve(&grpc, &late).await.unwrap()["KEY"], "late");
}

async fn a_keyring_that_does_not_fit_is_not_taken(database: Database) {
    let server = Server::start(database);
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    let file = server.setup().keyring();
    let (right, grpc) = (fs::read_to_string(&file).unwrap(), resolver(&server).await);
    let id = states(&server).remove(0).0;
    let random = Random::new();
    let foreign = Keyring::generate(&random, superserve::domain::Timestamp(1)).unwrap().to_json();
    let foreign = String::from_utf8(foreign.to_vec()).unwrap();
    for (wrong, why) in [("", "not JSON"), (&right[..right.len() / 2], "line 2"), (&foreign, &id)] {
        fs::write(&file, wrong).unwrap();
        let said = server.reload().await;
        assert!(said.contains("ERROR") && said.contains(why) && said.contains("stays in use"), "{said}");
        assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEY"], value);
        server.set(&agent, &json!({"OTHER": why})).await;
    }
    fs::remove_file(&file).unwrap();
    assert!(server.reload().await.contains("there is no keyring"));
    assert_eq!(server.ops().get("/readyz").send().await.status, 200);
    fs::write(&file, &right).unwrap();
    assert!(server.reload().await.contains("INFO"));
    let log = server.log();
    let key = right.split('"').max_by_key(|word| word.len()).unwrap();
    assert!(!log.contains(key) && !log.contains(&value), "{log}");
}

async fn a_server_brings_agents_under_its_primary_key(database: Database) {
    let mut server = Server::start(database);
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    seed(&server, 500).await;
    let (old, new) = generate(&server, &[]).await;
    promote(&server.setup().keyring(), &new);
    // At the start
    server.kill9();
    server.restart();
    let metric = async |left: u64| {
        let metrics = server.ops().get("/metrics").send().await.text();
        metrics.contains(&format!("superserve_key_rotation_agents_left {left}\n")).then_some(())
    };
    let all = HashMap::from([(old.clone(), 0), (new.clone(), 501)]);
    eventually("all under the new key", async || (agents(&server) == all).then_some(())).await;
    eventually("nothing left in the metrics", async || metric(0).await).await;
    // And when it reads the keyring again
    let (_, newest) = generate(&server, &[&server]).await;
    promote(&server.setup().keyring(), &newest);
    server.reload().await;
    let all = HashMap::from([(old, 0), (new, 0), (newest, 501)]);
    eventually("all under the newest key", async || (agents(&server) == all).then_some(())).await;
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
    assert!(!server.log().contains(&value));
}

/// While keyrings are rolled out one server has the old key as its primary and one the new.
async fn two_primaries_do_not_fight(database: Database) {
    let server = Server::start(database);
    let Database::Postgres(_) = server.database() else { return };
    server.deploy("demo").await;
    let (old, new) = generate(&server, &[&server]).await;
    let before = server.data_dir().join("before.json");
    fs::copy(server.setup().keyring(), &before).unwrap();
    let behind = server.replica().env("SUPERSERVE_KEYRING", before.to_str().unwrap()).start();
    promote(&server.setup().keyring(), &new);
    server.reload().await;
    let all = |old_ones, new_ones| HashMap::from([(old.clone(), old_ones), (new.clone(), new_ones)]);
    eventually("the new key", async || (agents(&server) == all(0, 1)).then_some(())).await;
    behind.deploy("late").await;
    assert_eq!(agents(&server), all(1, 1));
    // The one behind looks, and leaves what is newer alone; the other takes what is older
    let looks = async || {
        behind.reload().await;
        behind.deploy(&sentinel()).await;
        server.reload().await;
        (agents(&server)[&old] == 0).then_some(())
    };
    eventually("the end of it", looks).await;
    assert!(!behind.log().contains("data keys wrapped by the primary key"), "{}", behind.log());
}

/// Adds a key that decrypts only and gives it to these servers; the ids of the primary one and of the new one.
async fn generate(server: &Server, servers: &[&Server]) -> (String, String) {
    let generated = server.setup().run(&["keys", "generate"]);
    assert!(generated.code == 0 && generated.stderr.contains("superserve keys rotate"), "{generated:?}");
    for server in servers {
        assert!(server.reload().await.contains("keyring read again"));
    }
    let states = states(server);
    (states[0].0.clone(), states[states.len() - 1].0.clone())
}

fn rotate(setup: &Setup) -> Value {
    serde_json::from_str(&setup.run(&["keys", "rotate", "--json"]).done()).unwrap()
}

/// Makes a key the primary, as a roll-out of the keyring does, and wraps nothing under it.
fn promote(file: &std::path::Path, id: &str) {
    let mut keyring = Keyring::parse(&fs::read(file).unwrap()).unwrap();
    assert!(keyring.promote(&KekId::parse(id).unwrap()));
    fs::write(file, keyring.to_json().as_slice()).unwrap();
}

/// What `keys status` tells.
fn status(server: &Server) -> Vec<Value> {
    let status: Output = server.setup().run(&["keys", "status", "--json"]);
    let mut status: Value = serde_json::from_str(&status.done()).unwrap();
    serde_json::from_value(status["keys"].take()).unwrap()
}

fn states(server: &Server) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    status(server).iter().map(|key| (text(&key["id"]), text(&key["state"]))).collect()
}

fn agents(server: &Server) -> HashMap<String, u64> {
    let of = |key: &Value| (key["id"].as_str().unwrap().to_owned(), key["agents"].as_u64().unwrap());
    status(server).iter().map(of).collect()
}

async fn wrapped_by(sql: &Sql, id: &str) -> i64 {
    sql.row("SELECT COUNT(*) AS n FROM agents WHERE kek_id = $1", [id.into()]).await.try_get("", "n").unwrap()
}

/// Writes agents past the server, which would take longer.
pub(crate) async fn seed(server: &Server, agents: usize) {
    let keyring = Keyring::parse(&fs::read(server.setup().keyring()).unwrap()).unwrap();
    let (sql, random, tenant) = (server.backdoor().await, Random::new(), TenantId::default_tenant());
    let (open, close) = if sql.is_sqlite() { ("x'", "'") } else { ("'\\x", "'") };
    let columns = "id,tenant_id,name,required_secrets,revision,kek_id,wrapped_key,created_at,updated_at";
    let mut rows = String::new();
    for number in 0..agents {
        let id = AgentId::from_random(random.id_bits().unwrap());
        let key = DataKey::generate(&random).unwrap();
        let wrapped = keyring.wrap(&key, &tenant, &id, &random).unwrap();
        let comma = if rows.is_empty() { "" } else { "," };
        write!(rows, "{comma}('{id}','{}','seed-{id}','[]',0,'{}',{open}", tenant.as_str(), wrapped.kek)
            .unwrap();
        for byte in wrapped.bytes {
            write!(rows, "{byte:02x}").unwrap();
        }
        write!(rows, "{close},1,1)").unwrap();
        if number % AT_ONCE == AT_ONCE - 1 || number == agents - 1 {
            sql.run(&format!("INSERT INTO agents ({columns}) VALUES {rows}")).await;
            rows.clear();
        }
    }
    let listed = server.rest().get(&secrets_of("agt_none")).send().await;
    assert_eq!(listed.status, 404, "the server goes on");
}
