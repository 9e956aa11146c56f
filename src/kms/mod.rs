//! Key providers outside this process: the key-encryption key never leaves them, and each data key is wrapped and
//! unwrapped by a call.
//!
//! - `aws`: AWS KMS.
//! - `transit`: the transit engine of OpenBao or Vault, over its HTTP API.
//!
//! An answer is waited for 5 seconds, and a call takes 10 in all. What a provider says of an error is logged, and never a key.

mod attempts;
mod aws;
mod error;
mod http;
mod login;
mod measured;
mod transit;

pub use aws::{AwsKms, AwsKmsConfig, KeyArn};
pub use error::KmsError;
pub use measured::{CallTimes, Measured};
pub use transit::{Transit, TransitAuth, TransitConfig};
