//! The settings of encryption: whose certificate is shown, and whose is asked for.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, builder::BoolishValueParser};

use super::SettingError;
use crate::transport::listener::TlsConfig;

/// How connections are encrypted. The files are looked at again while the server runs.
#[derive(Args, Debug)]
pub(super) struct TlsSettings {
    /// Certificate chain, PEM
    #[arg(long, env = "SUPERSERVE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "SUPERSERVE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Ask clients for a certificate of this CA, PEM
    #[arg(long, env = "SUPERSERVE_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Refuse clients that show no certificate; without it, those need a token that show none
    #[arg(long, env = "SUPERSERVE_TLS_CLIENT_REQUIRED", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    tls_client_required: bool,
    /// Serve plaintext on an address that is not loopback
    #[arg(long, env = "SUPERSERVE_INSECURE", value_parser = BoolishValueParser::new())]
    pub(super) insecure: bool,
}

// === impl TlsSettings ===

impl TlsSettings {
    /// Whether a certificate is given.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Checks them for a server that listens on `listen`.
    pub(super) fn check(&self, listen: SocketAddr) -> Result<Option<TlsConfig>, SettingError> {
        match (&self.tls_cert, &self.tls_key, &self.tls_client_ca) {
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsConfig {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
                client_required: self.tls_client_required,
            })),
            (Some(_), None, _) => Err(SettingError::new("--tls-key", "goes with --tls-cert: give both")),
            (None, Some(_), _) => Err(SettingError::new("--tls-cert", "goes with --tls-key: give both")),
            (None, None, Some(_)) => {
                Err(SettingError::new("--tls-client-ca", "needs --tls-cert and --tls-key"))
            }
            (None, None, None) if is_loopback(listen.ip()) || self.insecure => Ok(None),
            (None, None, None) => Err(SettingError::new(
                "--listen",
                format!(
                    "{listen} is not loopback, and tokens and values would cross the network unencrypted: \
                     give --tls-cert and --tls-key, or --insecure behind a proxy that encrypts"
                ),
            )),
        }
    }
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
