//! Where the server is, and whom to trust on the way there.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use url::{Host, Url};

use super::Error;
use crate::trace;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connection that waits is tried, so that a stream of a dead server ends.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Server {
    url: Url,
    ca_cert: Option<Vec<u8>>,
    pub(super) trace: Option<Arc<trace::Context>>,
}

/// Why a text is not the address of a server. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL.
    #[error("{0}")]
    Malformed(url::ParseError),
    /// It is another kind of URL.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// It names a user.
    #[error("it must not hold a user or a password")]
    User,
    /// It has a path, a query or a fragment.
    #[error("it must end after host and port")]
    Path,
}

// === impl Server ===

impl Server {
    /// Reads an address: `http://127.0.0.1:8080`, `https://secrets.example.com`. With `https` the system's CAs are trusted.
    ///
    /// # Errors
    /// When it is more or less than scheme, host and port.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let url = Url::parse(url).map_err(AddressError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(AddressError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::User);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Path);
        }
        Ok(Self { url, ca_cert: None, trace: None })
    }

    /// The same, trusting the CAs in this PEM text and no others. Whether it can be read is seen by
    /// [`connect`](Self::connect).
    #[must_use]
    pub fn trusting(mut self, pem: Vec<u8>) -> Self {
        self.ca_cert = Some(pem);
        self
    }

    /// The same, with each call as a part of this trace (W3C Trace Context).
    #[must_use]
    pub fn in_trace(mut self, trace: trace::Context) -> Self {
        self.trace = Some(Arc::new(trace));
        self
    }

    /// The trace that each call is a part of.
    #[must_use]
    pub fn trace(&self) -> Option<&trace::Context> {
        self.trace.as_deref()
    }

    /// The address as it is shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Whether a token would cross a network unencrypted.
    #[must_use]
    pub fn is_plaintext_over_network(&self) -> bool {
        self.url.scheme() == "http" && !self.is_loopback()
    }

    fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }

    /// What a status means that came from this server over a connection of one's own.
    #[must_use]
    pub fn error(&self, status: Status) -> Error {
        Error::of(self.shown(), status)
    }

    /// Opens a connection without a token, for calls that need none, such as of `grpc.health.v1`. A call on it may
    /// take 30 s.
    ///
    /// # Errors
    /// As [`Client::connect`](super::Client::connect).
    pub async fn connect(&self) -> Result<Channel, Error> {
        let unusable = |source| Error::Unusable { server: self.shown().to_owned(), source };
        let mut endpoint = Endpoint::from_shared(self.url.to_string())
            .and_then(|endpoint| endpoint.user_agent(concat!("superserve/", env!("CARGO_PKG_VERSION"))))
            .map_err(unusable)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE);
        if self.url.scheme() == "https" {
            let tls = match &self.ca_cert {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(unusable)?;
        }
        endpoint
            .connect()
            .await
            .map_err(|source| Error::Unreachable { server: self.shown().to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_scheme_host_and_port() {
        assert_eq!(Server::parse("https://b.example:1/").unwrap().shown(), "https://b.example:1");
        for (url, refusal) in [
            ("x", AddressError::Malformed(url::ParseError::RelativeUrlWithoutBase)),
            ("127.0.0.1:8080", AddressError::Malformed(url::ParseError::RelativeUrlWithoutBase)),
            ("ftp://a", AddressError::Scheme),
            ("http://u:p@a", AddressError::User),
            ("http://a/b", AddressError::Path),
            ("http://a?x", AddressError::Path),
        ] {
            assert_eq!(Server::parse(url).unwrap_err(), refusal, "{url}");
        }
    }

    #[test]
    fn plaintext_off_this_machine_is_known() {
        let crosses = |url| Server::parse(url).unwrap().is_plaintext_over_network();
        assert!(crosses("http://secrets.example.com") && crosses("http://10.0.0.1:8080"));
        for url in ["https://secrets.example.com", "http://localhost:1", "http://127.1.2.3", "http://[::1]:8"]
        {
            assert!(!crosses(url), "{url}");
        }
    }

    #[tokio::test]
    async fn nobody_there_and_unreadable_cas_are_told_apart() {
        let nobody = Server::parse("http://127.0.0.1:1").unwrap();
        assert!(matches!(nobody.connect().await, Err(Error::Unreachable { .. })));
        let unreadable = Server::parse("https://127.0.0.1:1").unwrap().trusting(b"no PEM".to_vec());
        assert!(unreadable.connect().await.is_err());
    }
}
