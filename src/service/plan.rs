//! What a set would do, worked out before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::{
    crypto::{DataKey, Fingerprint},
    domain::{
        Fault, FaultCode, Faults, Limits, RequiredSecret, SecretName, SecretValue, Warning, WarningCode,
    },
    store::StoredSecret,
};

/// A key and a value as they came, not yet checked.
pub struct RawEntry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Zeroizing<String>,
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ChangeKind {
    /// It was not set before.
    Added,
    /// It had another value before.
    Replaced,
    /// It had this value already.
    Unchanged,
    /// It was not in the set, and the set was to leave nothing else.
    Pruned,
}

/// Checked entries, sorted by name, with what is wrong and what looks wrong.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) entries: BTreeMap<SecretName, SecretValue>,
    pub(super) warnings: Vec<Warning>,
    pub(super) faults: Faults,
}

/// What a set does to an agent.
#[derive(Debug)]
pub(super) struct Plan {
    /// What happens to each key, sorted by name.
    pub(super) changes: BTreeMap<SecretName, ChangeKind>,
    /// The fingerprint of each value that is new.
    pub(super) fingerprints: BTreeMap<SecretName, Fingerprint>,
    /// All keys that are set afterwards, sorted.
    pub(super) keys: Vec<SecretName>,
}

// === impl RawEntry ===

impl std::fmt::Debug for RawEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawEntry").field("key", &self.key).field("value", &"[redacted]").finish()
    }
}

// === impl Checked ===

impl Checked {
    /// Checks entries by themselves. `faults` are those that reading them has found.
    pub(super) fn new(raw: Vec<RawEntry>, mut faults: Faults, limits: &Limits) -> Self {
        if raw.is_empty() && faults.is_empty() {
            faults.push(Fault::new("secrets", FaultCode::EmptySet));
        }
        faults.extend(Self::faults_of_total(&raw, limits));
        let mut checked = Self { faults, ..Self::default() };
        for entry in raw {
            checked.add(entry, limits);
        }
        checked
    }

    /// Entries that no agent has room for, whatever it has already; also those that are wrong themselves
    /// count, so that a caller who corrects them is not refused again.
    fn faults_of_total(raw: &[RawEntry], limits: &Limits) -> Faults {
        let mut faults = Faults::new();
        if raw.len() > limits.keys_per_agent {
            faults.push(Fault::over("", FaultCode::TooManyKeys, limits.keys_per_agent));
        }
        let bytes: usize = raw.iter().map(|entry| entry.key.len() + entry.value.len() + 2).sum();
        if bytes > limits.agent_bytes {
            faults.push(Fault::over("", FaultCode::AgentTooLarge, limits.agent_bytes));
        }
        faults
    }

    fn add(&mut self, RawEntry { key, mut value }: RawEntry, limits: &Limits) {
        let name = SecretName::new(&key, limits).map_err(|code| {
            let limit = (key.len() > limits.key_bytes).then_some(limits.key_bytes as u64);
            Fault { limit, ..Fault::new(&key, code) }
        });
        let value = SecretValue::new(std::mem::take(&mut *value), limits).map_err(|code| {
            let limit = (code == FaultCode::TooLong).then_some(limits.value_bytes as u64);
            Fault { limit, ..Fault::new(&key, code) }
        });
        match (name, value) {
            (Ok(name), Ok(value)) => self.accept(name, value),
            (name, value) => {
                self.faults.extend(name.err());
                self.faults.extend(value.err());
            }
        }
    }

    fn accept(&mut self, name: SecretName, value: SecretValue) {
        for code in WarningCode::inspect(&value) {
            self.warnings.push(Warning { key: name.clone(), code });
        }
        if self.entries.contains_key(&name) {
            self.faults.push(Fault::new(name.as_str(), FaultCode::Duplicate));
        }
        self.entries.insert(name, value);
    }

    /// Holds the entries to what the agent declares and says what is wrong in all.
    pub(super) fn faults_for(&self, required: &[RequiredSecret]) -> Faults {
        let told = self.declared(required).flat_map(|(declared, value)| declared.faults_of(value));
        self.faults.iter().cloned().chain(told).collect()
    }

    /// Whether holding the entries to what the agent declares takes more than a moment.
    pub(super) fn meets_a_pattern(&self, required: &[RequiredSecret]) -> bool {
        self.declared(required).any(|(declared, _)| declared.has_pattern())
    }

    /// The entries that the agent declares, sorted by name.
    fn declared<'a>(
        &'a self,
        required: &'a [RequiredSecret],
    ) -> impl Iterator<Item = (&'a RequiredSecret, &'a SecretValue)> {
        self.entries.iter().flat_map(move |(name, value)| {
            let of_name = required.iter().filter(move |declared| declared.name == name.as_str());
            of_name.map(move |declared| (declared, value))
        })
    }
}

// === impl Plan ===

impl Plan {
    /// Works out what setting `entries` does to an agent that has `stored`, and leaves the rest or not.
    pub(super) fn new(
        entries: &BTreeMap<SecretName, SecretValue>,
        stored: &[StoredSecret],
        key: &DataKey,
        prune: bool,
    ) -> Self {
        let mut changes = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        let mut keys: BTreeSet<SecretName> = entries.keys().cloned().collect();
        for (name, value) in entries {
            let fingerprint = key.fingerprint(name, value);
            let before = stored.iter().find(|secret| secret.name == *name);
            let change = match before {
                None => ChangeKind::Added,
                Some(secret) if Fingerprint::from_stored(&secret.fingerprint) == Some(fingerprint) => {
                    ChangeKind::Unchanged
                }
                Some(_) => ChangeKind::Replaced,
            };
            if change != ChangeKind::Unchanged {
                fingerprints.insert(name.clone(), fingerprint);
            }
            changes.insert(name.clone(), change);
        }
        for secret in stored.iter().filter(|secret| !entries.contains_key(&secret.name)) {
            if prune {
                changes.insert(secret.name.clone(), ChangeKind::Pruned);
            } else {
                keys.insert(secret.name.clone());
            }
        }
        Self { changes, fingerprints, keys: keys.into_iter().collect() }
    }

    /// The keys to which this happens, sorted.
    pub(super) fn keys_with(&self, kind: ChangeKind) -> Vec<SecretName> {
        self.changes.iter().filter(|(_, change)| **change == kind).map(|(name, _)| name.clone()).collect()
    }

    /// Whether anything is different afterwards.
    pub(super) fn changes_anything(&self) -> bool {
        self.changes.values().any(|change| *change != ChangeKind::Unchanged)
    }

    /// Whether a key was set before and is not in the set: it stays as it is.
    pub(super) fn leaves(&self, name: &SecretName) -> bool {
        !self.changes.contains_key(name)
    }
}
