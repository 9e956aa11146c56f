//! The integration tests: the real binary, over real sockets, on real databases.
//!
//! One binary, so that it is linked once and one PostgreSQL cluster serves all of it. A test that needs a
//! database is written once and run on both (see [`harness::on_each_database`]). To add a file: declare it here.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod budgets;
mod cli;
mod cli_dotenv;
mod cli_json;
mod cli_limits;
mod cli_output;
mod cli_refusals;
mod cli_run;
mod cli_run_env;
mod cli_run_watch;
mod cli_runs;
mod cli_session;
mod cli_settings;
mod cli_terminal;
mod cors;
mod drill_database;
mod drill_machine;
mod durability;
mod enumeration;
mod errors;
mod examples;
mod failover;
mod failover_hosts;
mod failures;
mod faults;
mod first_run;
mod freshness;
mod grpc;
mod grpc_errors;
mod grpc_wire;
mod guessing;
mod harness;
mod hostile_answers;
mod hostile_bodies;
mod hostile_http2;
mod hostile_paths;
mod http;
mod identities;
mod identity_forgeries;
mod identity_keys;
mod layers;
mod log;
mod many_agents;
mod many_connections;
mod many_watchers;
mod memory;
mod metrics;
mod migrations;
mod openapi;
mod outages;
mod pages;
mod parity;
mod patterns;
mod postgres;
mod provider_troubles;
mod providers;
mod readme;
mod repeats;
mod rest;
mod rewrap;
mod rollout;
mod rotation;
mod runs;
mod runtime;
mod scaling;
mod secrecy;
mod shutdown;
mod smoke;
mod sources;
mod store;
mod store_changes;
mod store_outages;
mod tamper;
mod tenant_commands;
mod tenant_matrix;
mod tenants;
mod threat_model;
mod tls;
mod tls_identity;
mod tls_reload;
mod tls_versions;
mod token_rotation;
mod token_uses;
mod watch;
