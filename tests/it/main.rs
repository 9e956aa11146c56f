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
mod cli_run;
mod cli_session;
mod cli_terminal;
mod cors;
mod durability;
mod errors;
mod failures;
mod faults;
mod first_run;
mod grpc;
mod grpc_wire;
mod harness;
mod http;
mod layers;
mod migrations;
mod openapi;
mod outages;
mod parity;
mod postgres;
mod rest;
mod secrecy;
mod shutdown;
mod smoke;
mod sources;
mod store;
mod tamper;
mod tenants;
mod tls;
