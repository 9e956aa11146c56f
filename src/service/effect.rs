//! What a set does to an agent, and what is recorded of it.

use std::collections::BTreeMap;

use super::{
    ChangeKind, Error, Service,
    overlap::{self, Overlap},
    plan::Plan,
    secrets::{deleted, open},
    set_secrets::{PreparedSet, Stop},
};
use crate::{
    crypto::{DataKey, Fingerprint, Place},
    domain::{Action, AuditedSecret, Fault, FaultCode, Faults, Limits, Revision, SecretName, Timestamp},
    store::{Change, Found, SealedSecret, SealedWrite, StoredSecret},
};

/// A set, and the agent as it is before.
pub(super) struct Effect<'e> {
    pub(super) set: &'e PreparedSet,
    pub(super) found: &'e Found,
    pub(super) key: &'e DataKey,
    pub(super) plan: Plan,
    pub(super) overlap: Overlap,
    pub(super) at: Timestamp,
}

// === impl Service ===

impl Service {
    /// What is written, with its audit record.
    pub(super) fn change(&self, effect: &Effect<'_>) -> Result<Change, Stop> {
        let Effect { set, found, key, plan, overlap, at } = effect;
        let (agent, revision) = (&found.metadata.agent, effect.revision_after());
        let mut event = self.event(&set.call, Action::SecretsSet, Some(&agent.id))?;
        let before = effect.values_before();
        let mut puts = Vec::with_capacity(plan.fingerprints.len());
        for (name, fingerprint) in &plan.fingerprints {
            let Some(value) = set.checked.entries.get(name) else { continue };
            let place = Place { tenant: &agent.tenant, agent: &agent.id, name, version: revision };
            let previous_until = overlap.keeps_replaced(name);
            let previous = match previous_until {
                Some(until) => {
                    let secret = before.get(name).ok_or(Stop::NeedsValues)?;
                    Some(overlap::kept((*secret).clone(), until))
                }
                None => None,
            };
            let secret = SealedSecret {
                name: name.clone(),
                version: revision,
                fingerprint: fingerprint.as_bytes().to_vec(),
                sealed: key.seal(&place, value, &self.parts.random).map_err(Error::from)?.into_bytes(),
                previous,
            };
            event.secrets.push(AuditedSecret {
                key: name.to_string(),
                version: revision.0,
                fingerprint: fingerprint.short(),
                previous_until,
                ..AuditedSecret::default()
            });
            puts.push(SealedWrite { secret, at: *at, by: event.actor.clone() });
        }
        let deletes = plan.keys_with(ChangeKind::Pruned);
        event.secrets.extend(deletes.iter().map(deleted));
        event.secrets.extend_from_slice(overlap.moved());
        event.revision = revision;
        let moves_on = revision != agent.revision;
        Ok(Change { moves_on, puts, deletes, overlaps: overlap.changed(), event, remember: None })
    }

    /// The record of which stored values the caller's were held against: the answer says which of them are equal.
    pub(super) fn validation(&self, effect: &Effect<'_>) -> Result<Change, Error> {
        let Effect { set, found, .. } = effect;
        let mut event = self.event(&set.call, Action::SecretsValidate, Some(&found.metadata.agent.id))?;
        event.revision = found.metadata.agent.revision;
        let compared =
            found.metadata.secrets.iter().filter(|secret| set.checked.entries.contains_key(&secret.name));
        event.secrets = compared.map(audited).collect();
        Ok(Change {
            moves_on: false,
            puts: Vec::new(),
            deletes: Vec::new(),
            overlaps: Vec::new(),
            event,
            remember: None,
        })
    }
}

// === impl Effect ===

impl Effect<'_> {
    /// The revision afterwards; where nothing is to be done, or nothing changes, that of now.
    pub(super) fn revision_after(&self) -> Revision {
        let current = self.found.metadata.agent.revision;
        let moves = self.plan.changes_anything() && !self.set.validate_only;
        if moves { current.next() } else { current }
    }

    /// The sealed values, as far as they are known.
    fn values_before(&self) -> BTreeMap<&SecretName, &SealedSecret> {
        self.found.values.iter().flat_map(|it| &it.secrets).map(|secret| (&secret.name, secret)).collect()
    }

    /// What the agent's limits say of its environment after the set. The lengths of values are not kept in
    /// the clear; their size classes are enough to accept most sets, and where they are not, the values
    /// that stay are opened and measured.
    pub(super) fn faults_of_size(&self, limits: &Limits) -> Result<Faults, Stop> {
        let mut faults = Faults::new();
        if self.plan.keys.len() + self.overlap.count() > limits.keys_per_agent {
            faults.push(Fault::over("", FaultCode::TooManyKeys, limits.keys_per_agent));
        }
        let entries = self.set.checked.entries.iter();
        let new: usize = entries.map(|(name, value)| name.environment_bytes(value.expose().len())).sum();
        let staying = self.found.metadata.secrets.iter().filter(|secret| self.plan.leaves(&secret.name));
        let at_most: usize = staying
            .map(|secret| secret.name.environment_bytes(DataKey::value_bytes_at_most(secret.sealed_bytes)))
            .sum();
        if new + at_most + self.overlap.bytes_at_most() > limits.agent_bytes
            && new + self.measure()? > limits.agent_bytes
        {
            faults.push(Fault::over("", FaultCode::AgentTooLarge, limits.agent_bytes));
        }
        Ok(faults)
    }

    /// The bytes of the values that stay, and of those that are given out as previous ones.
    fn measure(&self) -> Result<usize, Stop> {
        let mut bytes = 0;
        for secret in &self.found.values.as_ref().ok_or(Stop::NeedsValues)?.secrets {
            let name = &secret.name;
            if self.plan.leaves(name) {
                bytes += name.environment_bytes(self.length_of(name, secret.version, &secret.sealed)?);
            }
            let previous = match &secret.previous {
                _ if self.overlap.keeps_replaced(name).is_some() => Some((secret.version, &secret.sealed)),
                Some(previous) if self.overlap.keeps(name) => Some((previous.version, &previous.sealed)),
                _ => None,
            };
            if let Some((version, sealed)) = previous {
                bytes += name.previous().environment_bytes(self.length_of(name, version, sealed)?);
            }
        }
        Ok(bytes)
    }

    fn length_of(&self, name: &SecretName, version: Revision, sealed: &[u8]) -> Result<usize, Error> {
        Ok(open(&self.found.metadata.agent, self.key, name, version, sealed)?.expose().len())
    }
}

/// How a secret that is set is audited.
fn audited(secret: &StoredSecret) -> AuditedSecret {
    let fingerprint = Fingerprint::from_stored(&secret.fingerprint).map(|it| it.short()).unwrap_or_default();
    let key = secret.name.to_string();
    AuditedSecret { key, version: secret.version.0, fingerprint, ..AuditedSecret::default() }
}
