//! Values before: which of them are given out beside the new ones, for how long, under which name.

use std::collections::BTreeMap;

use super::{ChangeKind, plan::Plan};
use crate::{
    crypto::{DataKey, Fingerprint},
    domain::{AuditedSecret, Fault, FaultCode, Faults, Limits, SecretName, Timestamp, Warning, WarningCode},
    store::{PreviousSecret, SealedSecret, StoredSecret},
};

/// The longest time for which a previous value is given out, or a token that was replaced is good: 30 days.
const MAX_SECONDS: usize = 30 * 24 * 60 * 60;

/// What a set does to values before.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Those that are given out after it, by the key they belong to.
    kept: BTreeMap<SecretName, Kept>,
    /// The keys whose values stay, and whose values before it takes back.
    ended: Vec<SecretName>,
    /// How it is audited that the end of an overlap was moved.
    moved: Vec<AuditedSecret>,
    /// Where there is no overlap although one was asked for, or none any more.
    warnings: Vec<Warning>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The most bytes that the value can have.
    bytes_at_most: usize,
    /// Until when it is given out.
    until: Timestamp,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A value that was kept already, for as long as before.
    AsBefore,
    /// A value that was kept already, until another time.
    Moved,
    /// The value that the set replaces.
    Replaced,
}

/// What is wrong with the time, in microseconds, for which what was before is to be good, as this field has it.
pub(super) fn fault_of_time(field: &str, micros: Option<i64>) -> Option<Fault> {
    let longest = Timestamp(0).plus_seconds(i64::try_from(MAX_SECONDS).unwrap_or(i64::MAX)).0;
    let is_wrong = micros.is_some_and(|micros| !(0..=longest).contains(&micros));
    is_wrong.then(|| Fault::over(field, FaultCode::OutOfRange, MAX_SECONDS))
}

/// A value as the one before.
pub(super) fn kept(secret: SealedSecret, until: Timestamp) -> PreviousSecret {
    let SealedSecret { name: _, version, fingerprint, sealed, previous: _ } = secret;
    PreviousSecret { version, fingerprint, sealed, until }
}

// === impl Overlap ===

impl Overlap {
    /// Works out what is given out after a set. A key's new value ends the overlap before; for a time given in
    /// microseconds it begins one of its own, and a key that keeps its value has the end of its overlap moved: at
    /// 0, to now.
    pub(super) fn new(
        plan: &Plan,
        stored: &[StoredSecret],
        previous_for: Option<i64>,
        now: Timestamp,
    ) -> Self {
        let until = previous_for.map(|micros| now.plus_micros(micros));
        let mut overlap = Self::default();
        for secret in stored {
            let given_out = secret.previous.filter(|(_, until)| now < *until);
            match plan.changes.get(&secret.name) {
                None => overlap.keep(secret, given_out, What::AsBefore),
                Some(ChangeKind::Unchanged) => overlap.keep_or_move(secret, given_out, until, now),
                Some(ChangeKind::Replaced) => overlap.replace(secret, given_out.is_some(), until, now),
                Some(ChangeKind::Added | ChangeKind::Pruned) => {}
            }
        }
        if until.is_some_and(|until| now < until) {
            for name in plan.keys_with(ChangeKind::Added) {
                overlap.warn(&name, WarningCode::NoPrevious);
            }
        }
        overlap
    }

    fn keep(&mut self, secret: &StoredSecret, value: Option<(usize, Timestamp)>, what: What) {
        if let Some((sealed_bytes, until)) = value {
            let bytes_at_most = DataKey::value_bytes_at_most(sealed_bytes);
            self.kept.insert(secret.name.clone(), Kept { bytes_at_most, until, what });
        }
    }

    fn keep_or_move(
        &mut self,
        secret: &StoredSecret,
        given_out: Option<(usize, Timestamp)>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) {
        match (until, given_out) {
            (None, given_out) => self.keep(secret, given_out, What::AsBefore),
            (Some(until), Some((sealed_bytes, _))) => {
                if now < until {
                    self.keep(secret, Some((sealed_bytes, until)), What::Moved);
                } else {
                    self.ended.push(secret.name.clone());
                }
                let fingerprint = Fingerprint::from_stored(&secret.fingerprint);
                self.moved.push(AuditedSecret {
                    version: secret.version.0,
                    fingerprint: fingerprint.map(|it| it.short()).unwrap_or_default(),
                    previous_until: Some(until),
                    ..AuditedSecret::absent(&secret.name)
                });
            }
            (Some(until), None) if now < until => self.warn(&secret.name, WarningCode::NoPrevious),
            (Some(_), None) => {}
        }
    }

    fn replace(&mut self, secret: &StoredSecret, drops: bool, until: Option<Timestamp>, now: Timestamp) {
        if let Some(until) = until.filter(|until| now < *until) {
            self.keep(secret, Some((secret.sealed_bytes, until)), What::Replaced);
        }
        // Who gives no time at all to the value before has said that no overlap is to go on
        if drops && until != Some(now) {
            self.warn(&secret.name, WarningCode::PreviousDropped);
        }
    }

    fn warn(&mut self, name: &SecretName, code: WarningCode) {
        self.warnings.push(Warning { key: name.clone(), code });
    }

    /// Names that would stand for two values, or are longer than a key may be.
    pub(super) fn faults(&self, plan: &Plan, limits: &Limits) -> Faults {
        let mut faults = Faults::new();
        for name in self.kept.keys().map(SecretName::previous) {
            if plan.keys.binary_search(&name).is_ok() {
                faults.push(Fault::new(name.as_str(), FaultCode::PreviousNameTaken));
            }
            if name.as_str().len() > limits.key_bytes {
                faults.push(Fault::over(name.as_str(), FaultCode::InvalidKey, limits.key_bytes));
            }
        }
        faults
    }

    /// Where there is no overlap although one was asked for, or none any more.
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// The most bytes that their `name=value` strings can take.
    pub(super) fn bytes_at_most(&self) -> usize {
        self.kept.iter().map(|(name, kept)| name.previous().environment_bytes(kept.bytes_at_most)).sum()
    }

    /// Whether a previous value of a key is given out.
    pub(super) fn keeps(&self, name: &SecretName) -> bool {
        self.kept.contains_key(name)
    }

    /// Until when the value that the set replaces is given out, if it is.
    pub(super) fn keeps_replaced(&self, name: &SecretName) -> Option<Timestamp> {
        self.kept.get(name).filter(|kept| kept.what == What::Replaced).map(|kept| kept.until)
    }

    /// Until when values before are given out from now on, where that changes though the value stays; `None` where
    /// they are taken back.
    pub(super) fn changed(&self) -> Vec<(SecretName, Option<Timestamp>)> {
        let moved = self.kept.iter().filter(|(_, kept)| kept.what == What::Moved);
        let moved = moved.map(|(name, kept)| (name.clone(), Some(kept.until)));
        moved.chain(self.ended.iter().map(|name| (name.clone(), None))).collect()
    }

    /// How it is audited that the end of an overlap was moved.
    pub(super) fn moved(&self) -> &[AuditedSecret] {
        &self.moved
    }
}
