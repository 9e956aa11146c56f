//! What is measured of the operations. No label holds an agent, a key or a token.

use std::sync::{Arc, Weak, atomic::Ordering};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};

use super::{Error, Inner, Service};
use crate::{domain::Timestamp, domain::TokenRecord, identity::Refusal};

/// Of one server.
#[derive(Debug, Default)]
pub(super) struct Measures {
    refused: Family<Reason, Counter>,
    unreadable: Family<Of, Counter>,
    kept_data_keys: Family<Outcome, Counter>,
}

/// Why a caller is nobody. Callers are told no more than that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// He shows nothing by which he could be known.
    ShowsNothing,
    /// What he shows cannot be a token.
    Malformed,
    /// There is no such token, no such issuer, or no rule for him.
    Unknown,
    /// It was good until some time ago.
    Expired,
    /// It was revoked.
    Revoked,
    /// The token of an issuer, or a certificate, does not hold.
    Invalid,
    /// The keys of an issuer are not to be had.
    IssuerUnavailable,
}

/// What of a sealed secret does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Value,
    DataKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What is counted when somebody asks.
#[derive(Debug)]
struct State(Weak<Inner>);

// === impl Nobody ===

impl Nobody {
    const ALL: [Self; 7] = [
        Self::ShowsNothing,
        Self::Malformed,
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::Invalid,
        Self::IssuerUnavailable,
    ];

    /// Why a token that is there is not good now.
    pub(super) fn with(token: &TokenRecord, now: Timestamp) -> Option<Self> {
        match token.revoked_at {
            _ if token.is_valid_at(now) => None,
            Some(_) => Some(Self::Revoked),
            None => Some(Self::Expired),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::ShowsNothing => "shows_nothing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Invalid => "invalid",
            Self::IssuerUnavailable => "issuer_unavailable",
        }
    }
}

impl From<&Refusal> for Nobody {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Malformed(_) => Self::Malformed,
            Refusal::Unknown(_) => Self::Unknown,
            Refusal::Invalid(_) => Self::Invalid,
            Refusal::Unavailable { .. } => Self::IssuerUnavailable,
        }
    }
}

// === impl Unreadable ===

impl Unreadable {
    fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::DataKey => "data_key",
        }
    }
}

// === impl Measures ===

impl Measures {
    /// A data key of a provider outside was at hand, or has to be asked for.
    pub(super) fn looked_for_data_key(&self, is_kept: bool) {
        let outcome = if is_kept { "kept" } else { "asked_for" };
        self.kept_data_keys.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn unreadable(&self, what: Unreadable) {
        self.unreadable.get_or_create(&Of { of: what.name() }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        // All from the start, so that the first one is an increase
        for nobody in Nobody::ALL {
            drop(self.refused.get_or_create(&Reason { reason: nobody.reason() }));
        }
        for what in [Unreadable::Value, Unreadable::DataKey] {
            drop(self.unreadable.get_or_create(&Of { of: what.name() }));
        }
        registry.register(
            "authentications_refused",
            "Calls by nobody who is known, by reason",
            self.refused.clone(),
        );
        registry.register(
            "unreadable",
            "Sealed values and data keys that did not open: changed, moved, or under another key",
            self.unreadable.clone(),
        );
        registry.register(
            "data_key_lookups",
            "Data keys wrapped by a key provider that calls needed, by where they were",
            self.kept_data_keys.clone(),
        );
    }
}

// === impl State ===

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(parts) = self.0.upgrade() else { return Ok(()) };
        let gauge = |count: u64| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let mut encode = |name, help, metric: &ConstGauge<i64>| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let left = gauge(parts.agents_left.load(Ordering::Relaxed));
        encode(
            "key_rotation_agents_left",
            "Agents whose data keys an older key than the primary still wraps",
            &left,
        )?;
        encode("watches", "Watches under way", &gauge(parts.watched.count()))?;
        let kept = gauge(parts.data_keys.count());
        encode("data_keys_kept", "Data keys of a key provider in memory", &kept)?;
        let done = ConstCounter::new(parts.agents_done.load(Ordering::Relaxed));
        let help =
            "Agents whose data keys this server has wrapped by the primary key in the place of an older one";
        done.encode(encoder.encode_descriptor("key_rotation_agents_done", help, None, done.metric_type())?)
    }
}

// === impl Service ===

impl Service {
    /// Shows what is measured of the operations and of the database.
    pub fn register(&self, registry: &mut Registry) {
        self.parts.store.register(registry);
        self.parts.measures.register(registry);
        // What is shown must not keep alive what is to end
        registry.register_collector(Box::new(State(Arc::downgrade(&self.parts))));
    }

    /// Counts a caller who is nobody, and gives the error by which he is told so.
    #[must_use]
    pub fn refused(&self, nobody: Nobody) -> Error {
        self.parts.measures.refused.get_or_create(&Reason { reason: nobody.reason() }).inc();
        Error::Unauthenticated
    }
}
