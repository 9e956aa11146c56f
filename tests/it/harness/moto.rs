//! AWS KMS as moto's server plays it, whose program `SUPERSERVE_TEST_MOTO` names. Before it stands a relay, so that it can be
//! lost.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
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
    throttled: Arc<AtomicUsize>,
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
        let (relay, throttled) = (Relay::start(address), Arc::default());
        let mut moto = Self { relay, address, process, key: String::new(), throttled };
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

    /// A server that wraps by the key, and is told by KMS that it calls too often as many times as [`throttle`](Self::throttle)
    /// says.
    pub(crate) fn settings_with_throttle(&self, setup: Setup) -> Setup {
        let front = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", front.local_addr().expect("an address"));
        let (behind, throttled) = (self.relay.address(), Arc::clone(&self.throttled));
        thread::spawn(move || {
            for client in front.incoming().map_while(Result::ok) {
                let throttled = Arc::clone(&throttled);
                thread::spawn(move || answer(client, behind, &throttled));
            }
        });
        self.settings(setup).env("SUPERSERVE_AWS_KMS_ENDPOINT", &endpoint)
    }

    /// Refuses so many calls to come.
    pub(crate) fn throttle(&self, calls: usize) {
        self.throttled.store(calls, Ordering::SeqCst);
    }

    /// How many calls are still to be refused.
    pub(crate) fn throttled(&self) -> usize {
        self.throttled.load(Ordering::SeqCst)
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

/// Answers one request: refuses it as KMS does, or hands it on.
fn answer(client: TcpStream, behind: SocketAddr, throttled: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut client = client;
    let fewer = throttled.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |calls| calls.checked_sub(1));
    if fewer.is_ok() {
        let refusal = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
        let head =
            format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: {}", refusal.len());
        return client.write_all(format!("{head}\r\n\r\n{refusal}").as_bytes()).ok();
    }
    let mut server = TcpStream::connect(behind).ok()?;
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    io::copy(&mut server, &mut client).ok().map(drop)
}
