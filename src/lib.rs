//! The secrets service for AI agents.

pub mod crypto;
pub mod domain;
pub mod proto;
