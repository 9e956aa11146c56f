//! The limits of a listener and of its connections.

use std::{num::NonZeroUsize, time::Duration};

use hyper_util::{rt::TokioTimer, server::conn::auto};

/// The least header limit HTTP/1.1 can have, in bytes: the parser's smallest buffer.
const LEAST_HEADER_BYTES: u32 = 8 * 1024;
/// What a client may send on one HTTP/2 stream before the handler reads, in bytes. The protocol's own
/// 64 KiB would make a large request wait for a round trip.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for all streams of one HTTP/2 connection together.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Streams a client may open and reset before they were looked at; one more ends the connection
/// ("rapid reset").
const MAX_PENDING_RESET_STREAMS: usize = 20;

/// How much a listener takes, and how long it waits.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Connections served at once, at least 1. Beyond that a source that has fewer than another gets one of the other's,
    /// which is asked to go, and new ones of the others are closed.
    pub max_connections: usize,
    /// Connections of one source served at once: an IPv4 address or an IPv6 /64. Further ones are closed. `None` for no
    /// limit.
    pub max_connections_per_source: Option<NonZeroUsize>,
    /// How long a new connection may leave the HTTP version open: it sent nothing, or only a part of
    /// the HTTP/2 preface.
    pub first_bytes_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// How long the headers of an HTTP/1.1 request may take, from the end of the request before: it
    /// is also how long an idle HTTP/1.1 connection is kept.
    pub header_read_timeout: Duration,
    /// The most bytes of a request's headers, at least 8 KiB. More is answered with 431 or ends the
    /// connection.
    pub max_header_bytes: u32,
    /// Requests in flight on one HTTP/2 connection; further ones wait at the client.
    pub max_concurrent_streams: u32,
    /// How often a quiet HTTP/2 connection is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long that sign may take before the connection is closed.
    pub keepalive_timeout: Duration,
    /// How long a client may leave large answers without taking anything of them before its connection is
    /// closed.
    pub answer_timeout: Duration,
    /// The most bytes of large answers that all clients together may leave untaken; when there are more,
    /// calls are refused.
    pub max_untaken_bytes: usize,
    /// How long a connection takes new requests, give or take 10 % so that clients of many
    /// connections do not come back at once. `None`: for as long as the client likes.
    pub max_connection_age: Option<Duration>,
    /// How long requests in flight may go on after [`max_connection_age`](Self::max_connection_age);
    /// what is left is cut.
    pub max_connection_age_grace: Duration,
    /// How long requests in flight may go on when a connection has to go as others have fewer.
    pub crowded_grace: Duration,
}

// === impl ListenerConfig ===

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_source: None,
            first_bytes_timeout: Duration::from_secs(5),
            tls_handshake_timeout: Duration::from_secs(5),
            // Longer than the minute for which proxies keep idle connections: else one of them may reuse a
            // connection at the moment at which it is closed
            header_read_timeout: Duration::from_secs(75),
            max_header_bytes: 16 * 1024,
            max_concurrent_streams: 100,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_mins(1),
            max_untaken_bytes: 64 * 1024 * 1024,
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(30),
            crowded_grace: Duration::from_secs(5),
        }
    }
}

impl ListenerConfig {
    /// A builder of HTTP/1.1 and HTTP/2 connections with these limits, whose tasks run on `executor`.
    pub(super) fn http_builder<E>(&self, executor: E) -> auto::Builder<E> {
        let header_bytes = self.max_header_bytes.max(LEAST_HEADER_BYTES);
        let mut builder = auto::Builder::new(executor);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_timeout)
            .max_buf_size(usize::try_from(header_bytes).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_header_list_size(header_bytes)
            .max_pending_accept_reset_streams(MAX_PENDING_RESET_STREAMS)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        builder
    }

    /// The age at which one connection is asked to go: the configured one give or take 10 %, chosen
    /// by `random`.
    pub(super) fn connection_age(&self, random: u64) -> Option<Duration> {
        let age = self.max_connection_age?;
        // In thousandths, from 900 to 1100.
        let share = 900 + u32::try_from(random % 201).unwrap_or(100);
        Some((age / 1000).saturating_mul(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_connection_stays_within_a_tenth() {
        let config =
            ListenerConfig { max_connection_age: Some(Duration::from_secs(100)), ..Default::default() };

        let ages: Vec<_> = (0..=200).filter_map(|random| config.connection_age(random)).collect();

        assert_eq!(ages.len(), 201);
        assert_eq!(ages.iter().min(), Some(&Duration::from_secs(90)));
        assert_eq!(ages.iter().max(), Some(&Duration::from_secs(110)));
    }

    #[test]
    fn without_an_age_a_connection_may_stay() {
        assert_eq!(ListenerConfig::default().connection_age(7), None);
    }

    #[test]
    fn the_largest_age_does_not_overflow() {
        let config = ListenerConfig { max_connection_age: Some(Duration::MAX), ..Default::default() };

        assert_eq!(config.connection_age(200), Some(Duration::MAX));
    }

    #[test]
    fn a_header_limit_below_the_parsers_least_is_raised() {
        let config = ListenerConfig { max_header_bytes: 1, ..Default::default() };

        // Would panic inside the builder otherwise.
        drop(config.http_builder(hyper_util::rt::TokioExecutor::new()));
    }
}
