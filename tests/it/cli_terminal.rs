//! What a person at a terminal is asked, sees and does not see; and that nobody is waited for without one.
//!
//! The terminal is a real one (a pseudo-terminal), so what it shows is what the program wrote and what the terminal
//! itself echoed.

use rexpect::process::wait::WaitStatus;
use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::{Cli, OnTerminal},
    fixtures::secrets_of,
    server::Server,
};

/// A terminal, and all that it has shown.
struct Screen {
    session: OnTerminal,
    shown: String,
}

// === impl Screen ===

impl Screen {
    fn of(session: OnTerminal) -> Self {
        Self { session, shown: String::new() }
    }

    /// Waits until it shows this.
    fn expect(&mut self, text: &str) {
        let before = self.session.exp_string(text);
        let before = before.unwrap_or_else(|error| panic!("{error}; before it: {}", self.shown));
        self.shown.push_str(&before);
        self.shown.push_str(text);
    }

    /// Waits until it asks this, and answers.
    fn answer(&mut self, question: &str, answer: &str) {
        self.expect(question);
        self.session.send_line(answer).unwrap();
    }

    /// Waits until the command has ended, and gives its exit code and all that was shown.
    fn end(mut self) -> (i32, String) {
        self.shown.push_str(&self.session.exp_eof().unwrap());
        let status = self.session.process.wait().unwrap();
        let WaitStatus::Exited(_, code) = status else { panic!("{status:?}: {}", self.shown) };
        (code, self.shown)
    }
}

fn listed(cli: &Cli) -> String {
    cli.run(&["secrets", "list", "my-agent"]).done()
}

#[tokio::test]
async fn values_are_asked_for_and_never_shown() {
    let server = Server::start(Database::Sqlite);
    let described = json!([
        {"name": "API_KEY", "description": "from the console"}, "SECOND", "SKIPPED",
        {"name": "EXTRA", "optional": true},
    ]);
    let agent =
        server.rest().post("/v1/agents").json(&json!({"name": "my-agent", "required_secrets": described}));
    let id = agent.send().await.json()["id"].as_str().unwrap().to_owned();
    let cli = server.cli();

    let mut screen = Screen::of(cli.on_terminal(&["secrets", "set", "my-agent"]));
    screen.expect("Required by agent 'my-agent' (Enter alone passes one over):");
    screen.expect("API_KEY: from the console");
    screen.answer("API_KEY: ", "sk-sentinel with space");
    screen.answer("SECOND: ", "second-sentinel");
    screen.answer("SKIPPED: ", "");
    screen.answer("Name of another secret (Enter alone to end): ", "no-name");
    screen.expect("a key is letters");
    screen.answer("Name of another secret (Enter alone to end): ", "MORE");
    screen.answer("MORE: ", "more-sentinel");
    screen.answer("Name of another secret (Enter alone to end): ", "");
    screen.expect("Set 3 secret(s) for agent 'my-agent'\r\nCurrent secrets: API_KEY, MORE, SECOND\r\n");
    let (code, shown) = screen.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("sentinel") && !shown.contains("with space"), "{shown}");
    assert!(shown.contains("no-name"), "what is not hidden is seen: {shown}");

    // A key alone is asked for, as often as it takes; a value among the arguments is warned of
    let mut screen = Screen::of(cli.on_terminal(&["secrets", "set", "my-agent", "SKIPPED", "INLINE=i"]));
    screen.expect("warning: a value on the command line can be seen by others; KEY alone asks for it hidden");
    screen.answer("SKIPPED: ", "");
    screen.expect("SKIPPED: an empty value is refused");
    screen.answer("SKIPPED: ", "typed-sentinel");
    screen.expect("Set 2 secret(s) for agent 'my-agent'");
    let (code, shown) = screen.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("sentinel"), "{shown}");

    let env = server.runner("my-agent").run(&["secrets", "run", "my-agent", "--", "env"]).done();
    for line in ["API_KEY=sk-sentinel with space", "SECOND=second-sentinel", "SKIPPED=typed-sentinel"] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    let keys = server.rest().get(&secrets_of(&id)).send().await;
    assert_eq!(keys.json()["keys"], json!(["API_KEY", "INLINE", "MORE", "SECOND", "SKIPPED"]));

    // A value of several lines cannot be typed: the rest of it would be read as answers
    let mut screen = Screen::of(cli.on_terminal(&["secrets", "set", "my-agent", "PEM"]));
    screen.answer("PEM: ", "-----BEGIN PRIVATE KEY-----");
    screen.expect("PEM=@FILE");
    assert_eq!(screen.end().0, 1);
}

#[test]
fn deleting_and_pruning_are_confirmed() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent"]).done();
    cli.run(&["secrets", "set", "my-agent", "A=a", "B=b", "C=c"]).done();
    let all = "Secrets for agent 'my-agent':\n  - A\n  - B\n  - C\n";

    let question = "Delete secret 'A' from agent 'my-agent'? (y/N)";
    for (no, ending) in [("n", "Cancelled"), ("", "Cancelled"), ("yep", "Cancelled")] {
        let mut screen = Screen::of(cli.on_terminal(&["secrets", "delete", "my-agent", "A"]));
        screen.answer(question, no);
        screen.expect(ending);
        assert_eq!(screen.end().0, 1);
        assert_eq!(listed(&cli), all);
    }
    // One "no" keeps them all
    let mut screen = Screen::of(cli.on_terminal(&["secrets", "delete", "my-agent", "A", "B"]));
    screen.answer(question, "y");
    screen.answer("Delete secret 'B' from agent 'my-agent'? (y/N)", "n");
    assert_eq!(screen.end().0, 1);
    assert_eq!(listed(&cli), all);
    let mut screen = Screen::of(cli.on_terminal(&["secrets", "delete", "my-agent", "A"]));
    screen.answer(question, "y");
    screen.expect("Remaining secrets: B, C\r\n");
    assert_eq!(screen.end().0, 0);

    let prune = ["secrets", "set", "my-agent", "B=b2", "--prune"];
    let mut screen = Screen::of(cli.on_terminal(&prune));
    screen.answer("Delete C from agent 'my-agent'? (y/N)", "n");
    assert_eq!(screen.end().0, 1);
    assert_eq!(listed(&cli), "Secrets for agent 'my-agent':\n  - B\n  - C\n");
    let mut screen = Screen::of(cli.on_terminal(&prune));
    screen.answer("Delete C from agent 'my-agent'? (y/N)", "y");
    screen.expect("Deleted secrets: C\r\nCurrent secrets: B\r\n");
    assert_eq!(screen.end().0, 0);

    let mut screen = Screen::of(cli.on_terminal(&["agents", "delete", "my-agent"]));
    screen.answer("Delete agent 'my-agent' with all its secrets, for ever? (y/N)", "y");
    screen.expect("Deleted agent 'my-agent'\r\n");
    assert_eq!(screen.end().0, 0);
}

#[test]
fn a_deploy_that_would_drop_all_requirements_is_confirmed() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    let required = || {
        let agent: Value =
            serde_json::from_str(&cli.run(&["agents", "get", "my-agent", "--json"]).done()).unwrap();
        agent["required_secrets"].clone()
    };
    let deploy = ["agents", "deploy", "my-agent"];
    // Nobody is asked about an agent that is new, or that goes on requiring something
    for (requires, told) in
        [(&["--require", "A,B"][..], "Created"), (&["--require", "A"], "No longer required: B")]
    {
        let mut screen = Screen::of(cli.on_terminal(&[&deploy[..], requires].concat()));
        screen.expect(told);
        let (code, shown) = screen.end();
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains("(y/N)"), "{shown}");
    }
    let question = "No longer require A of agent 'my-agent'? (y/N)";
    let mut screen = Screen::of(cli.on_terminal(&[&deploy[..], &["--command", "./agent"]].concat()));
    screen.answer(question, "n");
    screen.expect("Cancelled: nothing was changed.");
    assert_eq!(screen.end().0, 1);
    assert_eq!(required(), json!(["A"]));
    let mut screen = Screen::of(cli.on_terminal(&deploy));
    screen.answer(question, "y");
    screen.expect("Updated agent 'my-agent'");
    screen.expect("No longer required: A\r\n");
    assert_eq!(screen.end().0, 0);
    assert_eq!(required(), json!([]));
    // There is nothing left to ask about; and whoever says so beforehand is not asked
    for before in [&["--require", "A"][..], &["--yes"], &[]] {
        let (code, shown) = Screen::of(cli.on_terminal(&[&deploy[..], before].concat())).end();
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains("(y/N)"), "{shown}");
    }
    assert_eq!(required(), json!([]));
}

#[test]
fn giving_up_leaves_the_terminal_as_it_was() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent"]).done();
    let ask = r#"stty -a > before; "$0" secrets set my-agent KEY; echo "code $?"; stty -a > after"#;
    for (key, code, said) in [('c', 130, "Interrupted."), ('d', 1, "Cancelled: nothing was changed.")] {
        let mut screen = Screen::of(cli.script_on_terminal(ask));
        screen.expect("KEY: ");
        screen.session.send("half-sentinel").unwrap();
        if key == 'd' {
            // The end of input is one only at the beginning of a line
            screen.session.send_control('u').unwrap();
        }
        screen.session.send_control(key).unwrap();
        screen.expect(said);
        screen.expect(&format!("code {code}\r\n"));
        let (_, shown) = screen.end();
        assert!(!shown.contains("half"), "{shown}");
        let [before, after] =
            ["before", "after"].map(|file| std::fs::read_to_string(cli.home().join(file)).unwrap());
        assert_eq!(before, after);
        assert!(after.split_whitespace().any(|mode| mode == "echo"), "{after}");
    }
    assert_eq!(listed(&cli), "No secrets configured for agent 'my-agent'\n");

    // Also where an answer may be seen
    cli.run(&["secrets", "set", "my-agent", "A=a"]).done();
    let script = r#"trap : INT; "$0" secrets delete my-agent A; echo "code $?""#;
    let mut screen = Screen::of(cli.script_on_terminal(script));
    screen.expect("(y/N) ");
    screen.session.send_control('c').unwrap();
    screen.expect("code 130\r\n");
    screen.end();
    assert_eq!(listed(&cli), "Secrets for agent 'my-agent':\n  - A\n");
}

#[test]
fn login_asks_hidden() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    let mut screen = Screen::of(cli.on_terminal(&["login"]));
    screen.answer("Token: ", server.admin_token());
    screen.expect("Logged in at http://127.0.0.1:");
    let (code, shown) = screen.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains(&server.admin_token()[..8]), "{shown}");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(cli.home().join(".superserve/auth.json")).unwrap()).unwrap();
    assert_eq!(kept, json!({"token": server.admin_token()}));
    cli.run(&["whoami"]).done();

    let other = server.cli().without_env("SUPERSERVE_TOKEN");
    let mut screen = Screen::of(other.on_terminal(&["login"]));
    screen.answer("Token: ", "ss_sentinel");
    screen.expect("The token is malformed");
    let (code, shown) = screen.end();
    assert_eq!(code, 1, "{shown}");
    assert!(!shown.contains("sentinel"), "{shown}");
    assert!(!other.home().join(".superserve").exists());
}

#[test]
fn nobody_is_waited_for_without_a_terminal() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent", "--require", "A"]).done();
    cli.run(&["secrets", "set", "my-agent", "B=b"]).done();
    for (command, instead) in [
        ("secrets set my-agent", "Give KEY=- with the value on stdin, KEY=@FILE, or --env-file FILE."),
        ("secrets set my-agent A", "Give A=- with the value on stdin, A=@FILE, or --env-file FILE."),
        ("secrets set my-agent A=a --prune", "pass --yes"),
        ("secrets delete my-agent B", "pass --yes"),
        ("agents delete my-agent", "pass --yes"),
        ("login", "give it on stdin: `superserve login < data/admin-token`"),
    ] {
        for stdin in ["</dev/null", "<&-"] {
            let output = cli.script(&format!(r#""$0" {command} {stdin}"#));
            let stderr = output.failed(1);
            assert!(stderr.contains(instead), "{command} {stdin}: {stderr}");
        }
    }
    assert_eq!(listed(&cli), "Secrets for agent 'my-agent':\n  - B\n");
    // Without a terminal there is nobody to warn: a script knows what it does
    let set = cli.run(&["secrets", "set", "my-agent", "A=a"]);
    assert_eq!((set.code, set.stderr.as_str()), (0, ""));
}
