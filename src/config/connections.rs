//! The settings of what clients may do to connections.

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;

use super::seconds;
use crate::transport::listener::ListenerConfig;

/// What clients may do to connections.
#[derive(Args, Debug)]
pub(super) struct ConnectionSettings {
    /// Most connections at a time; beyond that, who has the most loses one to who has fewer, and other new ones are closed
    #[arg(long, env = "SUPERSERVE_MAX_CONNECTIONS", value_name = "N", default_value_t = 10_000, value_parser = positive)]
    max_connections: usize,
    /// Most connections at a time from one address (an IPv6 /64 is one), such as a proxy's; more are closed; 0 for no limit
    /// [default: half of all]
    #[arg(long, env = "SUPERSERVE_MAX_CONNECTIONS_PER_SOURCE", value_name = "N")]
    max_connections_per_source: Option<usize>,
    /// Most calls under way on one HTTP/2 connection; more wait at the client
    #[arg(long, env = "SUPERSERVE_MAX_STREAMS_PER_CONNECTION", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_streams_per_connection: u32,
    /// Longest headers of a request, in bytes; at least 8192
    #[arg(long, env = "SUPERSERVE_MAX_HEADER_BYTES", value_name = "BYTES", default_value_t = 16 * 1024, value_parser = clap::value_parser!(u32).range(8192..=1024 * 1024))]
    max_header_bytes: u32,
    /// Most bytes of large answers that all clients together may leave untaken
    #[arg(long, env = "SUPERSERVE_MAX_UNTAKEN_BYTES", value_name = "BYTES", default_value_t = 64 * 1024 * 1024)]
    max_untaken_bytes: usize,
    /// Longest wait for the headers of an HTTP/1.1 request, in seconds, and how long an idle connection of it is kept
    #[arg(long, env = "SUPERSERVE_HEADER_READ_TIMEOUT", value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    header_read_timeout: Duration,
    /// How often a quiet HTTP/2 connection is asked for a sign of life, in seconds
    #[arg(long, env = "SUPERSERVE_KEEPALIVE_INTERVAL", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    keepalive_interval: Duration,
    /// Longest wait for that sign, in seconds, before the connection is closed
    #[arg(long, env = "SUPERSERVE_KEEPALIVE_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    keepalive_timeout: Duration,
    /// How long a client may take nothing of its large answers, in seconds, before its connection is closed
    #[arg(long, env = "SUPERSERVE_ANSWER_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    answer_timeout: Duration,
    /// How long a connection takes new calls, in seconds, so that clients spread over new replicas [default: no limit]
    #[arg(long, env = "SUPERSERVE_MAX_CONNECTION_AGE", value_name = "SECONDS", value_parser = seconds)]
    max_connection_age: Option<Duration>,
}

// === impl ConnectionSettings ===

impl ConnectionSettings {
    /// Those that the listener keeps.
    pub(super) fn checked(self) -> ListenerConfig {
        let half = self.max_connections.div_ceil(2);
        let per_source = self.max_connections_per_source.unwrap_or(half);
        ListenerConfig {
            max_connections: self.max_connections,
            max_connections_per_source: NonZeroUsize::new(per_source),
            max_concurrent_streams: self.max_streams_per_connection,
            max_header_bytes: self.max_header_bytes,
            max_untaken_bytes: self.max_untaken_bytes,
            header_read_timeout: self.header_read_timeout,
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
            answer_timeout: self.answer_timeout,
            max_connection_age: self.max_connection_age,
            ..ListenerConfig::default()
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a number greater than 0".to_owned())
}
