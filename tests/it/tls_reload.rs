//! Certificates that are exchanged while the server runs, and what is told of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use superserve::proto::v1::{DeployAgentRequest, WatchSecretsRequest};
use tokio::task::JoinSet;

use crate::harness::{
    eventually,
    grpc::Grpc,
    pki::{Authority, Issued, in_seconds},
    server::Server,
};

const HOUR: i64 = 3600;

/// What the log says when files were taken, and when not.
const TAKEN: &str = "files read again: what they hold is used from now on";
const REFUSED: &str = "files cannot be used: what was in use stays in use";
const BACK: &str = "files read again: they hold what is in use";

/// The certificate that a new connection gets.
async fn shown(authority: &Authority, server: &Server) -> CertificateDer<'static> {
    let stream = authority.connect(server, "h2", None).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn until_shown(authority: &Authority, server: &Server, issued: &Issued) {
    eventually("new connections to get the new certificate", async || {
        (shown(authority, server).await == *issued.certificate.der()).then_some(())
    })
    .await;
}

async fn until_logged(server: &Server, words: &str, times: usize) {
    eventually("the log to say it", async || (server.log().matches(words).count() >= times).then_some(()))
        .await;
}

async fn metric(server: &Server, name: &str) -> String {
    let text = server.ops().get("/metrics").send().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// A new certificate of the same authority in the place of the one before.
fn renew(authority: &Authority) -> Issued {
    let issued = authority.issue();
    authority.exchange(&issued, &authority.pem());
    issued
}

/// Clients that go on calling until they are told to stop: those that keep a connection, and those that make a new one for
/// each call.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    async fn begin(authority: &Arc<Authority>, server: &Arc<Server>) -> Self {
        let mut load = Self { stop: Arc::default(), calls: Arc::default(), clients: JoinSet::new() };
        for _ in 0..4 {
            let channel = authority.channel(server, None).await.unwrap();
            let mut grpc = Grpc::on(channel, server.admin_token());
            let (stop, calls) = (Arc::clone(&load.stop), Arc::clone(&load.calls));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let deploy = DeployAgentRequest { name: "load".to_owned(), ..Default::default() };
                    grpc.agents.deploy_agent(deploy).await.unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for alpn in ["h2", "http/1.1"] {
            let (authority, server) = (Arc::clone(authority), Arc::clone(server));
            let (stop, calls) = (Arc::clone(&load.stop), Arc::clone(&load.calls));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let token = Some(server.admin_token());
                    let answer = authority.get(&server, alpn, None, token).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits until each client has had time for some more calls.
    async fn goes_on(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        eventually("more calls", async || (self.calls.load(Ordering::Relaxed) >= before + 60).then_some(()))
            .await;
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no call failed");
        }
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load_without_a_failed_call() {
    let authority = Arc::new(Authority::new());
    let server = Arc::new(authority.serve(&[]));
    let mut grpc = Grpc::on(authority.channel(&server, None).await.unwrap(), server.admin_token());
    let deploy = DeployAgentRequest { name: "watched".to_owned(), ..Default::default() };
    let agent = grpc.agents.deploy_agent(deploy).await.unwrap().into_inner().agent.unwrap();
    let watch = WatchSecretsRequest { agent_id: agent.id.clone() };
    let mut watch = grpc.runtime.watch_secrets(watch).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();

    let load = Load::begin(&authority, &server).await;
    for _ in 0..5 {
        let issued = renew(&authority);
        server.signal_to_reload();
        until_shown(&authority, &server, &issued).await;
        load.goes_on().await;
    }
    // And once by nothing but looking at the files
    let issued = renew(&authority);
    until_shown(&authority, &server, &issued).await;
    load.goes_on().await;
    let calls = load.end().await;

    assert!(calls >= 6 * 60, "{calls}");
    assert_eq!(server.log().matches(TAKEN).count(), 6);
    let set = superserve::proto::v1::SetSecretsRequest {
        agent_id: agent.id,
        secrets: [("A".to_owned(), "x".to_owned())].into(),
        ..Default::default()
    };
    grpc.secrets.set_secrets(set).await.unwrap();
    let news = tokio::time::timeout(Duration::from_secs(10), watch.message()).await;
    assert!(news.expect("the watch is told").unwrap().is_some(), "it has lived through all of it");
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_is_told_once() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    let first = shown(&authority, &server).await;
    let (one, other) = (authority.issue(), authority.issue());
    let (cert, key) = (one.certificate.pem(), one.key.serialize_pem());
    let foreign_key = other.key.serialize_pem();
    let cut = cert.get(..cert.len() / 2).unwrap();
    let mut refusals = 0;
    for (cert, key, why) in [
        (cert.as_str(), foreign_key.as_str(), "cannot be used together"),
        (cert.as_str(), "", "holds no private key"),
        ("", key.as_str(), "holds no certificate"),
        (cut, key.as_str(), "is not well-formed PEM"),
    ] {
        authority.exchange_texts(cert, key, "");
        refusals += 1;
        until_logged(&server, REFUSED, refusals).await;
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
        assert!(line.contains(why) && line.contains("\"ERROR\"") && !line.contains("PRIVATE KEY"), "{line}");
        assert_eq!(metric(&server, "superserve_files_refused").await, "1");
        assert_eq!(shown(&authority, &server).await, first, "the one before goes on");
        assert_eq!(
            authority.get(&server, "h2", None, Some(server.admin_token())).await.unwrap().status(),
            200
        );
    }
    assert_eq!(server.log().matches(REFUSED).count(), refusals, "each once");
    // Who asks is told again
    server.signal_to_reload();
    until_logged(&server, REFUSED, refusals + 1).await;
    authority.exchange(&one, "");
    server.signal_to_reload();
    until_shown(&authority, &server, &one).await;
    assert_eq!(metric(&server, "superserve_files_refused").await, "0");
    assert_eq!((server.log().matches(TAKEN).count(), server.log().matches(BACK).count()), (1, 0));
    // Asked again, it says that nothing changed
    server.signal_to_reload();
    until_logged(&server, BACK, 1).await;
}

#[tokio::test]
async fn the_end_of_the_certificate_in_use_is_told() {
    let authority = Authority::new();
    let lasting = |from: i64, until: i64| {
        authority.issue_with(|params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
            in_seconds(from).until(in_seconds(until), params);
        })
    };
    authority.exchange(&lasting(-HOUR, 2 * HOUR), "");
    let (from, until) = (in_seconds(-HOUR).0, in_seconds(2 * HOUR).0);
    let server = authority.serve(&[]);
    let near = |text: String, expected: u64| text.parse::<u64>().unwrap().abs_diff(expected) < 60;
    assert!(near(metric(&server, "superserve_tls_certificate_not_before_timestamp_seconds").await, from));
    assert!(near(metric(&server, "superserve_tls_certificate_not_after_timestamp_seconds").await, until));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("certificate in use")).unwrap();
    assert!(line.contains("\"INFO\"") && line.contains("not_after\":\"20"), "{line}");

    for (from, until, level, words) in [
        (-100 * HOUR, 9 * HOUR, "\"WARN\"", "the certificate in use ends soon: renew it"),
        (-2 * HOUR, -HOUR, "\"ERROR\"", "the certificate in use has ended: clients refuse it"),
    ] {
        authority.exchange(&lasting(from, until), "");
        let until = in_seconds(until).0;
        server.signal_to_reload();
        until_logged(&server, words, 1).await;
        let log = server.log();
        assert!(log.lines().any(|line| line.contains(words) && line.contains(level)), "{log}");
        assert!(near(metric(&server, "superserve_tls_certificate_not_after_timestamp_seconds").await, until));
    }
    server.reload().await;
    assert_eq!(server.log().matches("has ended").count(), 1, "once");
}

#[tokio::test]
async fn without_tls_there_is_no_certificate_to_tell_of() {
    let server = Server::start(crate::harness::Database::Sqlite);
    let metrics = server.ops().get("/metrics").send().await.text();
    assert!(!metrics.lines().any(|line| line.starts_with("superserve_tls_")), "{metrics}");
}
