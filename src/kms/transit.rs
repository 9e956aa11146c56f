//! The transit engine of OpenBao or Vault.
//!
//! `POST /v1/MOUNT/encrypt/KEY` and `…/decrypt/KEY`, with the data key's owner as additional data, so that the engine itself
//! refuses a wrapped key that was moved. The engine rotates its key by versions, which stand in what it has wrapped.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    KmsError,
    attempts::{is_busy, patiently},
    http::{Answer, Http},
    login::{Entry, Login},
};
use crate::{
    crypto::{DataKey, KeyProvider, Owner, ProviderError, WrappedKey},
    domain::KekId,
};

/// Where the engine is, and how to be let in.
#[derive(Clone, Debug)]
pub struct TransitConfig {
    /// Where OpenBao or Vault is, without a path.
    pub address: Uri,
    /// Where the engine is mounted.
    pub mount: String,
    /// The name of its key.
    pub key: String,
    /// The namespace; empty for none.
    pub namespace: String,
    /// The authorities to trust in place of the machine's, PEM.
    pub ca: Option<PathBuf>,
    /// How to be let in.
    pub auth: TransitAuth,
}

/// How to be let in.
#[derive(Clone, Debug)]
pub enum TransitAuth {
    /// By the token in a file, which may be exchanged at any time.
    TokenFile(PathBuf),
    /// By the pod's service account.
    Kubernetes {
        /// Where the Kubernetes method is mounted.
        mount: String,
        /// Its role.
        role: String,
        /// The file with the service account's token.
        jwt: PathBuf,
    },
}

/// The engine.
#[derive(Debug)]
pub struct Transit {
    id: KekId,
    engine: Arc<Engine>,
    login: Login,
    /// The token of the file, until it is refused.
    from_file: Mutex<Option<HeaderValue>>,
}

/// How it is called.
#[derive(Debug)]
struct Engine {
    config: TransitConfig,
    http: Http,
}

#[derive(Deserialize)]
struct Encrypted<'a> {
    #[serde(borrow)]
    data: Ciphertext<'a>,
}

#[derive(Deserialize)]
struct Ciphertext<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    #[serde(borrow)]
    data: Plaintext<'a>,
}

#[derive(Deserialize)]
struct Plaintext<'a> {
    plaintext: &'a str,
}

#[derive(Deserialize)]
struct LoggedIn<'a> {
    #[serde(borrow)]
    auth: Auth<'a>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    client_token: &'a str,
    lease_duration: u64,
}

#[derive(Deserialize)]
struct Refused {
    errors: Vec<String>,
}

/// The longest of its sentences that is told, in characters.
const TOLD: usize = 200;

// === impl Transit ===

impl Transit {
    /// A client of the engine. Nothing is called yet.
    ///
    /// # Errors
    /// [`KmsError`] when the authorities cannot be read.
    pub fn new(config: TransitConfig) -> Result<Self, KmsError> {
        let http = Http::new("--transit-ca", config.ca.as_deref())?;
        let id = KekId::from_stored(format!("transit:{}/{}", config.mount, config.key));
        let engine = Arc::new(Engine { config, http });
        Ok(Self { id, engine, login: Login::default(), from_file: Mutex::default() })
    }

    /// What its key is called in the database.
    #[must_use]
    pub fn id(&self) -> &KekId {
        &self.id
    }

    async fn call(&self, what: &str, body: &serde_json::Value) -> Result<Answer, ProviderError> {
        let path = format!("{}/{what}/{}", self.engine.config.mount, self.engine.config.key);
        let body = Zeroizing::new(body.to_string().into_bytes());
        patiently(|| self.call_let_in(&path, &body), is_busy).await
    }

    /// Calls the engine; once more with a fresh token, if it refuses the one there is.
    async fn call_let_in(&self, path: &str, body: &[u8]) -> Result<Answer, ProviderError> {
        let token = self.token(None).await?;
        let answer = self.engine.post(path, token.clone(), body).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        match self.token(token.as_ref()).await? {
            Some(another) => self.engine.post(path, Some(another), body).await,
            None => Ok(answer),
        }
    }

    /// A token to call with, which is not the one that was refused; `None` if there is no other just now.
    async fn token(&self, refused: Option<&HeaderValue>) -> Result<Option<HeaderValue>, ProviderError> {
        match &self.engine.config.auth {
            TransitAuth::TokenFile(path) => {
                let mut known = self.from_file.lock().unwrap_or_else(PoisonError::into_inner);
                if known.is_none() || known.as_ref() == refused {
                    *known = Some(header(&read(path)?)?);
                }
                Ok(known.clone().filter(|token| Some(token) != refused))
            }
            TransitAuth::Kubernetes { mount, role, jwt } => {
                let engine = Arc::clone(&self.engine);
                let (mount, role, jwt) = (mount.clone(), role.clone(), jwt.clone());
                let log_in = || async move { engine.log_in(&mount, &role, &read(&jwt)?).await };
                self.login.token(refused, log_in).await
            }
        }
    }
}

// === impl Engine ===

impl Engine {
    async fn post(
        &self,
        path: &str,
        token: Option<HeaderValue>,
        body: &[u8],
    ) -> Result<Answer, ProviderError> {
        let address = self.config.address.to_string();
        let uri = format!("{}/v1/{path}", address.trim_end_matches('/'));
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-vault-request", "true");
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        if !self.config.namespace.is_empty() {
            request = request.header("x-vault-namespace", &self.config.namespace);
        }
        let request = request.body(Bytes::copy_from_slice(body));
        self.http.send(request.map_err(|error| unavailable(format!("{path}: {error}")))?).await
    }

    async fn log_in(&self, mount: &str, role: &str, jwt: &str) -> Result<Entry, ProviderError> {
        let body = Zeroizing::new(json!({"role": role, "jwt": jwt}).to_string().into_bytes());
        let answer = self.post(&format!("auth/{mount}/login"), None, &body).await?;
        if !answer.status.is_success() {
            return Err(refusal("the login", &answer));
        }
        let LoggedIn { auth } = parse(&answer)?;
        // Before it ends; 0 is for a token without an end
        let lasts = Duration::from_secs(auth.lease_duration) * 2 / 3;
        let until = (!lasts.is_zero()).then(|| Instant::now() + lasts);
        Ok(Entry { token: header(auth.client_token)?, until })
    }
}

#[async_trait]
impl KeyProvider for Transit {
    async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body = json!({"plaintext": *plaintext, "associated_data": place(owner)});
        let answer = self.call("encrypt", &body).await?;
        if !answer.status.is_success() {
            return Err(refusal("to wrap", &answer));
        }
        let Encrypted { data } = parse(&answer)?;
        Ok(WrappedKey { kek: self.id.clone(), bytes: data.ciphertext.as_bytes().to_vec() })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError> {
        if wrapped.kek != self.id {
            return Err(ProviderError::UnknownKey(wrapped.kek.clone()));
        }
        // The engine's form is text; anything else it has not wrapped
        let ciphertext = std::str::from_utf8(&wrapped.bytes).ok().filter(|text| !text.is_empty());
        let ciphertext = ciphertext.ok_or(ProviderError::DoesNotOpen)?;
        let body = json!({"ciphertext": ciphertext, "associated_data": place(owner)});
        let answer = self.call("decrypt", &body).await?;
        if answer.status == StatusCode::BAD_REQUEST && is_no_match(&answer) {
            return Err(ProviderError::DoesNotOpen);
        }
        if !answer.status.is_success() {
            return Err(refusal("to unwrap", &answer));
        }
        let Decrypted { data } = parse(&answer)?;
        let bytes = STANDARD.decode(data.plaintext).map_err(|_where| ProviderError::DoesNotOpen)?;
        DataKey::from_unwrapped(&Zeroizing::new(bytes))
    }
}

/// The owner as additional data. Ids have no slash.
fn place(owner: Owner<'_>) -> String {
    STANDARD.encode(format!("superserve/wrapped-data-key/1/{}/{}", owner.tenant, owner.agent))
}

fn read(path: &std::path::Path) -> Result<Zeroizing<String>, ProviderError> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| unavailable(format!("{}: {error}", path.display())))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn header(token: &str) -> Result<HeaderValue, ProviderError> {
    let value = HeaderValue::from_str(token);
    let mut value =
        value.map_err(|_token| unavailable("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, ProviderError> {
    // The parser's own words may quote the answer
    serde_json::from_slice(&answer.body)
        .map_err(|_quotes| unavailable("the key provider's answer is not as documented".to_owned()))
}

/// Whether the engine says that it did not wrap this, or not for this owner. What a newer version of the key has wrapped, it
/// may know yet: a replica that lags behind, or a backup that came back.
fn is_no_match(answer: &Answer) -> bool {
    let errors = serde_json::from_slice::<Refused>(&answer.body).map(|it| it.errors).unwrap_or_default();
    let says = |words: &str| errors.iter().any(|error| error.contains(words));
    let is_none_of_its = says("message authentication failed") || says("invalid ciphertext");
    is_none_of_its && !says("version is too new")
}

fn refusal(what: &str, answer: &Answer) -> ProviderError {
    let errors = serde_json::from_slice::<Refused>(&answer.body).map(|it| it.errors).unwrap_or_default();
    let told: String = errors.join("; ").chars().filter(|c| !c.is_control()).take(TOLD).collect();
    unavailable(format!("the key provider refused {what}: {} {told}", answer.status.as_u16()))
}

fn unavailable(why: String) -> ProviderError {
    ProviderError::Unavailable(why)
}
