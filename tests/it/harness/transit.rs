//! A transit engine: a real OpenBao, whose program `OPENBAO_BIN` names, or a small server that follows the documented API and
//! encrypts with AES-256-GCM. Before either stands a relay, so that it can be lost.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::{environment, eventually, relay::Relay, rest::Rest, server::Setup};

/// The name of the key that [`Transit`] makes.
pub(crate) const KEY: &str = "superserve";

/// What is said to be the token of a pod's service account.
pub(crate) const SERVICE_ACCOUNT: &str = "a-pods-own-token";

/// A running engine with one key.
#[derive(Debug)]
pub(crate) struct Transit {
    relay: Relay,
    address: SocketAddr,
    directory: TempDir,
    process: Option<Child>,
    token: String,
    small: Shared,
}

// === impl Engine ===

impl Engine {
    /// Ends all tokens.
    pub(crate) fn end_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Takes a call up, or refuses it; says how long it takes.
    fn begin(&mut self, what: &str) -> Result<Duration, Answer> {
        if self.too_many > 0 {
            self.too_many -= 1;
            return Err(refused(StatusCode::TOO_MANY_REQUESTS, "rate limit quota exceeded"));
        }
        if let Some(left) = &mut self.works_for {
            let Some(fewer) = left.checked_sub(1) else {
                return Err(refused(StatusCode::BAD_REQUEST, "it works no more"));
            };
            *left = fewer;
        }
        self.unwraps += usize::from(what == "decrypt");
        self.at_once += 1;
        self.most_at_once = self.most_at_once.max(self.at_once);
        Ok(self.takes)
    }
}

// === impl Transit ===

impl Transit {
    /// The small server of the tests.
    pub(crate) async fn small() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let engine = Shared::default();
        let served = Arc::clone(&engine);
        // Not in the test's own runtime, which stands still while a program is waited for
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, served));
        });
        Self::with_key(address, None, engine).await
    }

    /// A real one; `None` without its program.
    pub(crate) async fn openbao() -> Option<Self> {
        let program = environment("OPENBAO_BIN")?;
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let listen = format!("-dev-listen-address={address}");
        let arguments = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", &listen];
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("OpenBao starts");
        Some(Self::with_key(address, Some(process), Shared::default()).await)
    }

    async fn with_key(address: SocketAddr, process: Option<Child>, small: Shared) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (relay, token) = (Relay::start(address), "root".to_owned());
        let mut transit = Self { relay, address, directory, process, token, small };
        eventually("the engine to answer", async || {
            let connected = tokio::net::TcpStream::connect(address).await.is_ok();
            let health = "/v1/sys/health";
            (connected && transit.rest().get(health).send().await.status == 200).then_some(())
        })
        .await;
        transit.admin("/v1/sys/mounts/transit", &json!({"type": "transit"})).await;
        transit.make_key().await;
        transit.new_token().await;
        transit
    }

    /// Makes the key anew: another one of the same name.
    pub(crate) async fn make_key(&self) {
        let key = format!("/v1/transit/keys/{KEY}");
        if self.rest().get(&key).header("x-vault-token", "root").send().await.status == 200 {
            self.admin(&format!("{key}/config"), &json!({"deletion_allowed": true})).await;
            let deleted = self.rest().delete(&key).header("x-vault-token", "root").send().await;
            assert!(deleted.status.is_success(), "{}", deleted.text());
        }
        self.admin(&key, &json!({"type": "aes256-gcm96"})).await;
    }

    /// Has the engine go on with a new version of its key.
    pub(crate) async fn rotate(&self) {
        self.admin(&format!("/v1/transit/keys/{KEY}/rotate"), &json!({})).await;
    }

    /// A copy of the key with its versions.
    pub(crate) async fn backup(&self) -> Value {
        let may = json!({"exportable": true, "allow_plaintext_backup": true});
        self.admin(&format!("/v1/transit/keys/{KEY}/config"), &may).await;
        let path = format!("/v1/transit/backup/{KEY}");
        let answer = self.rest().get(&path).header("x-vault-token", "root").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["backup"].clone()
    }

    /// Puts a copy in the place of the key.
    pub(crate) async fn restore(&self, backup: &Value) {
        self.admin(&format!("/v1/transit/restore/{KEY}"), &json!({"backup": backup, "force": true})).await;
    }

    /// Puts another token that may wrap and unwrap into the token file.
    pub(crate) async fn new_token(&mut self) {
        let rules = ["encrypt", "decrypt"]
            .map(|what| format!("path \"transit/{what}/{KEY}\" {{ capabilities = [\"update\"] }}"));
        self.admin("/v1/sys/policies/acl/wrap", &json!({"policy": rules.join("\n")})).await;
        let token = json!({"policies": ["wrap"], "no_default_policy": true});
        let made = self.admin("/v1/auth/token/create", &token).await;
        made["auth"]["client_token"].as_str().expect("a token").clone_into(&mut self.token);
        fs::write(self.token_file(), format!("{}\n", self.token)).expect("the token file");
    }

    /// Ends the token that is in the token file.
    pub(crate) async fn revoke_token(&self) {
        self.admin("/v1/auth/token/revoke", &json!({"token": self.token})).await;
    }

    /// The small server's insides.
    pub(crate) fn small_engine(&self) -> MutexGuard<'_, Engine> {
        of(&self.small)
    }

    /// Lets nothing through any more, without a word.
    pub(crate) fn is_lost(&self) {
        self.relay.fall_silent();
    }

    /// Lets those through who come from now on.
    pub(crate) fn is_back(&self) {
        self.relay.lose_clients();
    }

    /// A server that wraps by this engine, let in by the token file.
    pub(crate) fn settings(&self, setup: Setup) -> Setup {
        self.place(setup).env("SUPERSERVE_TRANSIT_TOKEN_PATH", self.token_file().to_str().expect("UTF-8"))
    }

    /// The same, let in as a pod is.
    pub(crate) fn settings_of_a_pod(&self, setup: Setup) -> Setup {
        let jwt = self.directory.path().join("jwt");
        fs::write(&jwt, SERVICE_ACCOUNT).expect("a file");
        self.place(setup)
            .env("SUPERSERVE_TRANSIT_ROLE", "superserve")
            .env("SUPERSERVE_TRANSIT_JWT_PATH", jwt.to_str().expect("UTF-8"))
    }

    fn place(&self, setup: Setup) -> Setup {
        setup
            .env("SUPERSERVE_KEY_PROVIDER", "transit")
            .env("SUPERSERVE_TRANSIT_ADDRESS", &format!("http://{}", self.relay.address()))
            .env("SUPERSERVE_TRANSIT_KEY", KEY)
    }

    fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    fn rest(&self) -> Rest {
        Rest::new(self.address)
    }

    async fn admin(&self, path: &str, body: &Value) -> Value {
        let answer = self.rest().post(path).header("x-vault-token", "root").json(body).send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}

impl Drop for Transit {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _killed = process.kill();
            let _status = process.wait();
        }
    }
}

/// What the small server knows.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    keys: BTreeMap<String, Vec<[u8; 32]>>,
    tokens: Vec<String>,
    /// How many have logged in.
    pub(crate) logins: usize,
    /// Whether logins are not answered.
    pub(crate) holds_logins: bool,
    /// Whether no token may wrap or unwrap.
    pub(crate) forbids: bool,
    /// How many calls to come are refused as too many.
    pub(crate) too_many: usize,
    /// After how many further calls the others are refused; `None` for never.
    pub(crate) works_for: Option<usize>,
    /// How long it takes to wrap or to unwrap.
    pub(crate) takes: Duration,
    /// How often it was called to unwrap.
    pub(crate) unwraps: usize,
    at_once: usize,
    /// The most calls that it had at once.
    pub(crate) most_at_once: usize,
}

type Shared = Arc<Mutex<Engine>>;
type Answer = (StatusCode, Json<Value>);

async fn serve(listener: TcpListener, engine: Shared) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let router = router(engine);
    let connections = TaskTracker::new();
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(router.clone());
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

fn router(engine: Shared) -> Router {
    Router::new()
        .route("/v1/sys/health", axum::routing::get(|| async { Json(json!({"sealed": false})) }))
        .route("/v1/sys/mounts/transit", post(|| async { StatusCode::NO_CONTENT }))
        .route("/v1/sys/policies/acl/wrap", post(|| async { StatusCode::NO_CONTENT }))
        .route("/v1/transit/keys/{key}", post(make_key).get(read_key).delete(delete_key))
        .route("/v1/transit/keys/{key}/config", post(|| async { StatusCode::NO_CONTENT }))
        .route("/v1/transit/keys/{key}/rotate", post(make_key))
        .route("/v1/transit/backup/{key}", axum::routing::get(backup))
        .route("/v1/transit/restore/{key}", post(restore))
        .route("/v1/transit/{what}/{key}", post(encrypt_or_decrypt))
        .route("/v1/auth/token/create", post(create_token))
        .route("/v1/auth/token/revoke", post(revoke_token))
        .route("/v1/auth/kubernetes/login", post(log_in))
        .with_state(engine)
}

fn refused(status: StatusCode, why: &str) -> Answer {
    (status, Json(json!({"errors": [why]})))
}

fn data(data: &Value) -> Answer {
    (StatusCode::OK, Json(json!({"request_id": "", "lease_id": "", "renewable": false, "data": data})))
}

fn of(engine: &Shared) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    bytes
}

async fn make_key(State(engine): State<Shared>, Path(key): Path<String>) -> Answer {
    of(&engine).keys.entry(key).or_default().push(random());
    data(&json!({}))
}

async fn read_key(State(engine): State<Shared>, Path(key): Path<String>) -> StatusCode {
    if of(&engine).keys.contains_key(&key) { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn delete_key(State(engine): State<Shared>, Path(key): Path<String>) -> StatusCode {
    of(&engine).keys.remove(&key);
    StatusCode::NO_CONTENT
}

async fn backup(State(engine): State<Shared>, Path(key): Path<String>) -> Answer {
    data(&json!({"backup": of(&engine).keys.get(&key)}))
}

async fn restore(
    State(engine): State<Shared>,
    Path(key): Path<String>,
    Json(body): Json<Value>,
) -> StatusCode {
    let versions = serde_json::from_value(body["backup"].clone()).expect("a backup");
    of(&engine).keys.insert(key, versions);
    StatusCode::NO_CONTENT
}

async fn create_token(State(engine): State<Shared>) -> Answer {
    let token = STANDARD.encode(random::<16>());
    of(&engine).tokens.push(token.clone());
    (StatusCode::OK, Json(json!({"auth": {"client_token": token, "lease_duration": 0}})))
}

async fn revoke_token(State(engine): State<Shared>, Json(body): Json<Value>) -> StatusCode {
    of(&engine).tokens.retain(|token| body["token"] != json!(token));
    StatusCode::NO_CONTENT
}

async fn log_in(State(engine): State<Shared>, Json(body): Json<Value>) -> Answer {
    if body != json!({"role": "superserve", "jwt": SERVICE_ACCOUNT}) {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    of(&engine).logins += 1;
    while of(&engine).holds_logins {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let token = STANDARD.encode(random::<16>());
    of(&engine).tokens.push(token.clone());
    (StatusCode::OK, Json(json!({"auth": {"client_token": token, "lease_duration": 3600}})))
}

async fn encrypt_or_decrypt(
    State(engine): State<Shared>,
    Path((what, key)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let begun = of(&engine).begin(&what);
    match begun {
        Ok(takes) => tokio::time::sleep(takes).await,
        Err(refused) => return refused,
    }
    let mut engine = of(&engine);
    engine.at_once -= 1;
    let token = headers.get("x-vault-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    if engine.forbids || !engine.tokens.iter().any(|known| known == token) {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    let Some(versions) = engine.keys.get(&key) else {
        return refused(StatusCode::BAD_REQUEST, "encryption key not found");
    };
    let bytes = |name: &str| STANDARD.decode(body[name].as_str().unwrap_or_default()).expect("base64");
    let place = Aad::from(bytes("associated_data"));
    let cipher = |version: usize| -> Option<LessSafeKey> {
        let key = versions.get(version.checked_sub(1)?)?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes")))
    };
    if what == "encrypt" {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = bytes("plaintext");
        let cipher = cipher(versions.len()).expect("there is a version");
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut sealed)
            .expect("it can be sealed");
        let text = format!("vault:v{}:{}", versions.len(), STANDARD.encode([&nonce[..], &sealed].concat()));
        return data(&json!({"ciphertext": text, "key_version": versions.len()}));
    }
    let text = body["ciphertext"].as_str().unwrap_or_default();
    let Some((version, sealed)) = text.strip_prefix("vault:v").and_then(|text| text.split_once(':')) else {
        return refused(StatusCode::BAD_REQUEST, "invalid ciphertext: no prefix");
    };
    let Some(cipher) = version.parse().ok().and_then(cipher) else {
        return refused(StatusCode::BAD_REQUEST, "invalid ciphertext: version is too new");
    };
    let Ok(sealed) = STANDARD.decode(sealed) else {
        return refused(StatusCode::BAD_REQUEST, "invalid ciphertext: could not decode base64");
    };
    let Some((nonce, sealed)) = sealed.split_first_chunk::<NONCE_LEN>() else {
        return refused(StatusCode::BAD_REQUEST, "invalid ciphertext length");
    };
    let mut sealed = sealed.to_vec();
    match cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), place, &mut sealed) {
        Ok(plain) => data(&json!({"plaintext": STANDARD.encode(plain)})),
        Err(_unspecified) => refused(StatusCode::BAD_REQUEST, "cipher: message authentication failed"),
    }
}
