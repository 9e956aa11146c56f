//! What is measured of the database, of either kind.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use sqlx::PgPool;

use super::{Store, engine::Engine, kept::Kept};

/// Of one database. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Measures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    statements: Family<Statement, Histogram>,
    /// The same, found without a look at the family.
    by_kind: [Histogram; Kind::ALL.len()],
    waits: Histogram,
    commit_writes: Histogram,
    audit_failures: Counter,
    lost_connections: Counter,
    lookups: Family<Lookup, Counter>,
    /// The same, found without a look at the family.
    recalled: Counter,
    read: Counter,
}

/// What a statement begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Select,
    Insert,
    Update,
    Delete,
    /// Several in one, on PostgreSQL.
    With,
    Commit,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Statement {
    statement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    from: &'static str,
}

/// The connections of a pool, counted when somebody asks.
#[derive(Debug)]
struct Connections {
    pool: PgPool,
    /// What is shown must not keep connections open.
    kept: Weak<Kept>,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 7] =
        [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::With, Self::Commit, Self::Other];

    /// That of a statement of ours, which begins with its word.
    pub(super) fn of(text: &str) -> Self {
        match text.trim_start().get(..6) {
            Some("SELECT") => Self::Select,
            Some("INSERT") => Self::Insert,
            Some("UPDATE") => Self::Update,
            Some("DELETE") => Self::Delete,
            Some("COMMIT") => Self::Commit,
            Some(word) if word.starts_with("WITH") => Self::With,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::With => "with",
            Self::Commit => "commit",
            Self::Other => "other",
        }
    }
}

// === impl Measures ===

impl Measures {
    /// A statement took so long, whatever came of it.
    pub(super) fn statement(&self, kind: Kind, since: Instant) {
        if let Some(times) = self.0.by_kind.get(kind as usize) {
            times.observe(since.elapsed().as_secs_f64());
        }
    }

    /// A connection was waited for so long, be it in vain.
    pub(super) fn wait(&self, time: Duration) {
        self.0.waits.observe(time.as_secs_f64());
    }

    /// So many writes were committed at once.
    #[expect(clippy::cast_precision_loss, reason = "there are tens")]
    pub(super) fn commit(&self, writes: usize) {
        self.0.commit_writes.observe(writes as f64);
    }

    /// The record of a call that writes nothing else could not be written.
    pub(super) fn audit_failed(&self) {
        self.0.audit_failures.inc();
    }

    /// A connection was found dead.
    pub(super) fn lost_connection(&self) {
        self.0.lost_connections.inc();
    }

    /// What a call needs was in memory, or was read.
    pub(super) fn looked_up(&self, was_in_memory: bool) {
        if was_in_memory { &self.0.recalled } else { &self.0.read }.inc();
    }

    fn register(&self, registry: &mut Registry) {
        let Inner { statements, waits, commit_writes, audit_failures, lost_connections, lookups, .. } =
            &*self.0;
        let name = "database_statement_duration";
        let help = "Time of a statement, by the word that it begins with";
        registry.register_with_unit(name, help, Unit::Seconds, statements.clone());
        let help = "Time that a call waited for a connection";
        registry.register_with_unit("database_wait", help, Unit::Seconds, waits.clone());
        registry.register(
            "database_commit_writes",
            "Writes and audit records that shared a commit",
            commit_writes.clone(),
        );
        registry.register(
            "audit_failures",
            "Calls that were refused because their audit record could not be written",
            audit_failures.clone(),
        );
        registry.register(
            "database_lost_connections",
            "Connections that were found dead",
            lost_connections.clone(),
        );
        registry.register(
            "database_lookups",
            "Agents and tokens looked up on SQLite, in memory or in the database",
            lookups.clone(),
        );
    }
}

impl Default for Inner {
    fn default() -> Self {
        let statements = Family::<Statement, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_02, 4.0, 10))
        });
        let of_kind = |kind: Kind| statements.get_or_create(&Statement { statement: kind.name() }).clone();
        let by_kind = Kind::ALL.map(of_kind);
        let lookups = Family::<Lookup, Counter>::default();
        let from = |from| lookups.get_or_create(&Lookup { from }).clone();
        let (recalled, read) = (from("memory"), from("database"));
        Self {
            statements,
            by_kind,
            waits: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            commit_writes: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            audit_failures: Counter::default(),
            lost_connections: Counter::default(),
            lookups,
            recalled,
            read,
        }
    }
}

// === impl Connections ===

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kept = self.kept.upgrade().map_or(0, |kept| kept.unused());
        let (all, idle) = (self.pool.size(), self.pool.num_idle() + kept);
        let count = |count: u64| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let mut encode = |name, help, gauge: &ConstGauge<i64>| {
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        encode("database_connections", "Connections to the database", &count(all.into()))?;
        encode("database_idle_connections", "Those of them that nobody has", &count(idle as u64))?;
        let most = self.pool.options().get_max_connections();
        encode("database_max_connections", "The most connections there may be", &count(most.into()))
    }
}

// === impl Store ===

impl Store {
    /// Shows what is measured of the database.
    pub fn register(&self, registry: &mut Registry) {
        self.measures.register(registry);
        if let Engine::Postgres(pool) = &self.reader {
            let (pool, kept) = pool.counted();
            registry.register_collector(Box::new(Connections { pool, kept }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_statement_has_its_times() {
        let measures = Measures::default();
        for text in
            ["SELECT 1", " INSERT INTO a", "UPDATE a", "DELETE FROM a", "WITH a AS", "COMMIT", "BEGIN", "é"]
        {
            measures.statement(Kind::of(text), Instant::now());
        }
        let mut registry = Registry::default();
        measures.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (kind, count) in Kind::ALL.map(Kind::name).into_iter().zip([1, 1, 1, 1, 1, 1, 2]) {
            let line = format!("database_statement_duration_seconds_count{{statement=\"{kind}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
