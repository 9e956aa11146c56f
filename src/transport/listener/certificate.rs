//! What a certificate says, apart from whether it is to be believed: that was found out by rustls before.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, error::X509Error, extensions::GeneralName, prelude::FromDer as _,
    time::ASN1Time,
};

use crate::{
    domain::{SpiffeId, SpiffeIdError, Timestamp},
    transport::timestamp::to_rfc3339,
};

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub not_before: Timestamp,
    /// Not after this.
    pub not_after: Timestamp,
}

/// A client's certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Whom it names.
    pub spiffe_id: Result<SpiffeId, NoSvid>,
    /// From when until when it is good.
    pub validity: Validity,
}

/// Why a certificate that was verified names no workload. The rules are those of SPIFFE's X.509-SVID for a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSvid {
    /// An extension that matters is there twice or cannot be read.
    #[error("the certificate has an extension that cannot be read")]
    Unreadable,
    /// It may sign certificates or revocations.
    #[error("the certificate is an authority's")]
    Authority,
    /// Its key usage does not say that the key may sign a handshake.
    #[error("the certificate's key usage lacks digitalSignature")]
    KeyUsage,
    /// Its extended key usage does not say that it is for clients.
    #[error("the certificate's extended key usage lacks clientAuth")]
    NotForClients,
    /// It has none, or several.
    #[error("the certificate has {0} URI names, and not one")]
    Uris(usize),
    /// It is none of a workload.
    #[error("the certificate's URI name is no SPIFFE id: {0}")]
    Uri(#[from] SpiffeIdError),
}

// === impl Validity ===

impl Validity {
    /// Both ends as RFC 3339 has them.
    #[must_use]
    pub fn as_text(&self) -> [String; 2] {
        [to_rfc3339(self.not_before), to_rfc3339(self.not_after)]
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let at = |time: ASN1Time| Timestamp(time.timestamp().saturating_mul(1_000_000));
        let validity = certificate.validity();
        Self { not_before: at(validity.not_before), not_after: at(validity.not_after) }
    }

    /// `None` if it is no certificate.
    pub(super) fn of_der(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(certificate).ok()?;
        Some(Self::of(&certificate))
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// `None` if it is no certificate.
    pub(super) fn of_der(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(certificate).ok()?;
        Some(Self { spiffe_id: spiffe_id(&certificate), validity: Validity::of(&certificate) })
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, NoSvid> {
    let unreadable = |_which: X509Error| NoSvid::Unreadable;
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(NoSvid::Authority);
    }
    let usage = certificate.key_usage().map_err(unreadable)?.ok_or(NoSvid::KeyUsage)?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(NoSvid::Authority);
    }
    if !usage.digital_signature() {
        return Err(NoSvid::KeyUsage);
    }
    let purposes = certificate.extended_key_usage().map_err(unreadable)?;
    if !purposes.is_some_and(|purposes| purposes.value.client_auth) {
        return Err(NoSvid::NotForClients);
    }
    let names = certificate.subject_alternative_name().map_err(unreadable)?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // What it is cannot be said: it might be one more
            GeneralName::Invalid(..) => return Err(NoSvid::Unreadable),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    match uris[..] {
        [uri] => Ok(SpiffeId::parse(uri)?),
        _ => Err(NoSvid::Uris(uris.len())),
    }
}
