//! Calls of a provider's HTTP API.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::KmsError;
use crate::{crypto::ProviderError, trace};

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that nobody uses is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The largest answer, in bytes: a wrapped key takes some hundred.
const LARGEST: usize = 64 * 1024;

/// A client that keeps connections.
#[derive(Clone, Debug)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    /// A client that trusts the authorities of a file, or those of the machine.
    ///
    /// # Errors
    /// [`KmsError`] when the file holds none.
    pub(super) fn new(setting: &'static str, authorities: Option<&Path>) -> Result<Self, KmsError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|source| KmsError::Unreadable {
                    setting,
                    path: path.to_owned(),
                    source,
                })?;
                let found = CertificateDer::pem_slice_iter(&pem).flatten();
                if roots.add_parsable_certificates(found).0 == 0 {
                    return Err(KmsError::NoAuthority { setting, path: path.to_owned() });
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] when there is no answer.
    pub(super) async fn send(&self, mut request: Request<Bytes>) -> Result<Answer, ProviderError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let no_answer = |why: &dyn std::fmt::Display| {
            ProviderError::Unavailable(format!("the key provider at {host} does not answer: {why}"))
        };
        let exchange = async {
            // After it was signed, by whom that is done: the signature says nothing of it
            trace::pass_on(request.headers_mut());
            let response =
                self.0.request(request.map(Full::new)).await.map_err(|error| no_answer(&causes(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| no_answer(&error))?.to_bytes();
            Ok(Answer { status, body: Zeroizing::new(body.to_vec()) })
        };
        trace::call_out("key provider", timeout(TIMEOUT, exchange))
            .await
            .unwrap_or_else(|_elapsed| Err(no_answer(&"it took too long")))
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
