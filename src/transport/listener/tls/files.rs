//! The PEM files: reading them at one time, and what they hold.

use std::{fs, path::Path};

use ring::digest::{self, SHA256};
use rustls::pki_types::{
    CertificateDer,
    pem::{self, PemObject as _},
};
use zeroize::Zeroizing;

use super::{TlsConfig, TlsError};

pub(super) const CERT: &str = "--tls-cert";
pub(super) const KEY: &str = "--tls-key";
pub(super) const CLIENT_CA: &str = "--tls-client-ca";

/// How often files that change under the reader are read anew.
const MOST_READS: usize = 5;

/// What the files held at one time.
#[derive(PartialEq)]
pub(super) struct Contents {
    pub(super) cert: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) client_ca: Option<Vec<u8>>,
}

/// Tells contents apart without keeping them: one of them is a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

// === impl Contents ===

impl Contents {
    /// Reads the files until twice the same was read. Who exchanges them, by a link to their directory as Kubernetes
    /// does, may do so between two of them: one alone would be of before, and the other of after.
    pub(super) fn read(files: &TlsConfig) -> Result<Self, TlsError> {
        let mut last = Self::read_once(files);
        for _ in 1..MOST_READS {
            let again = Self::read_once(files);
            let agree = matches!((&last, &again), (Ok(last), Ok(again)) if last == again);
            last = again;
            if agree {
                break;
            }
        }
        last
    }

    fn read_once(
        TlsConfig { cert, key, client_ca, client_required: _ }: &TlsConfig,
    ) -> Result<Self, TlsError> {
        let read = |setting, path: &Path| {
            fs::read(path).map_err(|source| TlsError::Unreadable { setting, path: path.to_owned(), source })
        };
        Ok(Self {
            cert: read(CERT, cert)?,
            key: Zeroizing::new(read(KEY, key)?),
            client_ca: client_ca.as_ref().map(|path| read(CLIENT_CA, path)).transpose()?,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        let mut context = digest::Context::new(&SHA256);
        for part in [&self.cert, &*self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Digest(digest)
    }
}

/// The certificates of a file, one at least.
pub(super) fn certificates(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(setting, path, "certificate", &error))?;
    if certificates.is_empty() {
        return Err(pem_error(setting, path, "certificate", &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Leaves out the parser's own words: they can repeat lines of the file, and the file can be a key.
pub(super) fn pem_error(
    setting: &'static str,
    path: &Path,
    wanted: &'static str,
    error: &pem::Error,
) -> TlsError {
    let path = path.to_path_buf();
    if let pem::Error::NoItemsFound = error {
        TlsError::Missing { setting, path, wanted }
    } else {
        TlsError::Malformed { setting, path }
    }
}
