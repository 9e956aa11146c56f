//! AWS KMS.
//!
//! `Encrypt` and `Decrypt` of its JSON API, with the data key's owner as encryption context, so that KMS itself refuses a
//! wrapped key that was moved. Requests are signed by the credentials that AWS's own tools would find: of the
//! environment, of a profile, or the role of the pod's service account, of the container or of the machine.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{Request, StatusCode, Uri, header};
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, DefaultCredentialProvider, RequestSigner,
};
use reqsign_core::{Context, FileRead, HttpSend, OsEnv, Signer};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    KmsError,
    attempts::{is_busy, patiently},
    http::{Answer, Http},
};
use crate::{
    crypto::{DataKey, KeyProvider, Owner, ProviderError, WrappedKey},
    domain::KekId,
};

/// What KMS calls the form of its requests.
const JSON: &str = "application/x-amz-json-1.1";

/// The longest of its sentences that is told, in characters.
const TOLD: usize = 200;

/// Which key, and where.
#[derive(Clone, Debug)]
pub struct AwsKmsConfig {
    /// The key.
    pub key: KeyArn,
    /// Where KMS is; `None` for where it is in the key's region.
    pub endpoint: Option<Uri>,
}

/// The name of a key that no other key will ever have: `arn:aws:kms:REGION:ACCOUNT:key/ID`. An alias can be given to
/// another key, under which nothing opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    region: String,
    is_in_china: bool,
}

/// KMS with one of its keys.
#[derive(Debug)]
pub struct AwsKms {
    key: KeyArn,
    id: KekId,
    endpoint: Uri,
    http: Http,
    signer: Signer<Credential>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted<'a> {
    ciphertext_blob: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted<'a> {
    plaintext: &'a str,
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

// === impl KeyArn ===

impl KeyArn {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn endpoint(&self) -> Result<Uri, http::uri::InvalidUri> {
        let suffix = if self.is_in_china { ".cn" } else { "" };
        format!("https://kms.{}.amazonaws.com{suffix}/", self.region).parse()
    }
}

impl FromStr for KeyArn {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "give the key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID, not that of an alias";
        let parts: Vec<_> = text.split(':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts[..] else { return Err(wrong) };
        let id = resource.strip_prefix("key/").ok_or(wrong)?;
        let is_name =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if ![partition, region, account, id].into_iter().all(is_name) {
            return Err(wrong);
        }
        let (region, is_in_china) = (region.to_owned(), partition == "aws-cn");
        Ok(Self { text: text.to_owned(), region, is_in_china })
    }
}

// === impl AwsKms ===

impl AwsKms {
    /// A client of KMS. Nothing is called yet.
    ///
    /// # Errors
    /// [`KmsError`] when TLS cannot be set up.
    pub fn new(config: AwsKmsConfig) -> Result<Self, KmsError> {
        let AwsKmsConfig { key, endpoint } = config;
        let http = Http::new("--aws-kms-endpoint", None)?;
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => key.endpoint()?,
        };
        let by_service_account = AssumeRoleWithWebIdentityCredentialProvider::default()
            .with_region(key.region.clone())
            .with_regional_sts_endpoint();
        let credentials = DefaultCredentialProvider::builder().web_identity(by_service_account).build();
        let context = Context::new().with_env(OsEnv).with_file_read(Files).with_http_send(http.clone());
        let signer = Signer::new(context, credentials, RequestSigner::new("kms", &key.region));
        Ok(Self { id: KekId::from_stored(key.text.clone()), key, endpoint, http, signer })
    }

    /// What its key is called in the database: by its ARN.
    #[must_use]
    pub fn id(&self) -> &KekId {
        &self.id
    }

    async fn call(&self, action: &str, body: &Value) -> Result<Answer, ProviderError> {
        let body = Zeroizing::new(body.to_string().into_bytes());
        patiently(|| self.call_signed(action, &body), is_throttled).await
    }

    async fn call_signed(&self, action: &str, body: &[u8]) -> Result<Answer, ProviderError> {
        let request = Request::post(self.endpoint.clone())
            .header(header::CONTENT_TYPE, JSON)
            .header("x-amz-target", format!("TrentService.{action}"))
            // Makes the body part of what is signed
            .header("x-amz-content-sha256", HEXLOWER.encode(digest(&SHA256, body).as_ref()))
            .body(())
            .map_err(|error| unavailable(format!("--aws-kms-endpoint: {error}")))?;
        let mut parts = request.into_parts().0;
        self.signer.sign(&mut parts, None).await.map_err(|error| {
            unavailable(format!("there are no AWS credentials to call KMS with: {error}"))
        })?;
        self.http.send(Request::from_parts(parts, Bytes::copy_from_slice(body))).await
    }
}

#[async_trait]
impl KeyProvider for AwsKms {
    async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body =
            json!({"KeyId": self.key.text, "Plaintext": *plaintext, "EncryptionContext": context(owner)});
        let answer = self.call("Encrypt", &body).await?;
        if !answer.status.is_success() {
            return Err(refusal("to wrap", &answer));
        }
        let Encrypted { ciphertext_blob } = parse(&answer)?;
        let bytes = STANDARD.decode(ciphertext_blob).map_err(|_where| undocumented())?;
        Ok(WrappedKey { kek: self.id.clone(), bytes })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError> {
        if wrapped.kek != self.id {
            return Err(ProviderError::UnknownKey(wrapped.kek.clone()));
        }
        // KMS takes no empty text, and would call it a fault of the request
        if wrapped.bytes.is_empty() {
            return Err(ProviderError::DoesNotOpen);
        }
        let ciphertext = STANDARD.encode(&wrapped.bytes);
        let body = json!({
            "KeyId": self.key.text, "CiphertextBlob": ciphertext, "EncryptionContext": context(owner)
        });
        let answer = self.call("Decrypt", &body).await?;
        if answer.status == StatusCode::BAD_REQUEST && is_no_match(&answer) {
            return Err(ProviderError::DoesNotOpen);
        }
        if !answer.status.is_success() {
            return Err(refusal("to unwrap", &answer));
        }
        let Decrypted { plaintext } = parse(&answer)?;
        let bytes = STANDARD.decode(plaintext).map_err(|_where| undocumented())?;
        DataKey::from_unwrapped(&Zeroizing::new(bytes))
    }
}

/// Reads the files of credentials: a profile, a service account's token.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|error| reqsign_core::Error::unexpected(format!("{path}: {error}")))
    }
}

impl HttpSend for Http {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let answer = self.send(request).await;
        let Answer { status, body } =
            answer.map_err(|error| reqsign_core::Error::unexpected(error.to_string()))?;
        let mut response = http::Response::new(Bytes::copy_from_slice(&body));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// The owner, as it stands in AWS's own trail too.
fn context(owner: Owner<'_>) -> Value {
    json!({"superserve:tenant": owner.tenant.as_str(), "superserve:agent": owner.agent.as_str()})
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, ProviderError> {
    // The parser's own words may quote the answer
    serde_json::from_slice(&answer.body).map_err(|_quotes| undocumented())
}

/// Whether KMS says that this key did not wrap this, or not for this owner.
fn is_no_match(answer: &Answer) -> bool {
    matches!(&*kind(answer), "InvalidCiphertextException" | "IncorrectKeyException")
}

/// Whether KMS has too much to do, which it may say by a fault of the request.
fn is_throttled(answer: &Answer) -> bool {
    is_busy(answer) || kind(answer) == "ThrottlingException"
}

/// What KMS calls its refusal.
fn kind(answer: &Answer) -> String {
    let Refused { kind, .. } = serde_json::from_slice(&answer.body).unwrap_or_default();
    kind.rsplit('#').next().unwrap_or_default().to_owned()
}

fn refusal(what: &str, answer: &Answer) -> ProviderError {
    let Refused { kind, message } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told: String = message.chars().filter(|c| !c.is_control()).take(TOLD).collect();
    unavailable(format!("the key provider refused {what}: {} {kind} {told}", answer.status.as_u16()))
}

fn undocumented() -> ProviderError {
    unavailable("the key provider's answer is not as documented".to_owned())
}

fn unavailable(why: String) -> ProviderError {
    ProviderError::Unavailable(why)
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_arn() {
        let text = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let arn = KeyArn::from_str(text).unwrap();
        assert_eq!(arn.as_str(), text);
        assert_eq!(arn.endpoint().unwrap(), "https://kms.eu-west-1.amazonaws.com/");
        let china = KeyArn::from_str("arn:aws-cn:kms:cn-north-1:1:key/mrk-1").unwrap();
        assert_eq!(china.endpoint().unwrap(), "https://kms.cn-north-1.amazonaws.com.cn/");
        for wrong in [
            "",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/superserve",
            "arn:aws:kms:eu-west-1:111122223333:alias/superserve",
            "arn:aws:s3:eu-west-1:111122223333:key/1",
            "arn:aws:kms::111122223333:key/1",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "arn:aws:kms:eu-west-1:111122223333:key/1:2",
            "arn:aws:kms:evil.example/x:1:key/1",
        ] {
            assert!(KeyArn::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kms_says_what_does_not_open() {
        let answer = |body: &str| Answer {
            status: StatusCode::BAD_REQUEST,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        };
        assert!(is_no_match(&answer(r#"{"__type":"InvalidCiphertextException"}"#)));
        assert!(is_no_match(&answer(
            r#"{"__type":"com.amazonaws.kms#IncorrectKeyException","message":"m"}"#
        )));
        for other in [r#"{"__type":"DisabledException"}"#, "{}", "", "InvalidCiphertextException"] {
            assert!(!is_no_match(&answer(other)), "{other}");
        }
        assert!(is_throttled(&answer(r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#)));
        assert!(!is_throttled(&answer(r#"{"__type":"DisabledException"}"#)) && !is_throttled(&answer("")));
        let told = refusal("to wrap", &answer(r#"{"__type":"DisabledException","message":"a\nb"}"#));
        assert_eq!(told.to_string(), "the key provider refused to wrap: 400 DisabledException ab");
    }
}
