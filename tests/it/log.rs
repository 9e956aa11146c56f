//! Promise: each request has its line, in a form that programs can rely on; and no reader of the log can stop a server.

use std::{
    io::{self, BufRead as _, BufReader},
    mem,
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::harness::{Database, eventually, rest::Rest, server::Server};

/// More lines than a pipe holds.
const MANY: usize = 1000;

/// A server whose standard error is a pipe. Killed when dropped.
struct Piped {
    process: Child,
    log: Box<dyn Iterator<Item = io::Result<String>> + Send>,
    rest: Rest,
}

// === impl Piped ===

impl Piped {
    /// Starts a server, and reads of its log no more than where it listens.
    fn start(format: &str) -> Self {
        let setup = Server::with(Database::Sqlite).env("NO_COLOR", "1");
        let mut command = setup.command(&["serve", "--log-format", format, "--log-level", "debug"]);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) =
                line.split_once("\"listening\",\"address\":\"").or(line.split_once("listening address="))?;
            address.split('"').next()?.parse().ok()
        });
        Self { process, log: Box::new(lines), rest: Rest::new(address.unwrap()) }
    }

    async fn is_refused(&self, request_id: &str) {
        let answer = self.rest.get("/v1/agents").header("x-request-id", request_id).send().await;
        assert_eq!(answer.status, 401);
    }

    /// The next line that has this in it.
    fn told(&mut self, what: &str) -> String {
        self.log.by_ref().map(Result::unwrap).find(|line| line.contains(what)).unwrap()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _status = self.process.wait();
    }
}

#[tokio::test]
async fn a_requests_line_has_its_form() {
    let server = Server::start(Database::Sqlite);
    let answer = server.rest().get("/v1/agents").header("x-request-id", "mine").send().await;
    assert_eq!(answer.status, 200);
    let line = eventually("the line", async || {
        server.log().lines().find(|line| line.contains("\"mine\"")).map(str::to_owned)
    })
    .await;
    let parsed: Value = serde_json::from_str(&line).unwrap();
    let text = |member: &str| parsed[member].as_str().unwrap().to_owned();
    assert!(text("principal").starts_with("tok_"), "{line}");
    let expected = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"INFO\",\"message\":\"request\",\"request_id\":\"mine\",\
         \"principal\":\"{}\",\"protocol\":\"rest\",\"route\":\"GET /v1/agents\",\"code\":\"200\",\
         \"micros\":{},\"target\":\"superserve::transport::access\"}}",
        text("timestamp"),
        text("principal"),
        parsed["micros"].as_u64().unwrap(),
    );
    assert_eq!(line, expected);
}

#[tokio::test]
async fn what_is_told_on_the_way_names_the_request() {
    let mut server = Piped::start("json");
    server.is_refused("mine").await;
    let line = server.told("a call was refused");
    assert!(line.ends_with("\"span\":{\"request_id\":\"mine\",\"name\":\"request\"}}"), "{line}");
    let mut server = Piped::start("text");
    server.is_refused("mine").await;
    let line = server.told("a call was refused");
    let expected = " DEBUG request{request_id=\"mine\"}: a call was refused reason=\"UNAUTHENTICATED\"";
    assert!(line.ends_with(expected), "{line}");
    let line = server.told("micros=");
    let expected = "  INFO request request_id=\"mine\" principal=\"\" protocol=\"rest\" route=\"unknown\" code=\"401\" micros=";
    assert!(line.contains(expected), "{line}");
}

#[tokio::test]
async fn a_server_that_ends_has_told_all() {
    let mut server = Server::start(Database::Sqlite);
    let rest = server.rest();
    for _ in 0..100 {
        assert_eq!(rest.get("/v1/agents").send().await.status, 200);
    }
    assert!(server.stop().await.success());
    let log = server.log();
    assert_eq!(log.matches("\"message\":\"request\"").count(), 100);
    assert!(log.lines().last().unwrap().contains("\"stopped\""), "{log}");
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_goes_on_and_tells_it_later() {
    let mut server = Piped::start("json");
    for number in 0..MANY {
        server.is_refused(&format!("n{number}")).await;
    }
    for number in 0..MANY {
        let line = server.told("\"message\":\"request\"");
        assert!(line.contains(&format!("\"n{number}\"")), "{number}: {line}");
    }
}

#[tokio::test]
async fn a_server_whose_log_is_closed_goes_on() {
    let mut server = Piped::start("json");
    drop(mem::replace(&mut server.log, Box::new(std::iter::empty())));
    for _ in 0..10 {
        server.is_refused("mine").await;
    }
}
