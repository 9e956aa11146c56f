//! The secrets service for AI agents: set once, encrypted, never read back, handed to a run as environment
//! variables.
//!
//! ```text
//! cli → app → transport → service → store  → domain
//!   ↘ client → proto              ↘ crypto, identity ↗
//! ```
//!
//! A room names only what stands after its arrow; `tests/it/layers.rs` holds it to that. `docs/architecture.md`
//! says what each is for and follows a set from the socket to the disk:
//!
//! [`transport::listener`] accepts, [`transport`] authenticates and takes the words apart, [`service`] decides and
//! opens a transaction of the [`store`], [`crypto`] seals what is written in it, and the key names go back.

pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod identity;
pub mod kms;
pub mod proto;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod transport;
