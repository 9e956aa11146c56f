//! The command line.
mod dotenv;
