//! The settings of the transports.

use std::{num::NonZeroU32, time::Duration};

use http::HeaderValue;

/// The settings of the transports.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest request body, in bytes.
    pub request_bytes: usize,
    /// How long a call may take; a gRPC caller may ask for less.
    pub timeout: Duration,
    /// The most calls under way at a time; more are refused at once.
    pub concurrent_requests: usize,
    /// The most streams at a time that need no token; more are refused.
    pub open_streams: usize,
    /// Calls a second that each token may make, with bursts of as many; `None` for no limit.
    pub rate_limit: Option<NonZeroU32>,
    /// Calls a second that may come from each source, with bursts of as many; `None` for no limit.
    pub rate_limit_per_source: Option<NonZeroU32>,
    /// Failed authentications a minute of each source, by its address; `None` for no limit.
    pub failed_auth: Option<NonZeroU32>,
    /// The origins whose pages may call; none by default.
    pub cors_origins: Vec<HeaderValue>,
}
