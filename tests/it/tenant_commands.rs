//! Tenants as an operator has them: made, listed, called for by a platform, and deleted with all that is theirs.

use std::fmt::Write as _;

use rexpect::process::wait::WaitStatus;
use serde_json::{Value, json};
use superserve::proto::v1::{CreateTokenRequest, ListAgentsRequest, WatchSecretsRequest, WhoAmIRequest};
use tonic::{Code, Request};

use crate::harness::{
    Database, LIMIT, eventually,
    fixtures::secrets_of,
    grpc::Grpc,
    on_each_database,
    rest::{Answer, Rest},
    server::Server,
    steps::audit,
};

on_each_database!(
    a_tenant_begins_with_a_token_of_its_own,
    a_platform_calls_for_every_tenant,
    a_deleted_tenant_leaves_nothing_behind,
    a_deletion_that_was_killed_is_taken_up
);

/// A tenant's id and its first token.
fn create(server: &Server, name: &str) -> (String, String) {
    let made = server.setup().run(&["tenants", "create", name, "--json"]).done();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["tenant"]["name"], name);
    (made["tenant"]["id"].as_str().unwrap().to_owned(), made["text"].as_str().unwrap().to_owned())
}

fn listed(server: &Server) -> Vec<(String, bool)> {
    let listed = server.setup().run(&["tenants", "list", "--json"]).done();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let tenants = listed["tenants"].as_array().unwrap().iter();
    tenants.map(|it| (it["name"].as_str().unwrap().to_owned(), it["deleting"].as_bool().unwrap())).collect()
}

async fn deploy(rest: &Rest, name: &str) -> String {
    let agent = rest.post("/v1/agents").json(&json!({"name": name})).send().await;
    assert_eq!(agent.status, 201, "{}", agent.text());
    agent.json()["id"].as_str().unwrap().to_owned()
}

async fn a_tenant_begins_with_a_token_of_its_own(database: Database) {
    let server = Server::start(database);
    let operate = |arguments: &[&str]| server.setup().run(arguments);
    let (id, token) = create(&server, "Acme & Co");
    let made = operate(&["tenants", "create", "second"]);
    let second = made.stdout.trim_end().to_owned();
    assert!(made.stderr.contains("Made the tenant 'second', ten_"), "{}", made.stderr);
    let mut names = listed(&server);
    names.sort();
    assert_eq!(names, ["Acme & Co", "default", "second"].map(|name| (name.to_owned(), false)));
    let table = operate(&["tenants", "list"]).done();
    assert!(table.starts_with("TENANT") && table.contains(&id), "{table}");
    let there = operate(&["tenants", "create", "second"]).failed(1);
    assert!(there.contains("there is a tenant of this name"), "{there}");
    operate(&["tenants", "create", " "]).failed(1);
    let default = operate(&["tenants", "delete", "default", "--yes"]).failed(1);
    assert!(default.contains("default"), "{default}");
    let unknown = operate(&["tenants", "delete", "ten_none", "--yes"]).failed(1);
    assert!(unknown.contains("no such tenant"), "{unknown}");

    let (first, second) = (server.rest().token(&token), server.rest().token(&second));
    // Each has its own names, and none sees the others'
    let agents = [&first, &second, &server.rest()];
    for rest in agents {
        deploy(rest, "same").await;
        assert_eq!(rest.get("/v1/agents").send().await.json()["agents"].as_array().unwrap().len(), 1);
    }
    let grpc = server.grpc().await.token(&token);
    let me = grpc.tokens.clone().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(me.tenant, id);
    assert!(!me.token.unwrap().scopes.contains(&"secrets:resolve".to_owned()));
    let trail = audit(&server.grpc().await, "").await;
    let made: Vec<_> = trail.iter().filter(|event| event.action == "tenant.create").collect();
    assert_eq!((made.len(), made[1].subject.as_str(), made[1].actor.as_str()), (2, id.as_str(), "operator"));
}

async fn get(rest: &Rest, agent: &str, tenant: &str) -> Answer {
    rest.get(&format!("/v1/agents/{agent}")).header("x-superserve-tenant", tenant).send().await
}

async fn a_platform_calls_for_every_tenant(database: Database) {
    let server = Server::start(database);
    let (first, own) = create(&server, "first");
    let (second, _) = create(&server, "second");
    let scopes = "agents:read,agents:write,tokens:admin,audit:read";
    let made = server.setup().run(&["tenants", "token", "--name", "platform", "--scope", scopes]).done();
    let platform = server.rest().token(made.trim_end());
    let mut agents = Vec::new();
    for tenant in [&first, &second] {
        let agent = platform.post("/v1/agents").header("x-superserve-tenant", tenant);
        let agent = agent.json(&json!({"name": "demo"})).send().await;
        assert_eq!(agent.status, 201, "{}", agent.text());
        agents.push(agent.json()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(get(&platform, &agents[0], &first).await.status, 200);
    assert_eq!(get(&platform, &agents[0], &second).await.status, 404);
    assert_eq!(platform.get(&format!("/v1/agents/{}", agents[0])).send().await.status, 404, "not by itself");
    for unknown in ["ten_none", "first", "", "ten_default,"] {
        let refused = get(&platform, &agents[0], unknown).await;
        assert_eq!(refused.status, 404, "{unknown:?}");
        let said = json!({"code": "tenant_not_found"});
        assert_eq!(refused.refusal(), ("Tenant not found".to_owned(), said), "{unknown:?}");
    }
    let twice = platform.get("/v1/agents").header("x-superserve-tenant", &first);
    assert_eq!(twice.header("x-superserve-tenant", &second).send().await.status, 404);
    // Others may name their own tenant, and no other
    let own = server.rest().token(&own);
    assert_eq!(get(&own, &agents[0], &first).await.status, 200);
    let refused = get(&own, &agents[1], &second).await;
    assert_eq!(refused.refusal().1, json!({"required_scope": "tenants:all"}));

    let grpc = server.grpc().await.token(made.trim_end());
    let named = |tenant: &str| {
        let mut request = Request::new(ListAgentsRequest::default());
        request.metadata_mut().insert("x-superserve-tenant", tenant.parse().unwrap());
        request
    };
    let seen = grpc.agents.clone().list_agents(named(&second)).await.unwrap().into_inner().agents;
    assert_eq!(seen.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [agents[1].as_str()]);
    let unknown = grpc.agents.clone().list_agents(named("ten_none")).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "Tenant not found"));

    tokens_are_made_within_a_tenant(&server, &grpc, [&first, &second], &agents).await;
}

/// A platform makes tokens in a tenant, and who spans none makes none that does.
async fn tokens_are_made_within_a_tenant(
    server: &Server,
    platform: &Grpc,
    [first, second]: [&str; 2],
    agents: &[String],
) {
    let grant = |scopes: &[&str]| CreateTokenRequest {
        name: "t".to_owned(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let mut request = Request::new(grant(&["agents:read"]));
    request.metadata_mut().insert("x-superserve-tenant", second.parse().unwrap());
    let inner = platform.tokens.clone().create_token(request).await.unwrap().into_inner().text;
    assert_eq!(get(&server.rest().token(&inner), &agents[1], second).await.status, 200);
    let admin = server.grpc().await;
    let more = admin.tokens.clone().create_token(grant(&["agents:read", "tenants:all"])).await.unwrap_err();
    assert_eq!(more.code(), Code::PermissionDenied);
    let admin = server.rest();
    assert_eq!(
        get(&admin, &agents[0], first).await.status,
        403,
        "the admin of the default tenant is one of many"
    );
}

async fn a_deleted_tenant_leaves_nothing_behind(database: Database) {
    let mut server = Server::start(database);
    let (id, token) = create(&server, "going");
    let rest = server.rest().token(&token);
    let (agent, kept) = (deploy(&rest, "demo").await, server.deploy("kept").await);
    for (rest, agent) in [(&rest, &agent), (&server.rest(), &kept)] {
        let set = rest.patch(&secrets_of(agent)).json(&json!({"secrets": {"A": "x", "B": "y"}}));
        assert_eq!(set.send().await.status, 200);
    }
    let grpc = server.grpc().await.token(&token);
    let request = WatchSecretsRequest { agent_id: agent.clone() };
    let mut watch = grpc.runtime.clone().watch_secrets(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().revision, 1);

    let insert = "INSERT INTO token_uses (token_id, used_at) SELECT id, 1 FROM tokens WHERE tenant_id = ";
    server.backdoor().await.run(&format!("{insert}'{id}'")).await;

    let unasked = server.setup().run(&["tenants", "delete", "going"]).failed(1);
    let lost = format!("'going' ({id}) with 1 agent(s), 2 secret(s) and 1 valid token(s), for ever?");
    assert!(unasked.contains(&lost) && unasked.contains("--yes"), "{unasked}");
    assert_eq!(rest.get(&secrets_of(&agent)).send().await.status, 200, "nothing has happened");

    let deleted = server.setup().begin(&["tenants", "delete", "going", "--yes"]).await.unwrap().done();
    assert_eq!(deleted, format!("Deleted the tenant 'going' ({id}) with 1 agent(s)\n"));
    assert_eq!(rest.get("/v1/agents").send().await.status, 401, "at once");
    let ended = tokio::time::timeout(LIMIT, watch.message()).await.unwrap().unwrap_err();
    assert!(matches!(ended.code(), Code::NotFound | Code::Unauthenticated), "{ended:?}");
    assert_eq!(listed(&server), [("default".to_owned(), false)]);
    let sql = server.backdoor().await;
    for table in ["agents", "secrets", "idempotency"] {
        let column = if table == "agents" { "id" } else { "agent_id" };
        let query = format!("SELECT COUNT(*) AS n FROM {table} WHERE {column} = $1");
        let left: i64 = sql.row(&query, [agent.as_str().into()]).await.try_get("", "n").unwrap();
        assert_eq!(left, 0, "{table}: with its data key go its values");
    }
    let uses = async || {
        let of_tenant =
            "SELECT COUNT(*) AS n FROM token_uses JOIN tokens ON id = token_id WHERE tenant_id = $1";
        sql.row(of_tenant, [id.as_str().into()]).await.try_get::<i64>("", "n").unwrap()
    };
    assert_eq!(uses().await, 0);
    let actions = "SELECT COUNT(*) AS n FROM audit_events WHERE agent_id = $1 AND action = 'agent.delete'";
    let recorded: i64 = sql.row(actions, [agent.as_str().into()]).await.try_get("", "n").unwrap();
    assert_eq!(recorded, 1);
    let trail = audit(&server.grpc().await, "").await;
    let of_tenant = trail.iter().find(|event| event.action == "tenant.delete").unwrap();
    assert_eq!((of_tenant.subject.as_str(), of_tenant.actor.as_str()), (id.as_str(), "operator"));
    assert_eq!(server.keys(&kept).await, json!(["A", "B"]));
    // Nor does the server bring back what it has noted of the tenant's tokens
    assert!(server.stop().await.success());
    assert_eq!(uses().await, 0);
}

/// Agents without secrets, in the tenant's rows only: they are to be many.
async fn seed(server: &Server, tenant: &str, agents: usize) {
    let sql = server.backdoor().await;
    let key = if sql.is_sqlite() { "x'00'" } else { "'\\x00'" };
    let mut rows = String::new();
    for number in 0..agents {
        let comma = if number == 0 { "" } else { "," };
        write!(
            rows,
            "{comma}('agt_{tenant}{number:06}','{tenant}','seed-{number:06}','[]',0,'kek_none',{key},1,1)"
        )
        .unwrap();
    }
    let rows = rows.replace("agt_ten_", "agt_");
    let columns = "id,tenant_id,name,required_secrets,revision,kek_id,wrapped_key,created_at,updated_at";
    sql.run(&format!("INSERT INTO agents ({columns}) VALUES {rows}")).await;
}

async fn a_deletion_that_was_killed_is_taken_up(database: Database) {
    const MANY: i64 = 3000;
    let server = Server::start(database);
    let (id, token) = create(&server, "going");
    let made = server.setup().run(&["tenants", "token", "--name", "p", "--scope", "agents:write"]).done();
    let platform = server.rest().token(made.trim_end());
    let kept = server.deploy("kept").await;
    seed(&server, &id, usize::try_from(MANY).unwrap()).await;
    let sql = server.backdoor().await;
    let left = async || {
        let row =
            sql.row("SELECT COUNT(*) AS n FROM agents WHERE tenant_id = $1", [id.as_str().into()]).await;
        row.try_get::<i64>("", "n").unwrap()
    };
    let mut running = server.setup().begin_in_vain(&["tenants", "delete", &id, "--yes"]);
    eventually("some to be gone", async || (left().await < MANY - 200).then_some(())).await;
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let killed_at = left().await;
    assert!(killed_at > 0, "it was killed on its way");
    assert!(listed(&server).contains(&("going".to_owned(), true)));
    // Nobody can call for it, and nothing is added to it
    assert_eq!(server.rest().token(&token).get("/v1/agents").send().await.status, 401);
    let deploy = platform.post("/v1/agents").header("x-superserve-tenant", &id);
    assert_eq!(deploy.json(&json!({"name": "new"})).send().await.status, 404);
    // What it had sent to PostgreSQL may have been done since
    let rest = left().await;
    assert!((1..=killed_at).contains(&rest), "{rest} of {killed_at}");

    let again = server.setup().run(&["tenants", "delete", &id, "--yes", "--json"]).done();
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again, json!({"tenant_id": id, "deleted": true, "agents": rest}));
    assert_eq!((left().await, listed(&server)), (0, vec![("default".to_owned(), false)]));
    let recorded = "SELECT COUNT(*) AS n FROM audit_events WHERE tenant_id = $1 AND action = 'agent.delete'";
    let recorded: i64 = sql.row(recorded, [id.as_str().into()]).await.try_get("", "n").unwrap();
    assert_eq!(recorded, MANY, "each once");
    let trail = audit(&server.grpc().await, "").await;
    assert_eq!(trail.iter().filter(|event| event.action == "tenant.delete").count(), 1);
    assert_eq!(server.rest().get(&format!("/v1/agents/{kept}")).send().await.status, 200);
}

#[tokio::test]
async fn a_person_is_asked_what_is_to_be_lost() {
    let server = Server::start(Database::Sqlite);
    let (id, token) = create(&server, "going");
    deploy(&server.rest().token(&token), "demo").await;
    let data_dir = server.data_dir().to_str().unwrap().to_owned();
    let ask = |answer: &str| {
        let cli = server.cli().env("SUPERSERVE_DATA_DIR", &data_dir);
        let mut terminal = cli.on_terminal(&["tenants", "delete", "going"]);
        let question = format!("({id}) with 1 agent(s), 0 secret(s) and 1 valid token(s), for ever? (y/N) ");
        terminal.exp_string(&question).unwrap();
        terminal.send_line(answer).unwrap();
        let shown = terminal.exp_eof().unwrap();
        let WaitStatus::Exited(_, code) = terminal.process.wait().unwrap() else { panic!("{shown}") };
        (code, shown)
    };
    let (code, shown) = ask("");
    assert!(code == 1 && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(listed(&server).len(), 2);
    let (code, shown) = ask("y");
    assert!(code == 0 && shown.contains("Deleted the tenant"), "{shown}");
    assert_eq!(listed(&server).len(), 1);
}
