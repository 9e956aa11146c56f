//! Client certificates as identities: a SPIFFE id and the operator's rules instead of a token, and what does not pass for
//! one. Every case makes real handshakes with the real program.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use superserve::proto::v1::{
    AuditEvent, DeployAgentRequest, GetAgentRequest, ListAuditEventsRequest, ResolveSecretsRequest,
    SetSecretsRequest, WatchSecretsRequest, WhoAmIRequest, runtime_service_client::RuntimeServiceClient,
    tokens_service_client::TokensServiceClient,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use crate::harness::{
    Database, eventually,
    grpc::Grpc,
    on_each_database,
    pki::{Authority, Issued, in_seconds},
    server::Server,
};

const RUNNER: &str = "spiffe://prod.example/ns/agents/sa/runner";

on_each_database!(a_spiffe_certificate_resolves_an_agent);

/// A server with TLS, the authority of its clients, and its rules.
struct House {
    authority: Authority,
    clients: Authority,
    rules: TempDir,
    server: Server,
}

impl House {
    /// All that may call need a certificate, and one rule is for the runner.
    fn new(database: Database, more: &[&str]) -> Self {
        let (authority, clients) = (Authority::new(), Authority::new());
        let rules = TempDir::new().unwrap();
        let path = rules.path().join("identities.toml");
        fs::write(&path, rule("/ns/agents/sa/runner", "secrets:resolve")).unwrap();
        let client_ca = format!("--tls-client-ca={}", clients.path("ca.pem"));
        let identities = format!("--identities={}", path.display());
        let server = authority
            .setup_on(database, &[&[client_ca.as_str(), identities.as_str()][..], more].concat())
            .start();
        Self { authority, clients, rules, server }
    }

    fn write_rules(&self, rules: &str) {
        // At once, as everything that others read
        let path = self.rules.path().join("identities.toml");
        fs::write(path.with_extension("new"), rules).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// A certificate of this URI, as SPIFFE has it.
    fn svid(&self, uri: &str) -> Issued {
        self.clients.issue_with(|params| as_svid(params, &[uri]))
    }

    async fn channel(&self, identity: &Issued) -> Channel {
        self.authority.channel(&self.server, Some(identity)).await.unwrap()
    }

    /// A person with a token, who shows a certificate too, as all have to.
    async fn admin(&self) -> Grpc {
        let channel = self.channel(&self.clients.issue()).await;
        Grpc::on(channel, self.server.admin_token())
    }

    /// An agent with a secret, by its id.
    async fn agent(&self, name: &str) -> String {
        let mut admin = self.admin().await;
        let deploy = DeployAgentRequest { name: name.to_owned(), ..Default::default() };
        let agent = admin.agents.deploy_agent(deploy).await.unwrap().into_inner().agent.unwrap();
        let set = SetSecretsRequest {
            agent_id: agent.id.clone(),
            secrets: [("KEY".to_owned(), "value-of-the-key".to_owned())].into(),
            ..Default::default()
        };
        admin.secrets.set_secrets(set).await.unwrap();
        agent.id
    }

    async fn events(&self, agent: &str) -> Vec<AuditEvent> {
        let list = ListAuditEventsRequest { agent_id: agent.to_owned(), ..Default::default() };
        self.admin().await.audit.list_audit_events(list).await.unwrap().into_inner().events
    }

    /// Which status a call gets that has this certificate and no token; `None` if there is no connection for it.
    async fn status(&self, identity: &Issued) -> Option<u16> {
        let answer = self.authority.get(&self.server, "h2", Some(identity), None).await.ok()?;
        Some(answer.status().as_u16())
    }
}

/// What the SPIFFE specification asks of a leaf.
fn as_svid(params: &mut CertificateParams, uris: &[&str]) {
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}

/// A file with one rule.
fn rule(path: &str, scope: &str) -> String {
    format!(
        "[spiffe]\ntrust_domain = \"prod.example\"\n\n[[spiffe.rules]]\npath = {path:?}\n\
         scopes = [{scope:?}]\ntenant = \"ten_default\"\nagents = \"all\"\n"
    )
}

async fn resolve(channel: &Channel, agent: &str) -> Result<String, Code> {
    let request = ResolveSecretsRequest { agent_id: agent.to_owned(), ..Default::default() };
    let answer = RuntimeServiceClient::new(channel.clone()).resolve_secrets(request).await;
    answer.map(|answer| answer.into_inner().env["KEY"].clone()).map_err(|status| status.code())
}

async fn who_am_i(channel: &Channel) -> Result<String, Code> {
    let answer = TokensServiceClient::new(channel.clone()).who_am_i(WhoAmIRequest {}).await;
    answer.map(|answer| answer.into_inner().token.unwrap().id).map_err(|status| status.code())
}

async fn a_spiffe_certificate_resolves_an_agent(database: Database) {
    let house = House::new(database, &[]);
    let agent = house.agent("demo").await;
    let channel = house.channel(&house.svid(RUNNER)).await;

    assert_eq!(resolve(&channel, &agent).await.as_deref(), Ok("value-of-the-key"));

    let events = house.events(&agent).await;
    let event = events.iter().find(|event| event.action == "secrets.resolve").unwrap();
    assert_eq!(event.actor, RUNNER, "the trail names it");
    assert_eq!(who_am_i(&channel).await.as_deref(), Ok(RUNNER));
    // It may what the rule says, and nothing else
    let get = GetAgentRequest { agent_id: agent.clone() };
    let mut agents = superserve::proto::v1::agents_service_client::AgentsServiceClient::new(channel.clone());
    assert_eq!(agents.get_agent(get).await.unwrap_err().code(), Code::PermissionDenied);
    // The line of a request may come a moment after its answer
    let request = eventually("the line of the call", async || {
        house.server.log().lines().rfind(|line| line.contains("ResolveSecrets")).map(str::to_owned)
    });
    let request = request.await;
    assert!(request.contains(&format!("\"principal\":\"{RUNNER}\"")), "{request}");
    assert!(!house.server.log().contains("value-of-the-key"));
    // It is nobody any more from the first step of its tenant's deletion on
    let begun = "UPDATE tenants SET deleted_at = 1 WHERE id = 'ten_default'";
    assert_eq!(house.server.backdoor().await.change(begun, []).await, 1);
    assert_eq!(resolve(&channel, &agent).await, Err(Code::Unauthenticated));
}

/// Those that get no connection: rustls refuses them, whatever they name.
fn refused(house: &House) -> Vec<(&'static str, Issued)> {
    let issue = |change: &dyn Fn(&mut CertificateParams)| house.clients.issue_with(change);
    let runner = |params: &mut CertificateParams| as_svid(params, &[RUNNER]);
    vec![
        ("of another authority", Authority::new().issue_with(runner)),
        (
            "expired",
            issue(&|params| {
                runner(params);
                in_seconds(-7200).until(in_seconds(-60), params);
            }),
        ),
        (
            "not yet valid",
            issue(&|params| {
                runner(params);
                in_seconds(600).until(in_seconds(7200), params);
            }),
        ),
        (
            "for servers only",
            issue(&|params| {
                runner(params);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "an authority's",
            issue(&|params| {
                runner(params);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
    ]
}

/// Those that get a connection, and are nobody on it.
fn nobody(house: &House) -> Vec<(&'static str, Issued)> {
    let issue = |change: &dyn Fn(&mut CertificateParams)| house.clients.issue_with(change);
    let svid = |uris: &'static [&str]| move |params: &mut CertificateParams| as_svid(params, uris);
    let runner = svid(&[RUNNER]);
    vec![
        ("no names", issue(&svid(&[]))),
        ("two URIs", issue(&svid(&[RUNNER, "spiffe://prod.example/ns/agents/sa/other"]))),
        ("the same URI twice", issue(&svid(&[RUNNER, RUNNER]))),
        ("two URIs, one of another kind", issue(&svid(&[RUNNER, "https://prod.example/"]))),
        (
            "the id as a DNS name",
            issue(&|params| {
                runner(params);
                params.subject_alt_names = vec![SanType::DnsName(RUNNER.try_into().unwrap())];
            }),
        ),
        ("another trust domain", issue(&svid(&["spiffe://test.example/ns/agents/sa/runner"]))),
        ("a longer trust domain", issue(&svid(&["spiffe://prod.example.evil/ns/agents/sa/runner"]))),
        ("a trust domain in capitals", issue(&svid(&["spiffe://PROD.example/ns/agents/sa/runner"]))),
        ("the rule's path and more of it", issue(&svid(&["spiffe://prod.example/ns/agents/sa/runner2"]))),
        ("the rule's path and a segment", issue(&svid(&["spiffe://prod.example/ns/agents/sa/runner/x"]))),
        ("less than the rule's path", issue(&svid(&["spiffe://prod.example/ns/agents/sa"]))),
        ("only a trust domain", issue(&svid(&["spiffe://prod.example"]))),
        ("a way around", issue(&svid(&["spiffe://prod.example/ns/x/../agents/sa/runner"]))),
        ("an encoded path", issue(&svid(&["spiffe://prod.example/ns/agents/sa/%72unner"]))),
        ("another scheme", issue(&svid(&["https://prod.example/ns/agents/sa/runner"]))),
        (
            "no extended key usage",
            issue(&|params| {
                runner(params);
                params.extended_key_usages = Vec::new();
            }),
        ),
        (
            "no key usage",
            issue(&|params| {
                runner(params);
                params.key_usages = Vec::new();
            }),
        ),
        (
            "a key that may sign certificates",
            issue(&|params| {
                runner(params);
                params.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }),
        ),
    ]
}

#[tokio::test]
async fn forged_and_foreign_certificates_are_nobody() {
    let house = House::new(Database::Sqlite, &[]);
    let agent = house.agent("demo").await;
    assert_eq!(house.status(&house.svid(RUNNER)).await, Some(200), "what the others are forgeries of");

    for (what, certificate) in &refused(&house) {
        assert_eq!(house.status(certificate).await, None, "{what}");
        let called = match house.authority.channel(&house.server, Some(certificate)).await {
            Ok(channel) => resolve(&channel, &agent).await,
            Err(_refused) => Err(Code::Unavailable),
        };
        assert!(called.is_err() && called != Err(Code::Unauthenticated), "{what}: {called:?}");
    }

    for (what, certificate) in &nobody(&house) {
        for alpn in ["h2", "http/1.1"] {
            let answer = house.authority.get(&house.server, alpn, Some(certificate), None).await.unwrap();
            assert_eq!(answer.status(), 401, "{what}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{what}");
        }
        let channel = house.channel(certificate).await;
        assert_eq!(resolve(&channel, &agent).await, Err(Code::Unauthenticated), "{what}");
    }
    let resolved = house.events(&agent).await.iter().any(|event| event.action.contains("resolve"));
    assert!(!resolved, "nothing was given, and nobody is on record");
}

#[tokio::test]
async fn a_rule_for_all_below_a_path_is_for_no_path_that_begins_like_it() {
    let house = House::new(Database::Sqlite, &[]);
    house.write_rules(&rule("/ns/a/**", "agents:read"));
    house.server.reload().await;
    for (path, status) in [
        ("/ns/a/sa/x", 200),
        ("/ns/a/x", 200),
        ("/ns/ab/sa/x", 401),
        ("/ns/ab", 401),
        ("/ns/a", 401),
        ("/x/ns/a/sa/x", 401),
    ] {
        let certificate = house.svid(&format!("spiffe://prod.example{path}"));
        assert_eq!(house.status(&certificate).await, Some(status), "{path}");
    }
}

#[tokio::test]
async fn an_identity_reaches_its_agents_and_its_tenant_only() {
    let house = House::new(Database::Sqlite, &[]);
    let (own, other) = (house.agent("own").await, house.agent("other").await);
    house.write_rules(&format!(
        "[spiffe]\ntrust_domain = \"prod.example\"\n\
         [[spiffe.rules]]\npath = \"/one\"\nscopes = [\"secrets:resolve\"]\nagents = [\"{own}\"]\ntenant = \"ten_default\"\n\
         [[spiffe.rules]]\npath = \"/agents/{{agent}}\"\nscopes = [\"secrets:resolve\"]\ntenant = \"ten_default\"\n\
         [[spiffe.rules]]\npath = \"/elsewhere\"\nscopes = [\"secrets:resolve\"]\ntenant = \"ten_other\"\nagents = \"all\"\n\
         [[spiffe.rules]]\npath = \"/**\"\nscopes = [\"secrets:resolve\"]\ntenant = \"ten_default\"\nagents = \"all\"\n"
    ));
    house.server.reload().await;
    let ok = Ok("value-of-the-key".to_owned());
    for (path, of_own, of_other) in [
        ("/one", &ok, &Err(Code::NotFound)),
        (format!("/agents/{own}").as_str(), &ok, &Err(Code::NotFound)),
        ("/elsewhere", &Err(Code::NotFound), &Err(Code::NotFound)),
        ("/anybody/else", &ok, &ok),
    ] {
        let channel = house.channel(&house.svid(&format!("spiffe://prod.example{path}"))).await;
        assert_eq!(&resolve(&channel, &own).await, of_own, "{path}");
        assert_eq!(&resolve(&channel, &other).await, of_other, "{path}");
    }
}

#[tokio::test]
async fn a_token_beside_a_certificate_decides() {
    let house = House::new(Database::Sqlite, &[]);
    let agent = house.agent("demo").await;
    let certificate = house.svid(RUNNER);
    let channel = house.channel(&certificate).await;
    assert!(resolve(&channel, &agent).await.is_ok());
    // The admin's token may not resolve, though the certificate may
    let mut admin = Grpc::on(channel.clone(), house.server.admin_token());
    let request = ResolveSecretsRequest { agent_id: agent.clone(), ..Default::default() };
    assert_eq!(
        admin.runtime.resolve_secrets(request.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    // It may what the certificate may not
    admin.agents.get_agent(GetAgentRequest { agent_id: agent.clone() }).await.unwrap();
    // A token that is not valid is not made good by a certificate
    for token in ["ss_not-a-token", house.server.admin_token().to_uppercase().as_str()] {
        let mut broken = Grpc::on(channel.clone(), token);
        let refused = broken.runtime.resolve_secrets(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token}");
        let answer = house.authority.get(&house.server, "h2", Some(&certificate), Some(token)).await;
        assert_eq!(answer.unwrap().status(), 401, "{token}");
    }
}

#[tokio::test]
async fn rules_are_read_again_and_broken_ones_refused() {
    let house = House::new(Database::Sqlite, &[]);
    let certificate = house.svid(RUNNER);
    assert_eq!(house.status(&certificate).await, Some(200));
    // By looking
    house.write_rules(&rule("/ns/agents/sa/other", "secrets:resolve"));
    eventually("the rules to be read", async || {
        (house.status(&certificate).await == Some(401)).then_some(())
    })
    .await;
    assert_eq!(house.status(&house.svid("spiffe://prod.example/ns/agents/sa/other")).await, Some(200));
    // By being asked
    house.write_rules(&rule("/ns/agents/sa/runner", "secrets:resolve"));
    house.server.reload().await;
    assert_eq!(house.status(&certificate).await, Some(200));
    house.write_rules(&rule("/ns/agents/sa/runner", "everything"));
    house.server.reload().await;
    assert_eq!(house.status(&certificate).await, Some(200), "the ones before stay");
    let log = house.server.log();
    let refusal = log.lines().rfind(|line| line.contains("files cannot be used")).unwrap();
    assert!(refusal.contains("line 4: ") && refusal.contains("is no scope"), "{refusal}");
}

#[tokio::test]
async fn an_authority_that_is_taken_away_ends_its_clients() {
    let house = House::new(Database::Sqlite, &[]);
    let agent = house.agent("demo").await;
    let old = house.channel(&house.svid(RUNNER)).await;
    assert!(resolve(&old, &agent).await.is_ok());
    // Both, while the new one's certificates are handed out
    let next = Authority::new();
    let new_svid = next.issue_with(|params| as_svid(params, &[RUNNER]));
    assert_eq!(house.status(&new_svid).await, None);
    house.clients.exchange(&house.clients.issue(), &format!("{}{}", house.clients.pem(), next.pem()));
    eventually("the new authority to be taken", async || {
        (house.status(&new_svid).await == Some(200)).then_some(())
    })
    .await;
    assert!(resolve(&old, &agent).await.is_ok(), "and the old one's go on");
    let new = house.channel(&new_svid).await;
    // Then without the old one: its connections end, and the new one's stay
    let mut watch = RuntimeServiceClient::new(old.clone());
    house.write_rules(&rule("/ns/agents/sa/runner", "secrets:list"));
    house.server.reload().await;
    let request = WatchSecretsRequest { agent_id: agent.clone() };
    let mut watch = watch.watch_secrets(request.clone()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let mut kept = RuntimeServiceClient::new(new).watch_secrets(request).await.unwrap().into_inner();
    kept.message().await.unwrap().unwrap();
    house.clients.exchange(&house.clients.issue(), &next.pem());
    house.server.reload().await;
    watch.message().await.unwrap_err();
    assert!(resolve(&old, &agent).await.is_err(), "nor can it come back");
    let still = tokio::time::timeout(std::time::Duration::from_millis(200), kept.message()).await;
    assert!(still.is_err(), "{still:?}");
}

#[tokio::test]
async fn an_identity_ends_with_its_certificate() {
    let house = House::new(Database::Sqlite, &[]);
    let agent = house.agent("demo").await;
    house.write_rules(
        &rule("/ns/agents/sa/runner", "secrets:resolve")
            .replace("scopes = [", "scopes = [\"secrets:list\", "),
    );
    house.server.reload().await;
    let short = house.clients.issue_with(|params| {
        as_svid(params, &[RUNNER]);
        in_seconds(-60).until(in_seconds(15), params);
    });
    let channel = house.channel(&short).await;
    assert!(resolve(&channel, &agent).await.is_ok());
    let request = WatchSecretsRequest { agent_id: agent.clone() };
    let watch = RuntimeServiceClient::new(channel.clone()).watch_secrets(request).await;
    let mut watch = watch.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    // On the connection that was good when it was made
    let ended = eventually("the certificate to end", async || resolve(&channel, &agent).await.err()).await;
    assert!([Code::Unauthenticated, Code::Unavailable, Code::Unknown].contains(&ended), "{ended:?}");
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(house.status(&short).await, None, "nor does it make a new one");
}

#[tokio::test]
async fn a_watch_ends_when_the_rules_are_others() {
    let house = House::new(Database::Sqlite, &[]);
    let agent = house.agent("demo").await;
    house.write_rules(&rule("/ns/agents/sa/runner", "secrets:list"));
    house.server.reload().await;
    let channel = house.channel(&house.svid(RUNNER)).await;
    let request = WatchSecretsRequest { agent_id: agent };
    let watch = RuntimeServiceClient::new(channel.clone()).watch_secrets(request.clone()).await;
    let mut watch = watch.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    // It outlives the looks at the tokens of watchers, of which it has none
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(7), watch.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    house.server.reload().await;
    house.write_rules(&rule("/ns/agents/sa/other", "secrets:list"));
    house.server.reload().await;
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unauthenticated);
    let again = RuntimeServiceClient::new(channel).watch_secrets(request).await;
    assert_eq!(again.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn who_shows_none_needs_a_token_where_none_is_required() {
    let house = House::new(Database::Sqlite, &["--tls-client-required=false"]);
    let (authority, server) = (&house.authority, &house.server);
    assert_eq!(authority.get(server, "h2", None, Some(server.admin_token())).await.unwrap().status(), 200);
    assert_eq!(authority.get(server, "h2", None, None).await.unwrap().status(), 401);
    assert_eq!(house.status(&house.svid(RUNNER)).await, Some(200));
    // One that is shown has to be good, also beside a token
    let stranger = Authority::new().issue();
    authority.get(server, "h2", Some(&stranger), Some(server.admin_token())).await.unwrap_err();
}

#[tokio::test]
async fn the_command_line_goes_on_with_tokens_where_none_is_required() {
    let house = House::new(Database::Sqlite, &["--tls-client-required=false"]);
    let url = format!("https://localhost:{}", house.server.address().port());
    let cli = house.server.cli().env("SUPERSERVE_API_URL", &url);
    let cli = cli.env("SUPERSERVE_CA_CERT", &house.authority.path("ca.pem"));
    assert!(cli.run(&["whoami"]).done().starts_with("Token:"));
}

#[test]
fn settings_that_would_make_nobody_known_are_refused() {
    let (authority, rules) = (Authority::new(), TempDir::new().unwrap());
    let path = rules.path().join("identities.toml");
    let identities = format!("--identities={}", path.display());
    let client_ca = format!("--tls-client-ca={}", authority.path("ca.pem"));
    let (identities, client_ca) = (identities.as_str(), client_ca.as_str());
    for (text, more, words) in [
        (
            rule("/a", "secrets:list"),
            &[identities][..],
            "no client is asked for a certificate: give --tls-client-ca",
        ),
        (rule("/a*", "secrets:list"), &[identities, client_ca][..], "line 4: spiffe: rule 1: path \"/a*\""),
        ("[spiffe]".to_owned(), &[identities, client_ca][..], "missing field `trust_domain`"),
    ] {
        fs::write(&path, text).unwrap();
        let refused = authority.setup(more).run_serve();
        assert!(refused.code == 1 && refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    fs::remove_file(&path).unwrap();
    let refused = authority.setup(&[identities, client_ca]).run_serve();
    assert!(refused.code == 1 && refused.stderr.contains("cannot be read"), "{}", refused.stderr);
}
