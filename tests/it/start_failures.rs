//! A start that fails says why in one sentence, which names the setting by its flag and by its variable.

use std::{fs, net::TcpListener};

use crate::harness::{
    Database,
    server::{Server, Setup},
};

/// Variables, and what is said of them.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str]);

const SECRET: &str = "hunter2hunter2";

/// The words are in what `serve` says on its way out, the secret is not, and it says one sentence.
fn refuses(setup: &Setup, words: &[&str]) {
    let said = setup.run_serve().failed(1);
    for word in words {
        assert!(said.contains(word), "no {word}: {said}");
    }
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}

fn with() -> Setup {
    Server::with(Database::Sqlite)
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_setting() {
    let setup = with();
    let directory = setup.data_dir().to_owned();
    let file = |name: &str, content: &str| {
        fs::write(directory.join(name), content).unwrap();
        directory.join(name).to_str().unwrap().to_owned()
    };
    let text = file("text", SECRET);
    let inside = format!("{text}/inside");
    let keyring = file("broken.json", &format!("{{\"version\": 1, \"keys\": [\"{SECRET}\"]}}"));
    let cases: [Case<'_>; 13] = [
        (&[("SUPERSERVE_DATA_DIR", &inside)], &["--data-dir is SUPERSERVE_DATA_DIR", &inside]),
        (&[("SUPERSERVE_DATABASE_URL", &format!("sqlite://{inside}"))], &["SUPERSERVE_DATABASE_URL", &text]),
        (&[("SUPERSERVE_DATABASE_URL", &format!("sqlite://{text}"))], &["SUPERSERVE_DATABASE_URL", &text]),
        (&[("SUPERSERVE_DATABASE_URL", &format!("mysql://u:{SECRET}@h/d"))], &["--database-url"]),
        (
            &[("SUPERSERVE_DATABASE_URL", &format!("postgres://u:{SECRET}@127.0.0.1:1/d"))],
            &["--database-url is SUPERSERVE_DATABASE_URL", "127.0.0.1:1"],
        ),
        (&[("SUPERSERVE_KEYRING", &keyring)], &["--keyring is SUPERSERVE_KEYRING", &keyring]),
        (&[("SUPERSERVE_KEYRING", &inside)], &["--keyring is SUPERSERVE_KEYRING", &inside]),
        (
            &[("SUPERSERVE_TLS_CERT", "/nowhere"), ("SUPERSERVE_TLS_KEY", &text)],
            &["--tls-cert is SUPERSERVE_TLS_CERT", "/nowhere"],
        ),
        (&[("SUPERSERVE_TLS_CERT", &text), ("SUPERSERVE_TLS_KEY", &text)], &["SUPERSERVE_TLS_CERT", &text]),
        (&[("SUPERSERVE_TLS_CLIENT_CA", &text)], &["--tls-client-ca is SUPERSERVE_TLS_CLIENT_CA"]),
        (&[("SUPERSERVE_IDENTITIES", "/nowhere")], &["--identities is SUPERSERVE_IDENTITIES", "/nowhere"]),
        (&[("SUPERSERVE_IDENTITIES", &text)], &["--identities is SUPERSERVE_IDENTITIES", &text]),
        (&[("SUPERSERVE_CONFIG", "/nowhere")], &["--config", "/nowhere"]),
    ];
    for (variables, words) in cases {
        let setup = variables.iter().fold(with(), |setup, (name, value)| setup.env(name, value));
        refuses(&setup, words);
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let transit = || with().env("SUPERSERVE_KEY_PROVIDER", "transit");
    let cases = [
        (
            with().listen("0.0.0.0:0"),
            &["--listen is SUPERSERVE_LISTEN", "--insecure is SUPERSERVE_INSECURE"][..],
        ),
        (with().env("SUPERSERVE_TLS_KEY", "key.pem"), &["--tls-cert is SUPERSERVE_TLS_CERT"]),
        (transit(), &["--transit-address is SUPERSERVE_TRANSIT_ADDRESS"]),
        (transit().env("SUPERSERVE_TRANSIT_ADDRESS", "http://bao.example"), &["--transit-address", "https"]),
        (
            transit().env("SUPERSERVE_TRANSIT_ADDRESS", "https://bao.example"),
            &[
                "--transit-token-path is SUPERSERVE_TRANSIT_TOKEN_PATH",
                "--transit-role is SUPERSERVE_TRANSIT_ROLE",
            ],
        ),
        (with().env("SUPERSERVE_KEY_PROVIDER", "aws-kms"), &["--aws-kms-key is SUPERSERVE_AWS_KMS_KEY"]),
        (with().env("SUPERSERVE_BOOTSTRAP_TOKEN", SECRET), &["SUPERSERVE_BOOTSTRAP_TOKEN"]),
        (with().env("SUPERSERVE_LISTEN_FILE", "/nowhere"), &["SUPERSERVE_LISTEN_FILE"]),
    ];
    for (setup, words) in cases {
        refuses(&setup, words);
    }
}

#[test]
fn values_that_are_none_are_named() {
    for (flag, value) in [
        ("--request-timeout", "0"),
        ("--max-connection-age", "-1"),
        ("--rate-limit", "many"),
        ("--max-concurrent-requests", "x"),
        ("--max-value-bytes", "x"),
        ("--shutdown-timeout", "soon"),
        ("--auto-migrate", "perhaps"),
        ("--database-max-connections", "x"),
        ("--log-level", "loud"),
        ("--log-format", "xml"),
        ("--key-provider", "none"),
        ("--aws-kms-key", "no-arn"),
        ("--ops-listen", "here"),
    ] {
        let refused = with().run(&["serve", &format!("{flag}={value}")]).failed(1);
        assert!(refused.contains(flag), "{flag}: {refused}");
    }
}

#[test]
fn addresses_that_are_taken_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses(&with().listen(&address), &["--listen is SUPERSERVE_LISTEN", &address]);
    let ops = with().arg("--ops-listen").arg(&address);
    refuses(&ops, &["--ops-listen is SUPERSERVE_OPS_LISTEN", &address]);
}

#[test]
fn an_old_schema_that_may_not_be_changed_is_named() {
    let setup = with().env("SUPERSERVE_AUTO_MIGRATE", "false");
    assert_eq!(setup.run(&["keys", "generate"]).code, 0);
    refuses(&setup, &["superserve migrate", "--auto-migrate is SUPERSERVE_AUTO_MIGRATE"]);
}

#[tokio::test]
async fn readiness_has_reasons() {
    let server = Server::start(Database::Sqlite);
    let ask = async |path: &str| {
        let answer = server.ops().get(path).send().await;
        (answer.status.as_u16(), answer.text())
    };
    let ready = "[+]draining ok\n[+]database ok\n[+]schema ok\n[+]keys ok\nreadyz check passed\n";
    assert_eq!(ask("/readyz?verbose").await, (200, ready.to_owned()));
    let alive = "[+]runtime ok\n[+]listener ok\n[+]writer ok\nlivez check passed\n";
    assert_eq!(ask("/livez?verbose").await, (200, alive.to_owned()));
    assert_eq!(ask("/livez").await, (200, "ok\n".to_owned()));
    // A later version has changed the schema beyond what this one understands
    let sql = server.backdoor().await;
    sql.run("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000999_later', 1)").await;
    assert_eq!(ask("/readyz").await, (200, "ok\n".to_owned()), "it says nothing of that");
    sql.run("UPDATE schema_reach SET oldest = 999").await;
    let (status, why) = ask("/readyz").await;
    assert!(status == 503 && why.contains("m29991231_000999_later"), "{why}");
    let (status, lines) = ask("/readyz?verbose").await;
    assert!(status == 503 && lines.contains("[+]database ok\n[-]schema failed: "), "{lines}");
    assert_eq!(ask("/livez").await.0, 200, "a new start would not help");
}
