//! The metrics of what is too much: how often each limit has refused something, and how near the limits are.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What a limit is on. The words are fixed: none of them tells who was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls under way, in all.
    Concurrency,
    /// Calls under way, as many as are answered soon: the load is too much.
    Load,
    /// Calls under way of one tenant, while others call too.
    TenantShare,
    /// Calls a second of one token.
    TokenRate,
    /// Calls a second of one address.
    SourceRate,
    /// Failed authentications of one address.
    FailedAuth,
    /// Connections, in all.
    Connections,
    /// Connections of one address.
    SourceConnections,
    /// Connections, in all: those that were asked to go for others.
    Crowded,
    /// Streams that need no token.
    OpenStreams,
    /// Watches.
    Watches,
    /// Bytes of answers that nobody takes.
    Untaken,
    /// Time without a byte: connections that were closed for it.
    Silence,
}

/// How often each limit has refused something, and how near the limits are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LimitMetrics {
    refused: Family<Refused, Counter>,
    connections: Gauge,
    under_way: Family<Kind, Gauge>,
    limits: Family<Kind, Gauge>,
}

/// The gauges of one kind of call.
#[derive(Clone, Debug)]
pub struct CallGauges {
    /// Calls under way.
    pub under_way: Gauge,
    /// How many may be while calls are refused for the load.
    pub limit: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

// === impl Limit ===

impl Limit {
    /// All limits.
    pub const ALL: [Self; 13] = [
        Self::Concurrency,
        Self::Load,
        Self::TenantShare,
        Self::TokenRate,
        Self::SourceRate,
        Self::FailedAuth,
        Self::Connections,
        Self::SourceConnections,
        Self::Crowded,
        Self::OpenStreams,
        Self::Watches,
        Self::Untaken,
        Self::Silence,
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Load => "load",
            Self::TenantShare => "tenant_share",
            Self::TokenRate => "token_rate",
            Self::SourceRate => "source_rate",
            Self::FailedAuth => "failed_auth",
            Self::Connections => "connections",
            Self::SourceConnections => "source_connections",
            Self::Crowded => "crowded",
            Self::OpenStreams => "open_streams",
            Self::Watches => "watches",
            Self::Untaken => "untaken",
            Self::Silence => "silence",
        }
    }
}

// === impl LimitMetrics ===

impl LimitMetrics {
    /// Has them rendered with the others. Every limit is there from the start: what an alert asks for exists.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { refused, connections, under_way, limits } = self;
        for limit in Limit::ALL {
            drop(refused.get_or_create(&Refused { limit: limit.word() }));
        }
        registry.register("refused", "Calls and connections refused, by the limit", refused.clone());
        registry.register("connections", "Connections of clients", connections.clone());
        registry.register(
            "requests_under_way",
            "Calls that are not answered yet, by kind",
            under_way.clone(),
        );
        let help = "How many calls may be under way while there are too many, by kind";
        registry.register("concurrency_limit", help, limits.clone());
    }

    /// Counts what a limit has refused.
    pub fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&Refused { limit: limit.word() }).inc();
    }

    /// So often a limit that is kept elsewhere has refused something.
    pub fn set_refused(&self, limit: Limit, count: u64) {
        let counter = self.refused.get_or_create(&Refused { limit: limit.word() });
        counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// The number of connections.
    #[must_use]
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// The gauges of calls of a kind, which is a fixed word.
    #[must_use]
    pub fn calls(&self, kind: &'static str) -> CallGauges {
        CallGauges {
            under_way: self.under_way.get_or_create(&Kind { kind }).clone(),
            limit: self.limits.get_or_create(&Kind { kind }).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_limit_is_there_before_it_refuses() {
        let (metrics, mut registry) = (LimitMetrics::default(), Registry::with_prefix("superserve"));
        metrics.register(&mut registry);
        metrics.refused(Limit::Load);
        metrics.set_refused(Limit::Watches, 7);
        metrics.calls("read").limit.set(100);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for limit in Limit::ALL {
            let counts = [(Limit::Load, 1), (Limit::Watches, 7)];
            let count = counts.iter().find(|(counted, _)| *counted == limit).map_or(0, |(_, count)| *count);
            let line = format!("superserve_refused_total{{limit=\"{}\"}} {count}\n", limit.word());
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("superserve_concurrency_limit{kind=\"read\"} 100\n"), "{text}");
        assert!(text.contains("superserve_connections 0\n"), "{text}");
    }
}
