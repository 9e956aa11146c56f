//! Set.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Call, ChangeKind, Error, RawEntry, Service,
    idempotency::{self, Attempt, revision_bytes},
    overlap::{self, Overlap},
    plan::{Checked, Plan},
    secrets::{Written, deleted, expect_revision, open, written},
};
use crate::{
    crypto::{DataKey, Place},
    domain::{
        Action, AgentId, AuditedSecret, Fault, FaultCode, Faults, IdempotencyKey, Limits, Revision, Scope,
        SecretName, Timestamp,
    },
    store::{AgentRow, SealedSecret, SealedWrite, StoredSecret, Tx},
};

/// What to set.
#[derive(Debug)]
pub struct SetSecrets {
    /// The agent's id as the caller wrote it.
    pub agent: String,
    /// Keys and values as they came.
    pub entries: Vec<RawEntry>,
    /// What reading them has found wrong already.
    pub faults: Faults,
    /// Go on only if the agent is at this revision.
    pub expected_revision: Option<Revision>,
    /// The caller's name for this attempt; empty for none.
    pub idempotency_key: String,
    /// Say what would happen, and do nothing.
    pub validate_only: bool,
    /// Delete every other key.
    pub prune: bool,
    /// For so many microseconds, give out the value that each key had before too; 0 to end that.
    pub previous_for: Option<i64>,
}

/// What a set did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetSecretsAnswer {
    /// The keys that are set now, and the revision.
    pub written: Written,
    /// What looks like a mistake: key and code.
    pub warnings: Vec<(String, String)>,
    /// What happened to each key, sorted by key.
    pub changes: Vec<(String, ChangeKind)>,
}

/// A set that was checked as far as can be without the database.
struct PreparedSet {
    call: Call,
    agent: AgentId,
    checked: Checked,
    expected_revision: Option<Revision>,
    idempotency_key: Option<IdempotencyKey>,
    validate_only: bool,
    prune: bool,
    previous_for: Option<i64>,
}

/// A set under way: the agent is locked, and what it has is read.
struct Change<'c> {
    tx: &'c Tx,
    set: &'c PreparedSet,
    agent: AgentRow,
    key: DataKey,
    plan: Plan,
    overlap: Overlap,
    at: Timestamp,
}

// === impl Service ===

impl Service {
    /// Sets or replaces keys and leaves the others (unless it is to prune). All or nothing, durable when it
    /// returns; a value equal to the stored one makes no new version.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:write`; [`Error::AgentNotFound`]; [`Error::Invalid`]
    /// with all faults; [`Error::RevisionMismatch`]; [`Error::Store`].
    pub async fn set_secrets(&self, call: &Call, request: SetSecrets) -> Result<SetSecretsAnswer, Error> {
        let SetSecrets {
            agent,
            entries,
            faults,
            expected_revision,
            idempotency_key,
            validate_only,
            prune,
            previous_for,
        } = request;
        let agent = call.needs_on(Scope::SecretsWrite, &agent)?;
        let mut checked = Checked::new(entries, faults, &self.parts.limits);
        let idempotency_key = idempotency::parse(&idempotency_key).unwrap_or_else(|fault| {
            checked.faults.push(fault);
            None
        });
        checked.faults.extend(overlap::fault_of_time(previous_for));
        let call = call.clone();
        let prepared = Arc::new(PreparedSet {
            call,
            agent,
            checked,
            expected_revision,
            idempotency_key,
            validate_only,
            prune,
            previous_for,
        });
        let (service, id) = (self.clone(), prepared.agent.clone());
        let written = self.write(move |tx| {
            let (service, prepared) = (service.clone(), Arc::clone(&prepared));
            async move { service.apply_set(tx, &prepared).await }.boxed()
        });
        let answer = written.await?;
        self.tell_watchers(&id, Some(Revision(answer.written.revision)));
        Ok(answer)
    }

    async fn apply_set(&self, tx: &Tx, set: &PreparedSet) -> Result<SetSecretsAnswer, Error> {
        let agent = tx.lock_agent(set.call.tenant(), &set.agent).await?.ok_or(Error::AgentNotFound)?;
        let mut faults = set.checked.faults_for(&agent.required_secrets);
        let key = self.data_key(&agent)?;
        let attempt = set.attempt(&key);
        if faults.is_empty() {
            if let Some(answer) = attempt.recall(self, tx).await? {
                return Ok(answer);
            }
            expect_revision(set.expected_revision, agent.revision)?;
        }
        let stored = tx.stored_secrets(&agent.id).await?;
        let at = self.parts.clock.now();
        let plan = Plan::new(&set.checked.entries, &stored, &key, set.prune);
        let overlap = Overlap::new(&plan, &stored, set.previous_for, at);
        let change = Change { tx, set, agent, key, plan, overlap, at };
        faults.extend(change.overlap.faults(&change.plan, &self.parts.limits));
        let of_size = change.faults_of_size(&stored, &self.parts.limits).await?;
        faults.extend(of_size.into_iter().filter(|fault| !set.checked.faults.contains(fault)));
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let answer = set.answer(&change.plan, &change.overlap, change.revision_after());
        if !set.validate_only {
            self.carry_out(&change).await?;
            let attempt = set.attempt(&change.key);
            attempt.remember(self, tx, &answer).await?;
        }
        Ok(answer)
    }

    /// Writes what was planned, and its audit record.
    async fn carry_out(&self, change: &Change<'_>) -> Result<(), Error> {
        let Change { tx, set, agent, key, plan, overlap, at } = change;
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
}

// === impl Change ===

impl Change<'_> {
    /// The revision once it is carried out; where it is not to be, or changes nothing, that of now.
    fn revision_after(&self) -> Revision {
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
    async fn faults_of_size(&self, stored: &[StoredSecret], limits: &Limits) -> Result<Faults, Error> {
        let mut faults = Faults::new();
        if self.plan.keys.len() + self.overlap.count() > limits.keys_per_agent {
            faults.push(Fault::over("", FaultCode::TooManyKeys, limits.keys_per_agent));
        }
        let entries = self.set.checked.entries.iter();
        let new: usize = entries.map(|(name, value)| name.environment_bytes(value.expose().len())).sum();
        let staying = stored.iter().filter(|secret| self.plan.leaves(&secret.name));
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

// === impl PreparedSet ===

impl PreparedSet {
    /// Everything that makes one request differ from another.
    fn attempt(&self, key: &DataKey) -> Attempt<'_> {
        let revision = revision_bytes(self.expected_revision);
        let flags = [u8::from(self.validate_only), u8::from(self.prune)];
        let previous_for = self.previous_for.map(i64::to_be_bytes);
        let previous_for = previous_for.as_ref().map_or(&[][..], |bytes| bytes.as_slice());
        let mut request: Vec<&[u8]> = vec![b"set", &revision, &flags, previous_for];
        for (name, value) in &self.checked.entries {
            request.extend([name.as_str().as_bytes(), value.expose().as_bytes()]);
        }
        Attempt::new(&self.agent, self.idempotency_key.as_ref(), key, &request)
    }

    fn answer(&self, plan: &Plan, overlap: &Overlap, revision: Revision) -> SetSecretsAnswer {
        let warnings = self.checked.warnings.iter().chain(overlap.warnings());
        SetSecretsAnswer {
            written: written(&plan.keys, revision),
            warnings: warnings
                .map(|warning| (warning.key.to_string(), warning.code.as_str().to_owned()))
                .collect(),
            changes: plan.changes.iter().map(|(name, kind)| (name.to_string(), *kind)).collect(),
        }
    }
}
