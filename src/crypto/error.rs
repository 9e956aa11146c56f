//! What can go wrong. No message holds a key, a value or a piece of the input.

use crate::domain::KekId;

/// A computation could not be done at all; nobody's data is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// The value is too long for the format, whose limit is 4 GiB: far above the limit on values.
    #[error("the value is too long to be sealed")]
    ValueTooLong,
    /// The cryptographic library refused lengths that are constants of ours: a defect of this program.
    #[error("the cryptographic library refused its input")]
    Refused,
}

/// A sealed value gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Changed, cut, moved from another place, or sealed under another key: which of them is not told.
    #[error("the sealed value does not open")]
    DoesNotOpen,
}

/// A wrapped data key gives no data key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The keyring has no key of this id.
    #[error("the keyring has no key {0}")]
    UnknownKey(KekId),
    /// Changed, cut, moved from another agent, or wrapped under another key of this id.
    #[error("the wrapped data key does not open")]
    DoesNotOpen,
    /// The computation could not be done.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A keyring cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not JSON.
    #[error("the keyring is not JSON: line {line}, column {column}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
    },
    /// JSON, and not a keyring. The parser's own words would quote the file, which may be a key.
    #[error("the keyring has an unknown, missing, repeated or mistyped field: line {line}, column {column}")]
    Shape {
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
    },
    /// Written by another version of this program.
    #[error("the keyring has version {0}; this program reads version 1")]
    UnsupportedVersion(u64),
    /// An id that cannot be one; it is not shown, because it may be a key in the wrong field.
    #[error("key {position} of the keyring has a malformed id: it must be \"kek_\" and letters or digits")]
    MalformedId {
        /// Which key of the file, from 1.
        position: usize,
    },
    /// The key of this id is not one.
    #[error("the key of {0} must be 32 bytes in padded base64")]
    MalformedKey(KekId),
    /// Two keys have this id.
    #[error("the keyring has {0} twice")]
    DuplicateId(KekId),
    /// No key is primary; so it is with a keyring that has no key.
    #[error("the keyring has no primary key")]
    NoPrimary,
    /// Two keys are primary.
    #[error("the keyring has two primary keys: {0} and {1}")]
    TwoPrimaries(KekId, KekId),
    /// The computation could not be done.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}
