//! Who wraps data keys: one suite for the keyring file and each provider outside, and what is special to those.

use std::fs;

use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{
    Database, eventually,
    fixtures::{ALL_SCOPES, secrets_of},
    moto::Moto,
    postgres, programs,
    rest::Rest,
    search::sentinel,
    server::{Server, Setup},
    steps::{resolve, resolver},
    transit::{KEY, Transit},
};

/// Who wraps.
enum Provider {
    File,
    Transit(Transit),
    AwsKms(Moto),
}

/// Makes of one `async fn case(provider: Provider)` a test for each provider, or for each that is `outside`.
macro_rules! on_each_provider {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use super::{Provider, openbao};
            use crate::harness::{moto::Moto, transit::Transit};

            #[tokio::test]
            async fn file() {
                super::$case(Provider::File).await;
            }

            on_each_provider!(@outside $case);
        }
    )+};
    (outside: $($case:ident),+ $(,)?) => {$(
        mod $case {
            use super::{Provider, openbao};
            use crate::harness::{moto::Moto, transit::Transit};

            on_each_provider!(@outside $case);
        }
    )+};
    (@outside $case:ident) => {
        #[tokio::test]
        async fn transit() {
            super::$case(Provider::Transit(Transit::small().await)).await;
        }

        #[tokio::test]
        async fn real_openbao() {
            if let Some(transit) = openbao().await {
                super::$case(Provider::Transit(transit)).await;
            }
        }

        #[tokio::test]
        async fn aws_kms() {
            if let Some(moto) = Moto::start().await {
                super::$case(Provider::AwsKms(moto)).await;
            }
        }
    };
}

/// Makes of one `async fn case(transit: Transit)` a test with the small engine, and one with a real one.
macro_rules! on_each_engine {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use super::openbao;
            use crate::harness::transit::Transit;

            #[tokio::test]
            async fn transit() {
                super::$case(Transit::small().await).await;
            }

            #[tokio::test]
            async fn real_openbao() {
                if let Some(transit) = openbao().await {
                    super::$case(transit).await;
                }
            }
        }
    )+};
}

on_each_provider!(values_come_back, what_was_moved_or_changed_does_not_open, another_key_is_refused);
on_each_provider!(outside:
    an_outage_is_outlived_for_a_while,
    an_agent_that_is_there_is_deployed_without_the_provider,
    agents_move_from_the_keyring_to_the_provider,
    two_servers_move_one_after_the_other,
    agents_come_back_to_the_keyring,
);
on_each_engine!(
    another_version_of_the_key_wraps,
    a_version_that_the_engine_has_not_yet_is_no_loss,
    a_token_can_be_exchanged
);

async fn openbao() -> Option<Transit> {
    let transit = Transit::openbao().await;
    if transit.is_none() {
        programs::say_once("OPENBAO_BIN is not set: the tests with a real OpenBao are left out\n");
    }
    transit
}

async fn values_come_back(provider: Provider) {
    let mut server = provider.server().start();
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value, "OTHER": "o"})).await;
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
    server.kill9();
    server.restart();
    // Nothing is kept of the data key: a write is the first that needs it, a delete, a read
    server.set(&agent, &json!({"MORE": "m"})).await;
    let deleted = server.rest().delete(&format!("{}/OTHER", secrets_of(&agent))).send().await;
    assert_eq!((deleted.status.as_u16(), deleted.json()), (200, json!({"keys": ["KEY", "MORE"]})));
    server.kill9();
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
    let told = status(server.setup());
    let key = &told["keys"][0];
    assert_eq!((&key["state"], &key["agents"]), (&json!("primary"), &json!(1)), "{told}");
    assert_eq!(told["servers"][0]["wraps"], key["id"]);
    if let Some(id) = provider.key() {
        assert_eq!(key["id"], json!(id));
        assert!(!server.setup().keyring().exists(), "nobody needs one");
    }
    assert!(!server.log().contains(&value));
}

async fn what_was_moved_or_changed_does_not_open(provider: Provider) {
    let mut server = provider.server().start();
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    server.set(&agent, &json!({"KEY": "v"})).await;
    // Also what is at hand does not open for another
    server.set(&other, &json!({"KEY": "v"})).await;
    let sql = server.backdoor().await;
    let wrapped = async |agent: &str| -> Vec<u8> {
        let row = sql.row("SELECT wrapped_key FROM agents WHERE id = $1", [agent.into()]).await;
        row.try_get("", "wrapped_key").unwrap()
    };
    let (right, moved) = (wrapped(&agent).await, wrapped(&other).await);
    let (mut flipped, cut) = (right.clone(), right[..right.len() - 4].to_vec());
    // The last letter of base64 may stand for bits that are none; this one does not
    let at = right.len() - 8;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    for wrong in [moved, flipped, cut, vec![0xff; 61], b"vault:v1:".to_vec(), Vec::new()] {
        let change = "UPDATE agents SET wrapped_key = $1 WHERE id = $2";
        sql.change(change, [wrong.into(), agent.as_str().into()]).await;
        let refused = resolve(&resolver(&server).await, &agent).await.unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss, "{refused:?}");
        sql.change(change, [right.clone().into(), agent.as_str().into()]).await;
    }
    server.kill9();
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
}

async fn another_key_is_refused(mut provider: Provider) {
    let mut server = provider.server().start();
    server.deploy("demo").await;
    let key = status(server.setup())["keys"][0].clone();
    server.kill9();
    match &mut provider {
        Provider::File => {
            fs::remove_file(server.setup().keyring()).unwrap();
            assert_eq!(server.setup().run(&["keys", "generate"]).code, 0);
        }
        Provider::Transit(transit) => transit.make_key().await,
        Provider::AwsKms(moto) => moto.make_key().await,
    }
    let refused = provider.settings(server.setup().clone()).run_serve();
    assert_ne!(refused.code, 0);
    for word in ["id", "fingerprint"] {
        assert!(refused.stderr.contains(key[word].as_str().unwrap()), "{word}: {}", refused.stderr);
    }
}

async fn an_outage_is_outlived_for_a_while(provider: Provider) {
    let cache = ("SUPERSERVE_DATA_KEY_CACHE", "8");
    let server = provider.settings(Server::with(Database::Sqlite)).env(cache.0, cache.1).start();
    let (agent, grpc) = (server.deploy("demo").await, resolver(&server).await);
    server.set(&agent, &json!({"KEY": "v"})).await;
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEY"], "v");
    provider.is_lost();
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEY"], "v", "its data key is at hand");
    server.set(&agent, &json!({"MORE": "m"})).await;
    // A new agent needs the provider at once
    let new = server.rest().post("/v1/agents").json(&json!({"name": "new"})).send().await;
    assert_eq!((new.status.as_u16(), new.header("retry-after")), (503, "1"), "{}", new.text());
    let over = async || resolve(&grpc, &agent).await.err();
    let refused = eventually("the data key to be too old", over).await;
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "Service unavailable"));
    let set = server.rest().patch(&secrets_of(&agent)).json(&json!({"secrets": {"B": "b"}})).send().await;
    assert_eq!(set.status, 503);
    assert_eq!(server.ops().get("/readyz").send().await.status, 200, "no other server would do better");
    provider.is_back();
    let resolved = eventually("the provider to be found again", async || resolve(&grpc, &agent).await.ok());
    assert_eq!(
        resolved.await,
        [("KEY", "v"), ("MORE", "m")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    server.deploy("new").await;
}

async fn an_agent_that_is_there_is_deployed_without_the_provider(provider: Provider) {
    let server = provider.server().start();
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    let limited = server.token(&ALL_SCOPES, &[&agent]).await;
    provider.is_lost();
    let admin = server.rest();
    let limited = server.rest().token(&limited);
    let deploy = async |rest: &Rest, name: &str, command: &str| {
        rest.post("/v1/agents").json(&json!({"name": name, "command": command})).send().await
    };
    let again = deploy(&admin, "other", "one").await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &json!(other)), "{}", again.text());
    let again = deploy(&limited, "demo", "two").await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &json!(agent)), "{}", again.text());
    assert_eq!(again.json()["command"], "two");
    for name in ["other", "new"] {
        assert_eq!(deploy(&limited, name, "three").await.status, 403, "nor is it told which there are");
    }
    assert_eq!(deploy(&admin, "new", "four").await.status, 503, "a new one has a data key to be wrapped");
    // What was deleted is new again
    assert_eq!(admin.delete(&format!("/v1/agents/{other}")).send().await.status, 204);
    assert_eq!(deploy(&admin, "other", "five").await.status, 503);
}

async fn another_version_of_the_key_wraps(transit: Transit) {
    let mut server = transit.settings(Server::with(Database::Sqlite)).start();
    let old = server.deploy("old").await;
    server.set(&old, &json!({"KEY": "v"})).await;
    transit.rotate().await;
    let new = server.deploy("new").await;
    server.set(&new, &json!({"KEY": "v"})).await;
    server.kill9();
    server.restart();
    for agent in [&old, &new] {
        assert_eq!(resolve(&resolver(&server).await, agent).await.unwrap()["KEY"], "v");
    }
    let sql = server.backdoor().await;
    let row = sql.row("SELECT wrapped_key FROM agents WHERE id = $1", [new.as_str().into()]).await;
    assert!(row.try_get::<Vec<u8>>("", "wrapped_key").unwrap().starts_with(b"vault:v2:"));
}

async fn a_version_that_the_engine_has_not_yet_is_no_loss(transit: Transit) {
    let mut server = transit.settings(Server::with(Database::Sqlite)).start();
    let before = transit.backup().await;
    transit.rotate().await;
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    let after = transit.backup().await;
    // As an engine is that lags behind, or came back from a backup
    transit.restore(&before).await;
    server.kill9();
    server.restart();
    let grpc = resolver(&server).await;
    let refused = resolve(&grpc, &agent).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(server.log().contains("version is too new"), "{}", server.log());
    transit.restore(&after).await;
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEY"], "v");
}

async fn a_token_can_be_exchanged(mut transit: Transit) {
    let server = transit.settings(Server::with(Database::Sqlite)).start();
    server.deploy("before").await;
    transit.revoke_token().await;
    let refused = server.rest().post("/v1/agents").json(&json!({"name": "between"})).send().await;
    assert_eq!(refused.status, 503);
    assert!(server.log().contains("403 permission denied"), "{}", server.log());
    transit.new_token().await;
    server.deploy("after").await;
}

async fn agents_move_from_the_keyring_to_the_provider(provider: Provider) {
    let remote = provider.key().unwrap();
    let mut server = Server::start(Database::Sqlite);
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    let old = status(server.setup())["keys"][0]["id"].as_str().unwrap().to_owned();
    assert!(server.terminate().success());
    let server = provider.settings(server.setup().clone()).start();
    let moved = async || {
        let told = status(server.setup());
        (agents_under(&told, &old) == 0 && agents_under(&told, &remote) == 1).then_some(())
    };
    eventually("the agent to come under the provider's key", moved).await;
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
    let rotated = server.setup().run(&["keys", "rotate", "--json"]);
    let rotated: Value = serde_json::from_str(&rotated.done()).unwrap();
    assert_eq!((&rotated["primary"], &rotated["left"]), (&json!(remote), &json!(0)));
    assert_eq!(server.setup().run(&["keys", "retire", &old, "--check"]).code, 0);
    fs::remove_file(server.setup().keyring()).unwrap();
    assert!(server.reload().await.contains("keyring read again"));
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
    assert!(!server.log().contains(&value));
}

async fn two_servers_move_one_after_the_other(provider: Provider) {
    let remote = provider.key().unwrap();
    let Some(database) = postgres::Database::create().await else { return };
    let first = Server::start(Database::Postgres(database));
    let agent = first.deploy("demo").await;
    first.set(&agent, &json!({"KEY": "v"})).await;
    let mut second = first.replica().start();
    let old = status(first.setup())["keys"][0]["id"].as_str().unwrap().to_owned();
    // A third comes, which would wrap by the provider, and waits for the two that cannot
    let third = provider.settings(first.replica()).start();
    let late = third.deploy("late").await;
    third.set(&late, &json!({"KEY": "v"})).await;
    assert_eq!(agents_under(&status(first.setup()), &old), 2);
    for server in [&first, &second, &third] {
        assert_eq!(resolve(&resolver(server).await, &late).await.unwrap()["KEY"], "v");
    }
    assert!(second.stop().await.success());
    drop(second);
    let mut first = first;
    assert!(first.stop().await.success());
    let moved = async || (agents_under(&status(third.setup()), &remote) == 2).then_some(());
    eventually("all agents under the provider's key", moved).await;
    // Who comes back without it is told what it lacks
    let refused = first.setup().run_serve();
    assert!(refused.code != 0 && refused.stderr.contains(&remote), "{}", refused.stderr);
}

async fn agents_come_back_to_the_keyring(provider: Provider) {
    let remote = provider.key().unwrap();
    let mut server = provider.server().start();
    let (agent, value) = (server.deploy("demo").await, sentinel());
    server.set(&agent, &json!({"KEY": value})).await;
    let back = server.setup().clone().env("SUPERSERVE_KEY_PROVIDER", "file");
    assert_eq!(back.run(&["keys", "generate"]).code, 0);
    let refused = back.run(&["keys", "rotate", "--wait", "1s"]).failed(1);
    assert!(refused.contains("1 server(s) still wrap") && refused.contains(&remote), "{refused}");
    assert!(server.terminate().success());
    let without =
        back.clone().without_env("SUPERSERVE_TRANSIT_ADDRESS").without_env("SUPERSERVE_AWS_KMS_KEY");
    let refused = without.run_serve();
    assert!(refused.stderr.contains(&remote) && refused.stderr.contains("give that provider's settings"));
    let mut server = back.clone().start();
    server.deploy("late").await;
    let told = status(&back);
    let local = told["keys"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((agents_under(&told, &local), agents_under(&told, &remote)), (1, 1), "{told}");
    let rotated: Value = serde_json::from_str(&back.run(&["keys", "rotate", "--json"]).done()).unwrap();
    assert_eq!((&rotated["rewrapped"], &rotated["left"]), (&json!(1), &json!(0)));
    assert_eq!(agents_under(&status(&back), &remote), 0);
    assert!(server.terminate().success());
    provider.is_lost();
    let server = without.start();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], value);
}

#[tokio::test]
async fn a_pod_is_let_in_by_its_service_account() {
    let transit = Transit::small().await;
    let server = transit.settings_of_a_pod(Server::with(Database::Sqlite)).start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["KEY"], "v");
    let stranger = transit
        .settings_of_a_pod(Server::with(Database::Sqlite))
        .env("SUPERSERVE_TRANSIT_ROLE", "another")
        .run_serve();
    assert!(stranger.code != 0 && stranger.stderr.contains("refused the login: 403"), "{}", stranger.stderr);
}

#[tokio::test]
async fn aws_kms_is_not_called_without_credentials() {
    let Some(moto) = Moto::start().await else { return };
    let without = moto.settings(Server::with(Database::Sqlite)).without_env("AWS_ACCESS_KEY_ID");
    let refused = without.env("AWS_EC2_METADATA_DISABLED", "true").run_serve();
    assert!(refused.code != 0 && refused.stderr.contains("no AWS credentials"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_named() {
    let transit = Transit::small().await;
    let setup = transit.settings(Server::with(Database::Sqlite));
    let refused = setup.clone().env("SUPERSERVE_TRANSIT_ADDRESS", "http://127.0.0.1:1").run_serve();
    assert!(refused.code != 0 && refused.stderr.contains("127.0.0.1 does not answer"), "{}", refused.stderr);
    let refused = setup.clone().env("SUPERSERVE_TRANSIT_KEY", "another").run_serve();
    assert!(refused.code != 0 && refused.stderr.contains("key not found"), "{}", refused.stderr);
    let refused = setup.without_env("SUPERSERVE_TRANSIT_TOKEN_PATH").run_serve();
    assert!(refused.code != 0 && refused.stderr.contains("--transit-role"), "{}", refused.stderr);
}

// === impl Provider ===

impl Provider {
    fn server(&self) -> Setup {
        self.settings(Server::with(Database::Sqlite))
    }

    fn settings(&self, setup: Setup) -> Setup {
        match self {
            Self::File => setup,
            Self::Transit(transit) => transit.settings(setup),
            Self::AwsKms(moto) => moto.settings(setup),
        }
    }

    /// What the key outside is called.
    fn key(&self) -> Option<String> {
        match self {
            Self::File => None,
            Self::Transit(_) => Some(format!("transit:transit/{KEY}")),
            Self::AwsKms(moto) => Some(moto.key().to_owned()),
        }
    }

    fn is_lost(&self) {
        match self {
            Self::File => {}
            Self::Transit(transit) => transit.is_lost(),
            Self::AwsKms(moto) => moto.is_lost(),
        }
    }

    fn is_back(&self) {
        match self {
            Self::File => {}
            Self::Transit(transit) => transit.is_back(),
            Self::AwsKms(moto) => moto.is_back(),
        }
    }
}

fn status(setup: &Setup) -> Value {
    serde_json::from_str(&setup.run(&["keys", "status", "--json"]).stdout).unwrap()
}

fn agents_under(status: &Value, id: &str) -> u64 {
    let keys = status["keys"].as_array().unwrap().iter();
    keys.filter(|key| key["id"] == json!(id)).map(|key| key["agents"].as_u64().unwrap()).sum()
}
