//! The secrets service for AI agents.

pub mod crypto;
pub mod domain;
pub mod proto;
pub mod service;
pub mod store;
pub mod transport;
