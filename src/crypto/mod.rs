//! Cryptography: bytes in, bytes out. No file, no network, no clock; [`ring`] does the arithmetic. Who else may wrap data
//! keys, and how it is asked, is [`KeyProvider`].
//!
//! # Which key does what
//!
//! ```text
//! keyring file ─► key-encryption key (KEK) ─HKDF─┬► wrapping key ─ seals each agent's data key
//!                                                └► check key ─── the check value in the database
//! one per agent ─► data key (DEK) ─────────HKDF─┬► sealing key ── seals that agent's values
//!                                               ├► fingerprint key: tells equal values from new ones
//!                                               └► request key ── tells equal requests from new ones
//! ```
//!
//! - A [`Keyring`] holds the KEKs: one *primary*, which wraps, and any number that only unwrap. A new key
//!   starts as decrypt-only, so that every replica can have it before the first one wraps under it. Once it is the
//!   primary, each data key is wrapped anew ([`Keyring::rewrap`]); values are not touched by that, and when no data
//!   key is left under the old one, it can go.
//! - A [`DataKey`] is random and belongs to one agent. Destroying its only wrapped copy kills every value
//!   of the agent, in backups too, and no agent's key says anything about another's.
//! - No key has two uses: each use has its own key, derived with HKDF-SHA256 under its own label.
//!
//! # What is sealed
//!
//! Both kinds of blob are `format (1 byte) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM. The place a
//! blob belongs to is its additional data, every part preceded by its length, so that no two places read
//! the same: label, tenant, agent, name and version for a value; label, KEK id, tenant and agent for a
//! data key. A blob that was moved, swapped, replayed or changed does not open, and the error does not
//! say why: whoever can write the database must not learn from us how close they came.
//!
//! Nonces are random, because replicas share no counter. Two equal ones under one key would be fatal; the
//! chance stays below 2⁻³² up to 2³² seals a key: writes of one agent, or wraps under one KEK.
//!
//! Values are padded to size classes before sealing ([`DataKey::seal`]). Whoever holds a copy of the
//! database would otherwise read the exact length of each, which tells an API key from a private key and a
//! short password from a long one.
//!
//! # What is not promised
//!
//! Our own copies of keys and values are wiped when they are dropped. What [`ring`] derives for itself (AES
//! key schedules, HMAC states) cannot be: it offers no way. Hence a [`DataKey`] lives no longer than its call.
//!
//! # To change a format
//!
//! Give it a new format byte and a new label, keep reading the old one, and add a stored blob to the tests
//! beside those that are there. Those never change: somebody's database is full of them.

mod aead;
mod data_key;
mod envelope;
mod error;
mod fingerprint;
mod framing;
mod kek;
mod key_bytes;
mod keyring;
mod keyring_file;
mod provider;
mod random;
mod wrapping;

pub use data_key::DataKey;
pub use envelope::{Place, Sealed};
pub use error::{CryptoError, KeyringError, OpenError, UnwrapError};
pub use fingerprint::Fingerprint;
pub use kek::{KekState, KeyCheck, check_value_fingerprint};
pub use keyring::{KeyEntry, Keyring};
pub use provider::{KeyProvider, LocalKeys, Owner, ProviderError};
pub use random::Random;
pub use wrapping::WrappedKey;
