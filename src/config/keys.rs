//! The settings of who wraps data keys.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use http::Uri;

use super::{SettingError, seconds, tls::is_loopback};
use crate::kms::{AwsKmsConfig, KeyArn, TransitAuth, TransitConfig};

/// Where a pod finds the token of its service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Who wraps data keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProviderName {
    /// The keyring file
    File,
    /// The transit engine of `OpenBao` or Vault
    Transit,
    /// AWS KMS
    AwsKms,
}

/// Who wraps data keys, and how it is reached.
#[derive(Args, Debug)]
pub struct KeySettings {
    /// Who wraps data keys; what the keyring file has wrapped before is still read, and with `file`, what the provider has
    /// whose settings are given
    #[arg(
        long,
        env = "SUPERSERVE_KEY_PROVIDER",
        value_name = "PROVIDER",
        default_value = "file",
        value_enum
    )]
    key_provider: ProviderName,
    /// How long a data key that the provider has unwrapped is used, in seconds; half of it is sure in an outage
    #[arg(long, env = "SUPERSERVE_DATA_KEY_CACHE", value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    data_key_cache: Duration,
    /// `OpenBao` or Vault, without a path: `https://bao.example:8200`
    #[arg(long, env = "SUPERSERVE_TRANSIT_ADDRESS", value_name = "URL")]
    transit_address: Option<Uri>,
    /// Where its transit engine is mounted
    #[arg(long, env = "SUPERSERVE_TRANSIT_MOUNT", value_name = "PATH", default_value = "transit", value_parser = path)]
    transit_mount: String,
    /// Name of the engine's key, of a type that takes associated data (`aes256-gcm96`)
    #[arg(long, env = "SUPERSERVE_TRANSIT_KEY", value_name = "NAME", default_value = "superserve", value_parser = name)]
    transit_key: String,
    /// Namespace of the engine [default: none]
    #[arg(long, env = "SUPERSERVE_TRANSIT_NAMESPACE", value_name = "PATH", value_parser = path)]
    transit_namespace: Option<String>,
    /// Authorities to trust in place of the machine's, PEM
    #[arg(long, env = "SUPERSERVE_TRANSIT_CA", value_name = "FILE")]
    transit_ca: Option<PathBuf>,
    /// File with the token to call with; read again when the token is refused
    #[arg(long, env = "SUPERSERVE_TRANSIT_TOKEN_PATH", value_name = "FILE", conflicts_with = "transit_role")]
    transit_token_path: Option<PathBuf>,
    /// Role of the Kubernetes method, to be let in by the pod's service account
    #[arg(long, env = "SUPERSERVE_TRANSIT_ROLE", value_name = "NAME")]
    transit_role: Option<String>,
    /// Where the Kubernetes method is mounted
    #[arg(long, env = "SUPERSERVE_TRANSIT_AUTH_MOUNT", value_name = "PATH", default_value = "kubernetes", value_parser = path)]
    transit_auth_mount: String,
    /// File with the service account's token
    #[arg(long, env = "SUPERSERVE_TRANSIT_JWT_PATH", value_name = "FILE", default_value = SERVICE_ACCOUNT_TOKEN)]
    transit_jwt_path: PathBuf,
    /// ARN of the key of AWS KMS, of a type that encrypts (`SYMMETRIC_DEFAULT`)
    #[arg(long, env = "SUPERSERVE_AWS_KMS_KEY", value_name = "ARN")]
    aws_kms_key: Option<KeyArn>,
    /// Where AWS KMS is, such as a VPC endpoint [default: that of the key's region]
    #[arg(long, env = "SUPERSERVE_AWS_KMS_ENDPOINT", value_name = "URL")]
    aws_kms_endpoint: Option<Uri>,
}

/// Who wraps data keys, checked.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Who does.
    pub provider: Provider,
    /// Who has wrapped data keys before the keyring file does, and still unwraps them.
    pub before: Option<Provider>,
    /// How long a data key that a provider outside has unwrapped may be used.
    pub data_keys_good_for: Duration,
}

/// Who wraps data keys, and how it is reached.
#[derive(Clone, Debug)]
pub enum Provider {
    /// The keyring file.
    File,
    /// The transit engine of `OpenBao` or Vault.
    Transit(Box<TransitConfig>),
    /// AWS KMS.
    AwsKms(Box<AwsKmsConfig>),
}

// === impl KeySettings ===

impl KeySettings {
    /// Checks them.
    pub(super) fn check(&self) -> Result<Keys, SettingError> {
        let provider = match self.key_provider {
            ProviderName::File => Provider::File,
            ProviderName::Transit => Provider::Transit(Box::new(self.transit()?)),
            ProviderName::AwsKms => Provider::AwsKms(Box::new(self.aws_kms()?)),
        };
        let before = if matches!(provider, Provider::File) { self.before()? } else { None };
        Ok(Keys { provider, before, data_keys_good_for: self.data_key_cache })
    }

    /// The provider that is left for the keyring file, if its settings are there.
    fn before(&self) -> Result<Option<Provider>, SettingError> {
        match (&self.transit_address, &self.aws_kms_key) {
            (None, None) => Ok(None),
            (Some(_), None) => Ok(Some(Provider::Transit(Box::new(self.transit()?)))),
            (None, Some(_)) => Ok(Some(Provider::AwsKms(Box::new(self.aws_kms()?)))),
            (Some(_), Some(_)) => {
                let why = "cannot be given beside --transit-address with --key-provider file: one provider is left at a time";
                Err(SettingError::new("--aws-kms-key", why))
            }
        }
    }

    fn transit(&self) -> Result<TransitConfig, SettingError> {
        let missing = |setting: &str| SettingError::new(setting, "is needed with --key-provider transit");
        let address = self.transit_address.clone().ok_or_else(|| missing("--transit-address"))?;
        check_address("--transit-address", &address)?;
        let auth = match (&self.transit_token_path, &self.transit_role) {
            (Some(path), _) => TransitAuth::TokenFile(path.clone()),
            (None, Some(role)) => TransitAuth::Kubernetes {
                mount: self.transit_auth_mount.clone(),
                role: role.clone(),
                jwt: self.transit_jwt_path.clone(),
            },
            (None, None) => return Err(missing("--transit-token-path or --transit-role")),
        };
        Ok(TransitConfig {
            address,
            mount: self.transit_mount.clone(),
            key: self.transit_key.clone(),
            namespace: self.transit_namespace.clone().unwrap_or_default(),
            ca: self.transit_ca.clone(),
            auth,
        })
    }

    fn aws_kms(&self) -> Result<AwsKmsConfig, SettingError> {
        let missing = || SettingError::new("--aws-kms-key", "is needed with --key-provider aws-kms");
        let key = self.aws_kms_key.clone().ok_or_else(missing)?;
        if let Some(endpoint) = &self.aws_kms_endpoint {
            check_address("--aws-kms-endpoint", endpoint)?;
        }
        Ok(AwsKmsConfig { key, endpoint: self.aws_kms_endpoint.clone() })
    }
}

fn check_address(setting: &'static str, address: &Uri) -> Result<(), SettingError> {
    let host = address.host().unwrap_or_default();
    let refused = |why: &str| Err(SettingError::new(setting, why));
    if host.is_empty() || !matches!(address.path(), "" | "/") || address.query().is_some() {
        return refused("must be like https://host.example:8200, without a path");
    }
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    match address.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if host == "localhost" || ip.is_ok_and(is_loopback) => Ok(()),
        _ => refused("must be https: data keys would cross the network unencrypted"),
    }
}

/// A part of a path.
fn name(text: &str) -> Result<String, &'static str> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = !text.is_empty() && !text.starts_with('.') && text.chars().all(is_fine);
    if is_name { Ok(text.to_owned()) } else { Err("give letters, digits, '-', '_' and '.'") }
}

/// A path without a slash at either end.
fn path(text: &str) -> Result<String, &'static str> {
    let parts = text.trim_matches('/').split('/').map(name).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn check(arguments: &[&str]) -> Result<Keys, String> {
        let command = KeySettings::augment_args(Command::new("serve"));
        let arguments = std::iter::once("serve").chain(arguments.iter().copied());
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let settings = KeySettings::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn the_keyring_file_wraps_unless_told_otherwise() {
        let keys = check(&[]).unwrap();
        assert!(matches!(keys.provider, Provider::File) && keys.before.is_none());
        assert_eq!(keys.data_keys_good_for, Duration::from_mins(10));
    }

    #[test]
    fn transit_needs_an_address_and_a_way_in() {
        let transit = ["--key-provider", "transit"];
        let with = |more: &[&str]| check(&[&transit, more].concat());
        assert!(with(&[]).unwrap_err().contains("--transit-address"));
        let there = ["--transit-address", "https://bao:8200"];
        assert!(with(&there).unwrap_err().contains("--transit-role"));
        let by_token = [&there[..], &["--transit-token-path", "t", "--transit-mount", "/a/b/"]].concat();
        let Provider::Transit(config) = with(&by_token).unwrap().provider else { panic!("transit") };
        assert_eq!((config.mount.as_str(), config.key.as_str()), ("a/b", "superserve"));
        assert!(matches!(config.auth, TransitAuth::TokenFile(_)));
        assert!(with(&[&by_token[..], &["--transit-role", "r"]].concat()).is_err());
        let by_role = with(&[&there[..], &["--transit-role", "r"]].concat()).unwrap();
        let Provider::Transit(config) = by_role.provider else { panic!("transit") };
        assert!(matches!(config.auth, TransitAuth::Kubernetes { mount, .. } if mount == "kubernetes"));
    }

    #[test]
    fn aws_kms_needs_the_arn_of_a_key() {
        let with = |more: &[&str]| check(&[&["--key-provider", "aws-kms"], more].concat());
        assert!(with(&[]).unwrap_err().contains("--aws-kms-key"));
        assert!(with(&["--aws-kms-key", "alias/a"]).unwrap_err().contains("the key's ARN"));
        let key = ["--aws-kms-key", "arn:aws:kms:eu-west-1:1:key/2"];
        assert!(matches!(with(&key).unwrap().provider, Provider::AwsKms(_)));
        let plain = [&key[..], &["--aws-kms-endpoint", "http://vpce.example"]].concat();
        assert!(with(&plain).unwrap_err().contains("unencrypted"));
    }

    #[test]
    fn one_provider_can_be_left_for_the_keyring_file() {
        let transit = ["--transit-address", "https://bao:8200", "--transit-role", "r"];
        let kms = ["--aws-kms-key", "arn:aws:kms:eu-west-1:1:key/2"];
        assert!(matches!(check(&transit).unwrap().before, Some(Provider::Transit(_))));
        assert!(matches!(check(&kms).unwrap().before, Some(Provider::AwsKms(_))));
        assert!(check(&transit[..2]).unwrap_err().contains("--transit-role"));
        assert!(check(&[&transit[..], &kms].concat()).unwrap_err().contains("one provider"));
        let by_kms = check(&[&transit[..], &kms, &["--key-provider", "aws-kms"]].concat()).unwrap();
        assert!(by_kms.before.is_none(), "from one provider to another goes by way of the file");
    }

    #[test]
    fn plaintext_is_for_loopback_alone() {
        let address = |url: &str| {
            check(&["--key-provider", "transit", "--transit-role", "r", "--transit-address", url]).err()
        };
        for url in ["https://bao", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost/"] {
            assert_eq!(address(url), None, "{url}");
        }
        for url in ["http://bao:8200", "bao:8200", "https://bao/v1", "https://bao?a=b", "ftp://127.0.0.1"] {
            assert!(address(url).is_some(), "{url}");
        }
    }

    #[test]
    fn names_are_parts_of_a_path() {
        for name in ["a/../b", "..", "", "a b", "a?b", "a%2fb"] {
            assert!(check(&["--transit-mount", name]).is_err(), "{name}");
            assert!(check(&["--transit-key", name]).is_err(), "{name}");
        }
        assert!(check(&["--transit-key", "a/b"]).is_err());
    }
}
