//! The commands of the README do what it says, as they stand there.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::harness::{
    Database,
    cli::Cli,
    postgres,
    programs::{is_there, runs, say_once},
    search_path,
    server::{BINARY, Server},
};

/// The shell commands of the README, block by block, for a server at this address.
fn blocks(server: &Server) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap().replace("127.0.0.1:8080", &server.address().to_string());
    let blocks = readme.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split_once("\n```").unwrap().0.to_owned()).collect()
}

/// The one block that has this.
fn block(server: &Server, has: &str) -> String {
    let mut found = blocks(server).into_iter().filter(|block| block.contains(has));
    let block = found.next().unwrap_or_else(|| panic!("no block has {has}"));
    assert!(found.next().is_none(), "one block has {has}");
    block
}

/// A caller in the directory in which the server was started, for whom the binary is installed.
fn caller(server: &Server) -> Cli {
    let bin = Path::new(BINARY).parent().unwrap().to_owned();
    let path: OsString = env::join_paths([bin].into_iter().chain(env::split_paths(&search_path()))).unwrap();
    let cli = server.cli().without_env("SUPERSERVE_TOKEN").env("PATH", path.to_str().unwrap());
    let token: PathBuf = cli.home().join("data/admin-token");
    fs::create_dir(token.parent().unwrap()).unwrap();
    fs::write(token, format!("{}\n", server.admin_token())).unwrap();
    cli
}

#[test]
fn the_quick_start_works_as_pasted() {
    let server = Server::start(Database::Sqlite);
    let pasted =
        [block(&server, "agents deploy my-agent"), block(&server, "secrets run my-agent")].join("\n");
    let cli = caller(&server);
    let mut session = cli.script_on_terminal(&pasted);
    session.exp_string("Created agent 'my-agent' (agt_").unwrap();
    session.exp_string("ANTHROPIC_API_KEY: ").unwrap();
    session.send_line("sk-sentinel").unwrap();
    session.exp_string("Name of another secret").unwrap();
    session.send_line("").unwrap();
    session.exp_string("\r\nready\r\n").unwrap();
    let rest = session.exp_eof().unwrap();
    assert!(!rest.contains("error"), "{rest}");
    // Whoever reads the token of the runner may run the agent, and nobody else does
    let file = cli.home().join("runner-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let runner = server.cli().env("SUPERSERVE_TOKEN", fs::read_to_string(&file).unwrap().trim());
    assert_eq!(runner.run(&["secrets", "delete", "my-agent", "ANTHROPIC_API_KEY", "--yes"]).code, 2);
    // And it is not written over
    let again = cli.script(
        "SUPERSERVE_TOKEN_FILE=data/admin-token superserve agents deploy other --runner-token runner-token",
    );
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("runner-token is there already; nothing was sent."), "{}", again.stderr);
    assert!(!server.cli().run(&["agents", "list"]).done().contains("other"));
}

#[tokio::test]
async fn a_server_on_postgres_starts_as_pasted() {
    let Some(database) = postgres::Database::create().await else { return };
    let any = Server::start(Database::Sqlite);
    let cli = caller(&any);
    fs::write(cli.home().join("database-url"), database.url()).unwrap();
    let serve = "superserve serve --keyring keyring.json";
    let begin = format!(
        "{serve} --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 2>log & server=$!\n\
         until grep -q 'ops listening' log || ! kill -0 $server; do sleep 0.1; done\n\
         kill $server; wait $server; cat log admin-token"
    );
    let pasted = block(&any, "superserve tokens generate > admin-token").replace(serve, &begin);
    let ended = cli.script(&pasted);
    assert!(ended.stdout.contains("ops listening"), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("stopped") && ended.stdout.contains("\nss_"), "{}", ended.stdout);
}

#[test]
fn grpcurl_needs_no_proto_file() {
    if !is_there("grpcurl", &["--version"], search_path()) {
        return;
    }
    let server = Server::start(Database::Sqlite);
    server.cli().run(&["agents", "deploy", "my-agent"]).done();
    let said = caller(&server).script(&block(&server, "grpcurl")).done();
    assert!(said.contains("rpc SetSecrets (") && said.contains(r#""name": "my-agent""#), "{said}");
}

#[test]
fn curl_speaks_to_the_same_agent() {
    if !runs("curl", &["--version"], search_path()) {
        say_once("curl does not run: the README's calls of it are left out\n");
        return;
    }
    let server = Server::start(Database::Sqlite);
    server.cli().run(&["agents", "deploy", "my-agent"]).done();
    let pasted = block(&server, "curl -X PATCH").replace("curl ", "curl -s ");
    let said = caller(&server).script(&pasted).done();
    assert_eq!(said, r#"{"keys":["ANTHROPIC_API_KEY"]}{"keys":["ANTHROPIC_API_KEY"]}{"keys":[]}"#);
}

#[test]
fn each_block_sets_the_variables_that_it_uses() {
    let server = Server::start(Database::Sqlite);
    for block in blocks(&server) {
        // Those in capitals are the environment's, and an agent's own
        let used = block.match_indices('$').map(|(at, _)| {
            let rest = block[at + 1..].trim_start_matches('{');
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        });
        for name in used.filter(|name| !name.is_empty()) {
            let is_set = block.lines().any(|line| line.trim_start().starts_with(&format!("{name}=")));
            assert!(is_set, "${name} is set by another block: {block}");
        }
        assert!(!block.replace("sk-ant-…", "").contains('…'), "nobody can paste this: {block}");
    }
}
