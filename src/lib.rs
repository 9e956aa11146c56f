//! The secrets service for AI agents.

pub mod app;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod proto;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod transport;
