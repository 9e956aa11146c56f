//! Past one PostgreSQL: that agents can be spread over servers. `docs/scaling.md` says how, and has the figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Instant,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{
    Database, environment, eventually,
    fixtures::secrets_of,
    grpc::Grpc,
    postgres::{self, Cluster},
    server::Server,
    steps::{resolve, resolver},
};

/// Each table, what its primary key begins with, and its unique indexes beside that. A table of an agent begins with
/// the agent; what is unique over all agents is named in `docs/scaling.md`.
const TABLES: [(&str, &str, &[&str]); 12] = [
    ("agents", "id", &["agents_tenant_name"]),
    ("audit_events", "agent_id", &[]),
    ("idempotency", "agent_id", &[]),
    ("keys", "id", &[]),
    ("migration_lock", "id", &[]),
    ("schema_reach", "id", &[]),
    ("seaql_migrations", "version", &[]),
    ("secrets", "agent_id", &[]),
    ("servers", "id", &[]),
    ("tenants", "id", &["tenants_name"]),
    ("token_uses", "token_id", &[]),
    ("tokens", "id", &["tokens_hash"]),
];

/// Those whose rows belong to an agent.
const OF_AGENTS: [&str; 4] = ["agents", "audit_events", "idempotency", "secrets"];

/// Agents that are called at once, where it matters whether calls meet.
const MET: usize = 12;

/// Calls on their way at a time in the simulation.
const AT_A_TIME: usize = 8;

/// Agents in the simulation.
const AGENTS: usize = 24;

/// Sets, and as many resolves, where the environment does not say otherwise.
const CALLS: usize = 150;

#[tokio::test]
async fn every_table_can_be_spread() {
    let Some(database) = postgres::Database::create().await else { return };
    let server = Server::start(Database::Postgres(database));
    let Database::Postgres(database) = server.database() else { unreachable!() };
    let mut sql = PgConnection::connect(database.url()).await.unwrap();
    let no_such = "SELECT
            (SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace)
          + (SELECT count(*) FROM pg_constraint
             WHERE contype = 'f' AND connamespace = 'public'::regnamespace)
          + (SELECT count(*) FROM pg_trigger JOIN pg_class ON tgrelid = pg_class.oid
             WHERE relnamespace = 'public'::regnamespace)";
    let found: i64 = sqlx::query_scalar(no_such).fetch_one(&mut sql).await.unwrap();
    assert_eq!(found, 0, "a sequence, a foreign key or a trigger");

    let indexes = "SELECT c.relname::text, i.indisprimary, a.attname::text, x.relname::text
        FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND i.indisunique
        ORDER BY x.relname";
    let rows: Vec<(String, bool, String, String)> =
        sqlx::query_as(indexes).fetch_all(&mut sql).await.unwrap();
    let mut tables = BTreeMap::<String, (String, Vec<String>)>::new();
    for (table, is_primary, first_column, index) in rows {
        let entry = tables.entry(table).or_default();
        if is_primary {
            entry.0 = first_column;
        } else {
            entry.1.push(index);
        }
    }
    let expected = TABLES.map(|(table, first, unique)| {
        (table.to_owned(), (first.to_owned(), unique.iter().map(|name| (*name).to_owned()).collect()))
    });
    assert_eq!(tables, BTreeMap::from(expected));
    let count = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut sql).await.unwrap();
    assert_eq!(usize::try_from(count).unwrap(), TABLES.len(), "a table without a primary key");
    let of_agent = "SELECT table_name::text FROM information_schema.columns
        WHERE table_schema = 'public' AND column_name = 'agent_id'";
    let of_agent: Vec<String> = sqlx::query_scalar(of_agent).fetch_all(&mut sql).await.unwrap();
    for table in of_agent {
        assert_eq!(tables[&table].0, "agent_id", "{table}");
    }
}

#[tokio::test]
async fn a_call_stays_with_its_agent() {
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create_database().await;
    // The server's log says of each statement in which transaction it was, and with which parameters
    let mut sql = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    for setting in ["log_line_prefix = '%v|'", "log_statement = 'all'"] {
        let set = AssertSqlSafe(format!("ALTER SYSTEM SET {setting}"));
        sqlx::raw_sql(set).execute(&mut sql).await.unwrap();
    }
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut sql).await.unwrap();
    let log = || fs::read_to_string(cluster.directory().join("log")).unwrap();
    eventually("a log of statements", async || {
        sqlx::raw_sql("SELECT 'it is told'").execute(&mut sql).await.unwrap();
        log().contains("'it is told'").then_some(())
    })
    .await;

    let database = Database::Postgres(database);
    let alone = Server::with(database).with_batching(false).start();
    let grpc = resolver(&alone).await;
    let begin = log().len();
    call_all_at_once(&alone, &grpc, "alone").await;
    let said = log()[begin..].to_owned();
    let mut seen = BTreeSet::new();
    for (transaction, statements) in transactions(&said) {
        let named: BTreeSet<&str> = statements.iter().flat_map(|it| agents_in(it)).collect();
        assert!(named.len() <= 1, "{transaction} names {named:?}:\n{}", statements.join("\n"));
        for statement in statements.iter().filter(|statement| !is_housekeeping(statement)) {
            for table in OF_AGENTS.iter().filter(|table| concerns(statement, table)) {
                assert!(agents_in(statement).next().is_some(), "no agent is named: {statement}");
                seen.insert(*table);
            }
        }
    }
    assert_eq!(seen, BTreeSet::from(OF_AGENTS), "every table of agents is used");
    for word in ["nextval", "advisory"] {
        assert!(!said.contains(word), "{word}");
    }

    // That calls met, and that the log would have told: where they may, they share statements
    let together = alone.replica().with_batching(true).start();
    let grpc = resolver(&together).await;
    let mut rounds = 0..;
    // Whether calls meet is chance, which a busy machine has a hand in
    eventually("a shared statement", async || {
        let begin = log().len();
        call_all_at_once(&together, &grpc, &format!("together-{}", rounds.next()?)).await;
        let shared = transactions(&log()[begin..]);
        let mut named =
            shared.values().map(|it| it.iter().flat_map(|it| agents_in(it)).collect::<BTreeSet<_>>());
        named.any(|agents| agents.len() > 1).then_some(())
    })
    .await;
}

/// Every call of one agent that reads or writes, on many agents at once.
async fn call_all_at_once(server: &Server, grpc: &Grpc, name: &str) {
    let rest = server.rest();
    let calls = (0..MET).map(|n| {
        let rest = &rest;
        async move {
            let agent = server.deploy(&format!("{name}-{n}")).await;
            let path = secrets_of(&agent);
            for value in ["one", "two"] {
                let set = rest.patch(&path).header("idempotency-key", value);
                let set = set.json(&json!({"secrets": {"A": value, "B": value}})).send().await;
                assert_eq!(set.status, 200, "{}", set.text());
                assert_eq!(resolve(grpc, &agent).await.unwrap().len(), 2);
            }
            assert_eq!(rest.get(&format!("{path}?view=full")).send().await.status, 200);
            assert_eq!(rest.get(&format!("/v1/agents/{agent}")).send().await.status, 200);
            assert_eq!(rest.delete(&format!("{path}/A")).send().await.status, 200);
            assert_eq!(rest.delete(&format!("/v1/agents/{agent}")).send().await.status, 204);
        }
    });
    join_all(calls).await;
}

/// What runs beside the calls and is for all agents: values before whose overlap has ended.
fn is_housekeeping(statement: &str) -> bool {
    statement.contains("SKIP LOCKED") || is_by_name(statement)
}

/// A deploy asks whether there is an agent of its name, whose id it does not know yet: by the index that the name is unique by.
fn is_by_name(statement: &str) -> bool {
    statement.contains(r#"SELECT 1 FROM "agents" WHERE "agents"."tenant_id" = $1 AND "agents"."name" = $2"#)
}

/// Whether a statement reads or writes a table.
fn concerns(statement: &str, table: &str) -> bool {
    let plain = statement.replace('"', "");
    let mut words =
        plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let mut before = "";
    words.any(|word| {
        let verb = std::mem::replace(&mut before, word);
        word == table && ["FROM", "INTO", "JOIN", "UPDATE"].contains(&verb)
    })
}

/// The statements of each transaction with their parameters.
fn transactions(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut transactions = BTreeMap::<String, Vec<String>>::new();
    for line in log.lines() {
        let Some((transaction, said)) = line.split_once('|') else { continue };
        let statements = transactions.entry(transaction.to_owned()).or_default();
        if let Some(parameters) = said.strip_prefix("DETAIL:  ") {
            if let Some(last) = statements.last_mut() {
                last.push_str(parameters);
            }
        } else if said.starts_with("LOG:  ") {
            // What is said of one that failed repeats it, without its parameters
            statements.push(said.to_owned());
        }
    }
    transactions
}

fn agents_in(statement: &str) -> impl Iterator<Item = &str> {
    let words = statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("agt_"))
}

#[tokio::test]
async fn servers_add_up() {
    let calls =
        environment("SUPERSERVE_TEST_SHARD_CALLS").map_or(CALLS, |calls| calls.parse().expect("a number"));
    let mut cost = Vec::new();
    for count in 1..=3 {
        let Some(figure) = spread(count, calls).await else { return };
        cost.push(figure);
    }
    // Were there anything that servers share, each more of them would make a call dearer
    assert!(cost[2] < 2.0 * cost[0], "{cost:?}");
}

/// Spreads agents by their names over so many servers, each with a PostgreSQL of its own, and gives what a call costs
/// there in milliseconds of processor time.
#[expect(clippy::print_stderr, clippy::cast_precision_loss, reason = "the figures are for who measures")]
async fn spread(count: usize, calls: usize) -> Option<f64> {
    let clusters: Vec<Cluster> = (0..count).map(|_| Cluster::start()).collect::<Option<_>>()?;
    let databases = join_all(clusters.iter().map(Cluster::create_database)).await;
    // The more calls meet on one server the less each costs, where they share statements: that is not looked for here
    let start = |database| Server::with(Database::Postgres(database)).with_batching(false).start();
    let servers: Vec<Server> = databases.into_iter().map(start).collect();
    let clients = join_all(servers.iter().map(resolver)).await;
    let mut agents = Vec::new();
    for n in 0..AGENTS {
        let name = format!("agent-{n}");
        let shard = shard_of(&name, count);
        agents.push((shard, servers[shard].deploy(&name).await));
    }
    let time = || {
        let service: f64 = servers.iter().map(|server| server.processor_time().as_secs_f64()).sum();
        let database: f64 = clusters.iter().map(|cluster| cluster.processor_time().as_secs_f64()).sum();
        (service, database)
    };
    let (before, began) = (time(), Instant::now());
    let work = (0..calls).map(|n| {
        let ((shard, agent), servers, clients) = (&agents[n % AGENTS], &servers, &clients);
        async move {
            let value = n.to_string();
            let set = servers[*shard].rest().patch(&secrets_of(agent));
            let set = set.json(&json!({"secrets": {"A": value}})).send().await;
            assert_eq!(set.status, 200, "{}", set.text());
            resolve(&clients[*shard], agent).await.expect("values");
        }
    });
    stream::iter(work).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
    let (after, took) = (time(), began.elapsed());
    let a_call = |seconds: f64| 1000.0 * seconds / (2 * calls) as f64;
    let (service, database) = (a_call(after.0 - before.0), a_call(after.1 - before.1));
    eprintln!(
        "{count} PostgreSQL: {service:.2} ms of the service and {database:.2} ms of PostgreSQL a call, {:.0} calls/s",
        (2 * calls) as f64 / took.as_secs_f64()
    );
    // Each agent is where its name says, and nowhere else
    for (shard, agent) in &agents {
        for (n, server) in servers.iter().enumerate() {
            let status = server.rest().get(&secrets_of(agent)).send().await.status;
            assert_eq!(status, if n == *shard { 200 } else { 404 });
        }
    }
    Some(service + database)
}

/// FNV-1a: any hash that all clients agree on.
fn shard_of(name: &str, count: usize) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % count as u64).expect("a small number")
}
