//! AWS KMS as moto's server plays it, whose program `SUPERSERVE_TEST_MOTO` names. Before it stands a relay, so that it can be
//! lost.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{environment, eventually, programs, relay::Relay, rest::Rest, server::Setup};

const REGION: &str = "eu-west-1";

/// A running server with one key.
#[derive(Debug)]
pub(crate) struct Moto {
    relay: Relay,
    address: SocketAddr,
    process: Child,
    key: String,
}

// === impl Moto ===

impl Moto {
    /// `None` without its program.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = environment("SUPERSERVE_TEST_MOTO") else {
            programs::say_once("SUPERSERVE_TEST_MOTO is not set: the tests with AWS KMS are left out\n");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("moto starts");
        let mut moto = Self { relay: Relay::start(address), address, process, key: String::new() };
        eventually("moto to answer", async || {
            tokio::net::TcpStream::connect(address).await.ok().map(|_connected| ())
        })
        .await;
        moto.make_key().await;
        Some(moto)
    }

    /// Makes a key and goes on with that one.
    pub(crate) async fn make_key(&mut self) {
        let made = self.admin("CreateKey", &json!({})).await;
        made["KeyMetadata"]["Arn"].as_str().expect("an ARN").clone_into(&mut self.key);
    }

    /// The ARN of the key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Lets nothing through any more, without a word.
    pub(crate) fn is_lost(&self) {
        self.relay.fall_silent();
    }

    /// Lets those through who come from now on.
    pub(crate) fn is_back(&self) {
        self.relay.lose_clients();
    }

    /// A server that wraps by the key.
    pub(crate) fn settings(&self, setup: Setup) -> Setup {
        setup
            .env("SUPERSERVE_KEY_PROVIDER", "aws-kms")
            .env("SUPERSERVE_AWS_KMS_KEY", &self.key)
            .env("SUPERSERVE_AWS_KMS_ENDPOINT", &format!("http://{}", self.relay.address()))
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
    }

    async fn admin(&self, action: &str, body: &Value) -> Value {
        let scope = format!("Credential=key/20260101/{REGION}/kms/aws4_request");
        let answer = Rest::new(self.address)
            .post("/")
            .header("x-amz-target", &format!("TrentService.{action}"))
            .header("authorization", &format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"))
            .json(body)
            .send()
            .await;
        assert!(answer.status.is_success(), "{action}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _status = self.process.wait();
    }
}
