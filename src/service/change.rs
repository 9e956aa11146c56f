//! A set under way: what it does to an agent, and what is recorded of it.

use std::collections::BTreeMap;

use super::{
    ChangeKind, Error, Service,
    overlap::{self, Overlap},
    plan::Plan,
    secrets::{deleted, open},
    set_secrets::PreparedSet,
};
use crate::{
    crypto::{DataKey, Fingerprint, Place},
    domain::{Action, AuditedSecret, Fault, FaultCode, Faults, Limits, Revision, SecretName, Timestamp},
    store::{AgentRow, SealedSecret, SealedWrite, StoredSecret, Tx},
};

/// A set under way: the agent is locked, and what it has is read.
pub(super) struct Change<'c> {
    pub(super) tx: &'c Tx,
    pub(super) set: &'c PreparedSet,
    pub(super) agent: AgentRow,
    pub(super) stored: Vec<StoredSecret>,
    pub(super) key: DataKey,
    pub(super) plan: Plan,
    pub(super) overlap: Overlap,
    pub(super) at: Timestamp,
}

// === impl Service ===

impl Service {
    /// Writes what was planned, and its audit record.
    pub(super) async fn carry_out(&self, change: &Change<'_>) -> Result<(), Error> {
        let Change { tx, set, agent, stored: _, key, plan, overlap, at } = change;
        let revision = change.revision_after();
        let mut event = self.event(&set.call, Action::SecretsSet, Some(&agent.id))?;
        let mut before = change.values_before().await?;
        let mut writes = Vec::with_capacity(plan.fingerprints.len());
        for (name, fingerprint) in &plan.fingerprints {
            let Some(value) = set.checked.entries.get(name) else { continue };
            let place = Place { tenant: &agent.tenant, agent: &agent.id, name, version: revision };
            let previous_until = overlap.keeps_replaced(name);
            let previous = before.remove(name).zip(previous_until);
            let secret = SealedSecret {
                name: name.clone(),
                version: revision,
                fingerprint: fingerprint.as_bytes().to_vec(),
                sealed: key.seal(&place, value, &self.parts.random)?.into_bytes(),
                previous: previous.map(|(secret, until)| overlap::kept(secret, until)),
            };
            event.secrets.push(AuditedSecret {
                key: name.to_string(),
                version: revision.0,
                fingerprint: fingerprint.short(),
                previous_until,
                ..AuditedSecret::default()
            });
            writes.push(SealedWrite { secret, at: *at, by: event.actor.clone() });
        }
        let pruned = plan.keys_with(ChangeKind::Pruned);
        event.secrets.extend(pruned.iter().map(deleted));
        event.secrets.extend(overlap.write_moved(tx, &agent.id).await?);
        event.revision = revision;
        tx.put_secrets(&agent.id, writes).await?;
        tx.delete_secrets(&agent.id, &pruned).await?;
        if revision != agent.revision {
            tx.set_revision(&agent.id, revision).await?;
        }
        Ok(tx.record(&event).await?)
    }

    /// Records which stored values the caller's were held against: the answer says which of them are equal.
    pub(super) async fn record_validation(&self, change: &Change<'_>) -> Result<(), Error> {
        let Change { tx, set, agent, stored, .. } = change;
        let mut event = self.event(&set.call, Action::SecretsValidate, Some(&agent.id))?;
        event.revision = agent.revision;
        let compared = stored.iter().filter(|secret| set.checked.entries.contains_key(&secret.name));
        event.secrets = compared.map(audited).collect();
        Ok(tx.record(&event).await?)
    }
}

// === impl Change ===

impl Change<'_> {
    /// The revision once it is carried out; where it is not to be, or changes nothing, that of now.
    pub(super) fn revision_after(&self) -> Revision {
        let moves = self.plan.changes_anything() && !self.set.validate_only;
        if moves { self.agent.revision.next() } else { self.agent.revision }
    }

    /// The sealed values that are to be kept when they are replaced.
    async fn values_before(&self) -> Result<BTreeMap<SecretName, SealedSecret>, Error> {
        if !self.overlap.keeps_any_replaced() {
            return Ok(BTreeMap::new());
        }
        let secrets = self.tx.sealed_of(&self.agent.id).await?;
        Ok(secrets.into_iter().map(|secret| (secret.name.clone(), secret)).collect())
    }

    /// What the agent's limits say of its environment after the set. The lengths of values are not kept in
    /// the clear; their size classes are enough to accept most sets, and where they are not, the values
    /// that stay are opened and measured.
    pub(super) async fn faults_of_size(&self, limits: &Limits) -> Result<Faults, Error> {
        let mut faults = Faults::new();
        if self.plan.keys.len() + self.overlap.count() > limits.keys_per_agent {
            faults.push(Fault::over("", FaultCode::TooManyKeys, limits.keys_per_agent));
        }
        let entries = self.set.checked.entries.iter();
        let new: usize = entries.map(|(name, value)| name.environment_bytes(value.expose().len())).sum();
        let staying = self.stored.iter().filter(|secret| self.plan.leaves(&secret.name));
        let at_most: usize = staying
            .map(|secret| secret.name.environment_bytes(DataKey::value_bytes_at_most(secret.sealed_bytes)))
            .sum();
        if new + at_most + self.overlap.bytes_at_most() > limits.agent_bytes
            && new + self.measure().await? > limits.agent_bytes
        {
            faults.push(Fault::over("", FaultCode::AgentTooLarge, limits.agent_bytes));
        }
        Ok(faults)
    }

    /// The bytes of the values that stay, and of those that are given out as previous ones.
    async fn measure(&self) -> Result<usize, Error> {
        let mut bytes = 0;
        for secret in self.tx.sealed_of(&self.agent.id).await? {
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
        Ok(open(&self.agent, &self.key, name, version, sealed)?.expose().len())
    }
}

/// How a secret that is set is audited.
fn audited(secret: &StoredSecret) -> AuditedSecret {
    let fingerprint = Fingerprint::from_stored(&secret.fingerprint).map(|it| it.short()).unwrap_or_default();
    let key = secret.name.to_string();
    AuditedSecret { key, version: secret.version.0, fingerprint, ..AuditedSecret::default() }
}
