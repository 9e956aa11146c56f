//! Where settings come from: flag, else environment, else file, else default; of the server and of a client.

use std::{
    fs,
    fs::OpenOptions,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::fs::OFlags;

use crate::harness::{
    Database,
    cli::Cli,
    eventually,
    pki::Authority,
    server::{Server, Setup},
    wait_for,
};

fn auth_file(cli: &Cli) -> PathBuf {
    cli.home().join(".superserve/auth.json")
}

/// Writes a token where `login` would, for all to read.
fn keep_exposed(cli: &Cli, content: &str) {
    let file = auth_file(cli);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_server_takes_flag_then_variable_then_its_file_then_toml() {
    let with = || {
        let setup = Server::with(Database::Sqlite);
        let toml = setup.data_dir().join("settings.toml");
        fs::write(&toml, "max-keys-per-agent = 1\nrate-limit = 1000\n").unwrap();
        let named = setup.data_dir().join("named");
        fs::write(&named, "2\n").unwrap();
        (setup.arg(&format!("--config={}", toml.display())), named.display().to_string())
    };
    // The most keys that an agent may have, as its refusal tells
    let limit = |setup: Setup| {
        let server = setup.start();
        let cli = server.cli();
        cli.run(&["agents", "deploy", "demo"]).done();
        let many: Vec<_> = (0..101).map(|n| format!("K{n}=x\n")).collect();
        let refused =
            cli.run_with(&["secrets", "set", "demo", "--env-file", "-"], many.concat().as_bytes()).failed(2);
        let limit = refused.split("(limit ").nth(1).and_then(|rest| rest.split(')').next());
        limit.unwrap_or_else(|| panic!("{refused}")).parse::<usize>().unwrap()
    };
    assert_eq!(limit(Server::with(Database::Sqlite)), 100);
    assert_eq!(limit(with().0), 1);
    let (setup, named) = with();
    assert_eq!(limit(setup.env("SUPERSERVE_MAX_KEYS_PER_AGENT_FILE", &named)), 2);
    assert_eq!(limit(with().0.env("SUPERSERVE_MAX_KEYS_PER_AGENT", "3")), 3);
    let flag = with().0.env("SUPERSERVE_MAX_KEYS_PER_AGENT", "3").arg("--max-keys-per-agent=4");
    assert_eq!(limit(flag), 4);
    // The file can be named by a variable too
    let (setup, _) = with();
    let toml = setup.data_dir().join("settings.toml");
    let by_variable = Server::with(Database::Sqlite).env("SUPERSERVE_CONFIG", toml.to_str().unwrap());
    assert_eq!(limit(by_variable), 1);
}

#[test]
fn one_file_is_for_all_commands_of_an_operator_and_for_nobody_else() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo"]).done();
    let settings = cli.home().join("settings.toml");
    let data_dir = server.data_dir().display();
    fs::write(&settings, format!("data-dir = \"{data_dir}\"\nmax-value-bytes = 9\nrate-limit = 5\n"))
        .unwrap();
    let config = ["--config", settings.to_str().unwrap()];
    assert!(cli.run(&[&["migrate"], &config[..]].concat()).stderr.contains("The schema is up to date."));
    let keys = cli.run(&[&["keys", "status"], &config[..]].concat()).done();
    assert!(keys.contains("primary"), "{keys}");
    // What is run has settings of its own, which are none of ours
    fs::write(cli.home().join("theirs.toml"), "theirs = true\n").unwrap();
    let command = ["secrets", "run", "demo", "--", "echo", "--config", "theirs.toml"];
    assert_eq!(server.runner("demo").run(&command).done(), "--config theirs.toml\n");
    let named = cli.env("SUPERSERVE_CONFIG", "/nowhere").env("SUPERSERVE_DATABASE_URL_FILE", "/nowhere");
    named.run(&["agents", "list"]).done();
    assert!(named.run(&["migrate"]).failed(1).contains("/nowhere"));
    assert!(named.run(&["migrate", "--help"]).done().contains("--database-url"));
}

#[test]
fn a_client_takes_flag_then_variable_then_default() {
    let server = Server::start(Database::Sqlite);
    let url = format!("http://{}", server.address());
    let cli = server.cli().without_env("SUPERSERVE_API_URL");
    let unset = cli.run(&["--json", "health"]);
    // Where somebody listens on the default port, it is not this server
    assert!(unset.code == 0 || unset.stderr.contains("http://127.0.0.1:8080"), "{}", unset.stderr);
    let file = cli.home().join("url");
    fs::write(&file, &url).unwrap();
    let cli = cli.env("SUPERSERVE_API_URL_FILE", file.to_str().unwrap());
    assert_eq!(cli.run(&["health"]).done(), "SERVING\n");
    let cli = cli.env("SUPERSERVE_API_URL", "http://127.0.0.1:1");
    let both = cli.run(&["health"]).failed(1);
    assert_eq!(both, "error: SUPERSERVE_API_URL_FILE: SUPERSERVE_API_URL is set too: unset one of them.\n");
    let cli = cli.without_env("SUPERSERVE_API_URL_FILE");
    assert!(cli.run(&["health"]).failed(2).contains("http://127.0.0.1:1"));
    assert_eq!(cli.run(&["health", "--api-url", &url]).done(), "SERVING\n");
    for wrong in ["127.0.0.1:8080", "http://u:sentinel@h", "ftp://sentinel", "http://h/sentinel?x", ""] {
        let refused = cli.run(&["health", "--api-url", wrong]).failed(1);
        assert!(refused.starts_with("error: --api-url is not the address of a server: "), "{refused}");
        assert!(!refused.contains("sentinel"), "{refused}");
    }
}

#[test]
fn a_token_is_taken_from_the_environment_before_what_is_kept() {
    let server = Server::start(Database::Sqlite);
    let token = server.admin_token();
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    let file = auth_file(&cli);
    keep_exposed(&cli, &format!(r#"{{"token": "{token}"}}"#));
    let who = cli.run(&["whoami"]);
    let path = file.display();
    assert_eq!(who.stderr, format!("warning: others can read the token in {path}: run `chmod 600 {path}`\n"));
    assert!(who.done().starts_with("Token:"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(cli.run(&["whoami"]).stderr, "");
    let empty = cli.env("SUPERSERVE_TOKEN", "").env("SUPERSERVE_API_KEY", "");
    assert_eq!(empty.run(&["whoami"]).code, 0, "an empty variable counts as not set");

    let other = empty.run(&["tokens", "generate"]).done();
    let key = empty.env("SUPERSERVE_API_KEY", other.trim_end());
    assert!(key.run(&["whoami"]).failed(2).contains("Not authenticated"), "the variable wins");
    let both = key.env("SUPERSERVE_TOKEN", token);
    assert_eq!(both.run(&["whoami"]).code, 0, "SUPERSERVE_TOKEN comes first");
    let named = both.home().join("named");
    fs::write(&named, "").unwrap();
    let named = both.env("SUPERSERVE_TOKEN", "").env("SUPERSERVE_TOKEN_FILE", named.to_str().unwrap());
    assert!(named.run(&["whoami"]).failed(1).ends_with("named: is empty.\n"));
}

#[test]
fn a_kept_token_that_cannot_be_read_or_written_is_told() {
    let server = Server::start(Database::Sqlite);
    let token = format!("{}\n", server.admin_token());
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    for broken in ["", "{", r#"{"token": "sentinel"#, r#"{"tokens": "sentinel"}"#, r#"{"token": 7}"#] {
        keep_exposed(&cli, broken);
        let refused = cli.run(&["whoami"]).failed(1);
        assert!(refused.contains("auth.json does not hold a token.\nWrite it anew"), "{refused}");
        assert!(!refused.contains("sentinel"), "{refused}");
    }
    // Logging in repairs it, and narrows who may read it
    cli.run_with(&["login"], token.as_bytes()).done();
    assert_eq!((mode(&auth_file(&cli)), mode(auth_file(&cli).parent().unwrap())), (0o600, 0o700));
    cli.run(&["whoami"]).done();

    let homeless = cli.script(r#"unset HOME; "$0" login </dev/null"#).failed(1);
    assert!(homeless.starts_with("error: HOME is not set, so there is no place to keep a token.\n"));
    let nowhere = cli.env("HOME", "/proc");
    let unwritable = nowhere.run_with(&["login"], token.as_bytes()).failed(1);
    assert!(unwritable.starts_with("error: Cannot write /proc/.superserve/auth.json: "), "{unwritable}");
    assert!(!unwritable.contains(token.trim_end()));
}

#[test]
fn https_is_spoken_with_whom_the_client_trusts() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    let url = format!("https://localhost:{}", server.address().port());
    let cli = server.cli().env("SUPERSERVE_API_URL", &url);
    assert!(
        cli.run(&["whoami"]).failed(2).starts_with(&format!("error: Cannot reach the server at {url}: "))
    );
    let run = cli.run(&["secrets", "run", "demo", "--", "true"]).failed(125);
    assert!(!run.contains("Trying again"), "that does not pass: {run}");
    let (ca, stranger) = (authority.path("ca.pem"), Authority::new().path("ca.pem"));
    assert!(cli.run(&["whoami", "--ca-cert", &ca]).done().starts_with("Token:"));
    let trusting = cli.env("SUPERSERVE_CA_CERT", &ca);
    let whoami = trusting.run(&["whoami"]);
    assert_eq!((whoami.code, whoami.stderr.as_str()), (0, ""));
    let missing = trusting.run(&["whoami", "--ca-cert", &stranger]).failed(1);
    assert!(missing.starts_with("error: Cannot read the CA file "), "the flag wins: {missing}");
    let not_a_ca = trusting.run(&["whoami", "--ca-cert", &authority.path("key.pem")]);
    assert!(matches!(not_a_ca.code, 1 | 2) && not_a_ca.stdout.is_empty(), "{}", not_a_ca.stderr);
    // Plaintext to a port that speaks TLS gets no answer, and the words say where
    let plain = format!("http://127.0.0.1:{}", server.address().port());
    let refused = trusting.run(&["whoami", "--api-url", &plain]).failed(2);
    assert!(refused.starts_with(&format!("error: Cannot reach the server at {plain}: ")), "{refused}");
}

/// By SIGHUP, and back: nobody has to restart a server that is in trouble to see more of it.
#[tokio::test]
async fn a_running_server_takes_over_the_level_of_its_log() {
    let setup = Server::with(Database::Sqlite);
    let toml = setup.data_dir().join("settings.toml");
    fs::write(&toml, "log-level = \"info\"\n").unwrap();
    let server = setup.arg(&format!("--config={}", toml.display())).start();
    let refused = async || {
        let before = server.log().len();
        assert_eq!(server.rest().anonymous().get("/v1/agents").send().await.status, 401);
        // Its line comes after whatever else is told of it
        eventually("its line", async || server.log()[before..].contains("\"request\"").then_some(())).await;
        server.log()[before..].contains("a call was refused")
    };
    let becomes = async |settings: &str, word: &str| {
        fs::write(&toml, settings).unwrap();
        let before = server.log().len();
        server.signal_to_reload();
        eventually(word, async || server.log()[before..].contains(word).then_some(())).await;
    };
    assert!(!refused().await);

    becomes("log-level = \"debug\"\n", "the log has another level").await;
    assert!(refused().await, "{}", server.log());
    becomes("log-level = \"loud\"\n", "settings cannot be used any more").await;
    assert!(server.log().contains("--log-level"), "and why: {}", server.log());
    assert!(refused().await, "it stays as it was");
    becomes("log-level = \"info\"\n", "the log has another level").await;
    assert!(!refused().await);
}

/// A file on a system that does not answer is one, too.
#[test]
fn a_file_that_cannot_be_read_again_keeps_no_server_from_its_end() {
    let setup = Server::with(Database::Sqlite);
    let pipe = setup.data_dir().join("settings.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let once = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, "log-level = \"info\"\n").unwrap()
    });
    let mut server = setup.arg(&format!("--config={}", pipe.display())).start();
    once.join().unwrap();

    server.signal_to_reload();
    // It can be opened for writing without waiting once somebody reads it
    let mut writer = OpenOptions::new();
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    writer.write(true).custom_flags(nonblocking);
    let _writer = wait_for("a reader", || writer.open(&pipe).ok());
    server.terminate();
}
