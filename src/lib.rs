//! The secrets service for AI agents.

pub mod cli;
pub mod domain;
pub mod proto;
