//! A key provider whose calls are timed.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::crypto::{DataKey, KeyProvider, Owner, ProviderError, WrappedKey};

/// The times of the calls of a key provider. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CallTimes(Family<Labels, Histogram>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    call: &'static str,
    outcome: &'static str,
}

/// A provider whose calls are timed.
#[derive(Debug)]
pub struct Measured {
    provider: Arc<dyn KeyProvider>,
    times: CallTimes,
}

// === impl CallTimes ===

impl CallTimes {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time of a call of the key provider, by what came of it";
        registry.register_with_unit("key_provider_call_duration", help, Unit::Seconds, self.0.clone());
    }

    fn note<T>(&self, call: &'static str, since: Instant, answer: &Result<T, ProviderError>) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(ProviderError::UnknownKey(_)) => "unknown_key",
            Err(ProviderError::DoesNotOpen) => "does_not_open",
            Err(ProviderError::Unavailable(_)) => "unavailable",
            Err(ProviderError::Crypto(_)) => "failed",
        };
        let times = self.0.get_or_create(&Labels { call, outcome });
        times.observe(since.elapsed().as_secs_f64());
    }
}

impl Default for CallTimes {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 3.0, 9))))
    }
}

// === impl Measured ===

impl Measured {
    /// Times the calls of a provider.
    #[must_use]
    pub fn new(provider: Arc<dyn KeyProvider>, times: CallTimes) -> Self {
        Self { provider, times }
    }
}

#[async_trait]
impl KeyProvider for Measured {
    async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        let since = Instant::now();
        let wrapped = self.provider.wrap(key, owner).await;
        self.times.note("wrap", since, &wrapped);
        wrapped
    }

    async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError> {
        let since = Instant::now();
        let key = self.provider.unwrap(wrapped, owner).await;
        self.times.note("unwrap", since, &key);
        key
    }
}
