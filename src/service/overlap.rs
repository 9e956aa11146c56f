//! Values before: which of them are given out beside the new ones, for how long, under which name.

use std::collections::BTreeMap;

use super::{ChangeKind, plan::Plan};
use crate::{
    crypto::DataKey,
    domain::{Fault, FaultCode, Faults, Limits, SecretName, Timestamp},
    store::StoredSecret,
};

/// The previous values that are given out after a set, by the key they belong to.
#[derive(Debug)]
pub(super) struct Overlap(BTreeMap<SecretName, Kept>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The most bytes that the value can have.
    bytes_at_most: usize,
    /// It is the value that this set replaces, and not one that was kept already.
    is_replaced: bool,
}

impl Overlap {
    /// Works out what is given out after a set. A key's new value ends the overlap before; where
    /// `keep_replaced`, it begins one of its own.
    pub(super) fn new(plan: &Plan, stored: &[StoredSecret], keep_replaced: bool, now: Timestamp) -> Self {
        let mut kept = BTreeMap::new();
        for secret in stored {
            let change = plan.changes.get(&secret.name).copied();
            let stays = matches!(change, None | Some(ChangeKind::Unchanged));
            let previous = secret.previous.filter(|(_, until)| stays && now < *until);
            if let Some((sealed_bytes, _)) = previous {
                let bytes_at_most = DataKey::value_bytes_at_most(sealed_bytes);
                kept.insert(secret.name.clone(), Kept { bytes_at_most, is_replaced: false });
            }
            if keep_replaced && change == Some(ChangeKind::Replaced) {
                let bytes_at_most = DataKey::value_bytes_at_most(secret.sealed_bytes);
                kept.insert(secret.name.clone(), Kept { bytes_at_most, is_replaced: true });
            }
        }
        Self(kept)
    }

    /// Names that would stand for two values, or are longer than a key may be.
    pub(super) fn faults(&self, plan: &Plan, limits: &Limits) -> Faults {
        let mut faults = Faults::new();
        for name in self.0.keys().map(SecretName::previous) {
            if plan.keys.binary_search(&name).is_ok() {
                faults.push(Fault::new(name.as_str(), FaultCode::PreviousNameTaken));
            }
            if name.as_str().len() > limits.key_bytes {
                faults.push(Fault::over(name.as_str(), FaultCode::InvalidKey, limits.key_bytes));
            }
        }
        faults
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The most bytes that their `name=value` strings can take.
    pub(super) fn bytes_at_most(&self) -> usize {
        self.0.iter().map(|(name, kept)| name.previous().environment_bytes(kept.bytes_at_most)).sum()
    }

    /// Whether a previous value of a key is given out.
    pub(super) fn keeps(&self, name: &SecretName) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the value that the set replaces is given out.
    pub(super) fn keeps_replaced(&self, name: &SecretName) -> bool {
        self.0.get(name).is_some_and(|kept| kept.is_replaced)
    }

    /// Whether any value that the set replaces is given out.
    pub(super) fn keeps_any_replaced(&self) -> bool {
        self.0.values().any(|kept| kept.is_replaced)
    }
}
