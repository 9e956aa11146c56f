//! What a person reads when a server refuses, is slow, or is not there: a sentence, and what to do next.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rexpect::process::wait::WaitStatus;
use serde_json::{Value, json};

use crate::harness::{Database, cli::Cli, relay::relay, server::Server};

/// A caller of this server who is hung up on so many times before anybody answers.
fn after_hang_ups(server: &Server, times: usize) -> Cli {
    let (calls, address) = (AtomicUsize::new(0), server.address());
    let relay = relay(move || (calls.fetch_add(1, Ordering::SeqCst) >= times).then_some(address));
    server.cli().env("SUPERSERVE_API_URL", &format!("http://{relay}"))
}

#[tokio::test]
async fn each_refusal_says_what_to_do_next() {
    let server = Server::start(Database::Sqlite);
    let admin = server.cli();
    let declared = json!([{"name": "PORT", "pattern": "^[0-9]+$", "min_length": 2}]);
    let agent = json!({"name": "demo", "required_secrets": declared});
    assert_eq!(server.rest().post("/v1/agents").json(&agent).send().await.status, 201);
    for (arguments, code, expected) in [
        (&["agents", "get", "agt_none"][..], 2, "error: Agent not found.\nSee `superserve agents list`.\n"),
        (
            &["agents", "get", "none"],
            2,
            "error: Agent not found: there is no agent 'none'.\nSee `superserve agents list`, or make one with \
             `superserve agents deploy NAME`.\n",
        ),
        (&["agents", "get", ""], 1, "error: AGENT is empty: give a name or an id.\n"),
        (
            &["agents", "get", "agt_!"],
            1,
            "error: AGENT is not well-formed: an id is \"agt_\" and letters and digits.\n",
        ),
        (&["tokens", "revoke", "tok_none"], 2, "error: Token not found.\nSee `superserve tokens list`.\n"),
        (&["tokens", "rotate", "tok_none"], 2, "error: Token not found.\nSee `superserve tokens list`.\n"),
        (
            &["tokens", "create", "--name", ""],
            2,
            "error: The server refused the input; nothing was changed.\n  - name: is not a valid name [invalid_name]\n",
        ),
        (
            &["secrets", "delete", "demo", "GONE", "--yes"],
            2,
            "error: Secret not found.\n  - GONE\nWith --allow-missing this is no error.\n",
        ),
        (
            &["secrets", "set", "demo", "PORT=x"],
            2,
            "error: The server refused the input; nothing was changed.\n  \
             - PORT: is shorter than the agent requires (limit 2) [too_short]\n  \
             - PORT: does not match the pattern that the agent requires [pattern_mismatch]\n",
        ),
        (
            &["secrets", "set", "demo", "PORT=80", "--if-revision", "9"],
            4,
            "error: Revision mismatch: the agent is at revision 0; nothing was changed.\n\
             `superserve secrets list AGENT --json` shows what is there now, with its revision.\n",
        ),
    ] {
        let output = admin.run(arguments);
        assert_eq!((output.code, output.stderr.as_str()), (code, expected), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_token_for_one_purpose_is_told_what_it_lacks() {
    let server = Server::start(Database::Sqlite);
    let id = server.deploy("demo").await;
    let runner = server.runner("demo");
    let denied = runner.run(&["secrets", "list", "demo"]).failed(2);
    assert_eq!(
        denied,
        "error: Permission denied.\nThe token lacks the scope 'secrets:list', or does not reach this agent: ask for \
         one that has it.\n"
    );
    let text = server.token(&["secrets:list"], &[&id]).await;
    let lister = Cli::new(server.address()).env("SUPERSERVE_TOKEN", &text);
    let unnamed = lister.run(&["secrets", "list", "demo"]).failed(2);
    let hint = "Finding an agent by its name needs 'agents:read': give its id, agt_…, instead.\n";
    assert_eq!(unnamed, format!("error: Permission denied.\n{hint}"));
    assert_eq!(
        lister.run(&["secrets", "list", &id]).done(),
        format!("No secrets configured for agent '{id}'\n")
    );
}

#[test]
fn who_calls_too_often_waits_a_little_and_is_told_of_more() {
    let server = Server::with(Database::Sqlite).arg("--rate-limit=1").start();
    server.cli().script(r#"for n in 1 2 3; do "$0" agents list >/dev/null || exit; done"#).done();
    let log = server.log();
    assert!(log.contains(r#""code":"8""#), "none of the calls came too early: {log}");
    // What lasts longer than a person waits is not waited for
    let server = Server::with(Database::Sqlite).arg("--max-failed-auth=1").start();
    let refused =
        |token| Cli::new(server.address()).env("SUPERSERVE_TOKEN", token).run(&["whoami"]).failed(2);
    assert!(refused("a.b.c").starts_with("error: Not authenticated"));
    let told = refused("d.e.f");
    let seconds = told.strip_prefix("error: Too many requests.\nTry again in ").unwrap();
    assert!(seconds.strip_suffix(" s.\n").unwrap().parse::<u64>().unwrap() > 5, "{told}");
}

#[test]
fn a_connection_that_breaks_is_tried_again_where_that_does_no_harm() {
    let server = Server::start(Database::Sqlite);
    assert!(after_hang_ups(&server, 2).run(&["agents", "deploy", "demo"]).done().starts_with("Created"));
    let set = after_hang_ups(&server, 2).run(&["secrets", "set", "demo", "A=sentinel", "--json"]).done();
    assert_eq!(serde_json::from_str::<Value>(&set).unwrap()["revision"], 1, "one set has one effect: {set}");
    let delete = after_hang_ups(&server, 2).run(&["secrets", "delete", "demo", "A", "--yes"]).done();
    assert_eq!(delete, "No secrets configured for agent 'demo'\n");
    // What must not be done twice may fail instead: a token is there if and only if its text was given
    let made = after_hang_ups(&server, 1).run(&["tokens", "create", "--name", "ci"]);
    let tokens = server.cli().run(&["tokens", "list"]).done();
    assert_eq!(tokens.matches("  ci  ").count(), usize::from(made.code == 0), "{tokens}");
    let made = after_hang_ups(&server, 99).run(&["tokens", "create", "--name", "other"]).failed(2);
    assert!(made.starts_with("error: Cannot reach the server at http://127.0.0.1:"), "{made}");
    let given_up = after_hang_ups(&server, 99).run(&["secrets", "set", "demo", "A=sentinel"]).failed(2);
    assert!(given_up.contains(".\nIt is not known whether"), "{given_up}");
    assert!(!given_up.contains("sentinel"), "{given_up}");
}

#[test]
fn a_server_of_another_kind_is_recognised() {
    let server = Server::start(Database::Sqlite);
    // Its operator's port knows gRPC's health and no service of ours
    let cli = server.cli().env("SUPERSERVE_API_URL", &format!("http://{}", server.ops_address()));
    for command in [&["agents", "list"][..], &["whoami", "--json"]] {
        let refused = cli.run(command).failed(2);
        assert!(refused.starts_with("error: ") && refused.contains("SUPERSERVE_API_URL"), "{refused}");
    }
}

#[test]
fn ctrl_c_ends_a_call_that_nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Cli::new(listener.local_addr().unwrap()).env("SUPERSERVE_TOKEN", "a.b.c");
    let mut session = silent.on_terminal(&["secrets", "set", "demo", "A=sentinel"]);
    // It has called when somebody has taken the call
    let call = thread::spawn(move || listener.accept().unwrap().0).join().unwrap();
    session.send_control('c').unwrap();
    let shown = session.exp_eof().unwrap();
    assert!(shown.contains("error: Interrupted.") && !shown.contains("sentinel"), "{shown}");
    assert!(matches!(session.process.wait().unwrap(), WaitStatus::Exited(_, 130)));
    drop(call);
}
