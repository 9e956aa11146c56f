//! An issuer of signed tokens: its keys, the tokens that it signs, and the server that publishes its keys.
//!
//! Everything is signed by ring here, byte by byte, so that a token may also be what no library would make.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    },
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring as provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

/// What an issuer signs with.
#[derive(Debug)]
pub(crate) struct SigningKey {
    /// Its name, as tokens say it.
    pub(crate) id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(&'static str, EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A server that publishes keys, until it is dropped.
#[derive(Debug)]
pub(crate) struct KeyServer {
    address: SocketAddr,
    state: Arc<Mutex<Published>>,
}

/// What is published, and what was asked.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The body of the answer.
    pub(crate) body: String,
    /// The token that has to be shown, if one has.
    pub(crate) bearer: Option<String>,
    /// Whether everybody is hung up on.
    pub(crate) is_down: bool,
    /// Whether everybody waits for the answer.
    pub(crate) is_slow: bool,
    /// How many have asked.
    pub(crate) asked: usize,
}

// === impl SigningKey ===

impl SigningKey {
    /// An RSA key of `tests/data/identities`: `issuer` or `stranger`.
    pub(crate) fn rsa(id: &str, name: &str) -> Self {
        let file = format!("tests/data/identities/rsa-{name}.pem");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let key = PrivatePkcs8KeyDer::from_pem_file(path).expect("a key");
        let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key");
        Self { id: id.to_owned(), pair: Pair::Rsa(Box::new(pair)) }
    }

    /// A fresh key of P-256.
    pub(crate) fn p256(id: &str) -> Self {
        Self::ec(id, "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    /// A fresh key of P-384.
    pub(crate) fn p384(id: &str) -> Self {
        Self::ec(id, "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ec(id: &str, curve: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("an EC key");
        Self { id: id.to_owned(), pair: Pair::Ec(curve, pair) }
    }

    /// A fresh key of Ed25519.
    pub(crate) fn ed25519(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("an Ed25519 key");
        Self { id: id.to_owned(), pair: Pair::Ed(pair) }
    }

    /// The public half, as it is published.
    pub(crate) fn public(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({"kty": "RSA", "use": "sig", "kid": self.id, "n": encode(&n), "e": encode(&e)})
            }
            Pair::Ec(curve, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "kid": self.id, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": encode(pair.public_key().as_ref())})
            }
        }
    }

    /// The algorithm that it signs with where nothing is said.
    fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec("P-384", _) => "ES384",
            Pair::Ec(..) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm(), claims)
    }

    /// A token of this algorithm.
    pub(crate) fn sign_as(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": self.id});
        self.sign_texts(algorithm, &header.to_string(), &claims.to_string())
    }

    /// A token with this text as its header and that one as its claims, whatever they are.
    pub(crate) fn sign_texts(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(algorithm, message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn signature(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &dyn ring::signature::RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).expect("a signature");
                signature
            }
            Pair::Ec(_, pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token whose signature is an HMAC under a secret.
pub(crate) fn sign_by_secret(secret: &[u8], key_id: &str, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": key_id}).to_string();
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// These keys as they are published.
pub(crate) fn key_set(keys: &[&SigningKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}).to_string()
}

/// What time it is, in seconds, as tokens say it.
#[expect(clippy::disallowed_methods, reason = "a token is of now")]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is before the end of time")
}

// === impl KeyServer ===

impl KeyServer {
    /// Publishes keys without encryption.
    pub(crate) fn start(keys: &[&SigningKey]) -> Self {
        Self::serve(keys, None)
    }

    /// Publishes keys over TLS, with the certificate and key of these files.
    pub(crate) fn start_encrypted(keys: &[&SigningKey], cert: &str, key: &str) -> Self {
        let certificates =
            CertificateDer::pem_file_iter(cert).expect("a file").map(|it| it.expect("a certificate"));
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(certificates.collect(), key)
            .expect("they fit");
        Self::serve(keys, Some(Arc::new(config)))
    }

    fn serve(keys: &[&SigningKey], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(Published { body: key_set(keys), ..Published::default() }));
        let shared = Arc::downgrade(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Some(state) = shared.upgrade() else { return };
                match tls.clone() {
                    None => answer(client, &state),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a connection");
                        answer(StreamOwned::new(connection, client), &state);
                    }
                }
            }
        });
        Self { address, state }
    }

    /// Where it is, without encryption.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it publishes.
    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        // A test that fails while it looks must not fail once more when it ends
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.published().is_down = true;
        // It ends when the next one comes
        let _last = TcpStream::connect(self.address);
    }
}

/// Reads a request and answers it; who hangs up meanwhile is not answered.
fn answer(mut stream: impl Read + Write, state: &Mutex<Published>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            Ok(_) | Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let mut published = state.lock().unwrap_or_else(PoisonError::into_inner);
    published.asked += 1;
    while published.is_slow && !published.is_down {
        drop(published);
        thread::sleep(Duration::from_millis(5));
        published = state.lock().unwrap_or_else(PoisonError::into_inner);
    }
    if published.is_down {
        return;
    }
    let is_known = published.bearer.as_ref().is_none_or(|bearer| {
        request.contains(&format!("authorization: bearer {}\r\n", bearer.to_lowercase()))
    });
    let (status, body) =
        if is_known { ("200 OK", published.body.clone()) } else { ("401 Unauthorized", String::new()) };
    drop(published);
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _written = stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.flush());
}

/// Writes a file of rules with these issuers, and gives its path.
pub(crate) fn write_rules(directory: &Path, issuers: &[String]) -> String {
    let path = directory.join("identities.toml");
    // At once, as everything that others read
    let new = path.with_extension("new");
    fs::write(&new, issuers.join("\n")).expect("it can be written");
    fs::rename(&new, &path).expect("it can be renamed");
    path.to_str().expect("UTF-8").to_owned()
}
