//! The secrets service for AI agents.

pub mod domain;
pub mod proto;
pub mod transport;
