//! Set.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Call, ChangeKind, Error, RawEntry, Service,
    idempotency::{self, Attempt, revision_bytes},
    plan::{Checked, Plan},
    secrets::{Written, deleted, expect_revision, written},
};
use crate::{
    crypto::{DataKey, Place},
    domain::{
        Action, AgentId, AuditedSecret, Fault, FaultCode, Faults, IdempotencyKey, Revision, Scope,
        SecretName, SecretValue,
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
        let SetSecrets { agent, entries, faults, expected_revision, idempotency_key, validate_only, prune } =
            request;
        let agent = call.needs_on(Scope::SecretsWrite, &agent)?;
        let mut checked = Checked::new(entries, faults, &self.parts.limits);
        let idempotency_key = idempotency::parse(&idempotency_key).unwrap_or_else(|fault| {
            checked.faults.push(fault);
            None
        });
        let call = call.clone();
        let prepared = Arc::new(PreparedSet {
            call,
            agent,
            checked,
            expected_revision,
            idempotency_key,
            validate_only,
            prune,
        });
        let service = self.clone();
        self.write(move |tx| {
            let (service, prepared) = (service.clone(), Arc::clone(&prepared));
            async move { service.apply_set(tx, &prepared).await }.boxed()
        })
        .await
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
        let plan = Plan::new(&set.checked.entries, &stored, &key, set.prune);
        let of_size = self.faults_of_size(tx, &agent, &set.checked.entries, &stored, &plan, &key).await?;
        faults.extend(of_size.into_iter().filter(|fault| !set.checked.faults.contains(fault)));
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let revision = if plan.changes_anything() { agent.revision.next() } else { agent.revision };
        let answer = set.answer(&plan, if set.validate_only { agent.revision } else { revision });
        if !set.validate_only {
            self.carry_out(tx, set, &agent, &key, &plan, revision).await?;
            attempt.remember(self, tx, &answer).await?;
        }
        Ok(answer)
    }

    /// Writes what was planned, and its audit record.
    async fn carry_out(
        &self,
        tx: &Tx,
        set: &PreparedSet,
        agent: &AgentRow,
        key: &DataKey,
        plan: &Plan,
        revision: Revision,
    ) -> Result<(), Error> {
        let mut event = self.event(&set.call, Action::SecretsSet, Some(&agent.id))?;
        let mut writes = Vec::with_capacity(plan.fingerprints.len());
        for (name, fingerprint) in &plan.fingerprints {
            let Some(value) = set.checked.entries.get(name) else { continue };
            let place = Place { tenant: &agent.tenant, agent: &agent.id, name, version: revision };
            let secret = SealedSecret {
                name: name.clone(),
                version: revision,
                fingerprint: fingerprint.as_bytes().to_vec(),
                sealed: key.seal(&place, value, &self.parts.random)?.into_bytes(),
            };
            event.secrets.push(AuditedSecret {
                key: name.to_string(),
                version: revision.0,
                fingerprint: fingerprint.short(),
            });
            writes.push(SealedWrite { secret, at: event.at, by: event.actor.clone() });
        }
        let pruned = plan.keys_with(ChangeKind::Pruned);
        event.secrets.extend(pruned.iter().map(deleted));
        event.revision = revision;
        tx.put_secrets(&agent.id, writes).await?;
        tx.delete_secrets(&agent.id, &pruned).await?;
        if revision != agent.revision {
            tx.set_revision(&agent.id, revision).await?;
        }
        Ok(tx.record(&event).await?)
    }

    /// What the agent's limits say of its environment after a set. The lengths of values are not kept in
    /// the clear; their size classes are enough to accept most sets, and where they are not, the values
    /// that stay are opened and measured.
    async fn faults_of_size(
        &self,
        tx: &Tx,
        agent: &AgentRow,
        entries: &BTreeMap<SecretName, SecretValue>,
        stored: &[StoredSecret],
        plan: &Plan,
        key: &DataKey,
    ) -> Result<Faults, Error> {
        let limits = &self.parts.limits;
        let mut faults = Faults::new();
        if plan.keys.len() > limits.keys_per_agent {
            faults.push(Fault::over("", FaultCode::TooManyKeys, limits.keys_per_agent));
        }
        let new: usize =
            entries.iter().map(|(name, value)| name.environment_bytes(value.expose().len())).sum();
        let staying =
            stored.iter().filter(|secret| !entries.contains_key(&secret.name) && !pruned(plan, &secret.name));
        let at_most: usize = staying
            .map(|secret| secret.name.environment_bytes(DataKey::value_bytes_at_most(secret.sealed_bytes)))
            .sum();
        if new + at_most > limits.agent_bytes {
            let exact = self.measure(tx, agent, plan, key).await?;
            if new + exact > limits.agent_bytes {
                faults.push(Fault::over("", FaultCode::AgentTooLarge, limits.agent_bytes));
            }
        }
        Ok(faults)
    }

    /// The bytes of the values that a plan leaves as they are.
    async fn measure(&self, tx: &Tx, agent: &AgentRow, plan: &Plan, key: &DataKey) -> Result<usize, Error> {
        let mut bytes = 0;
        for secret in tx.sealed_of(&agent.id).await? {
            if plan.leaves(&secret.name) {
                let value = Self::open(agent, key, &secret)?;
                bytes += secret.name.environment_bytes(value.expose().len());
            }
        }
        Ok(bytes)
    }
}

// === impl PreparedSet ===

impl PreparedSet {
    /// Everything that makes one request differ from another.
    fn attempt(&self, key: &DataKey) -> Attempt<'_> {
        let revision = revision_bytes(self.expected_revision);
        let flags = [u8::from(self.validate_only), u8::from(self.prune)];
        let mut request: Vec<&[u8]> = vec![b"set", &revision, &flags];
        for (name, value) in &self.checked.entries {
            request.extend([name.as_str().as_bytes(), value.expose().as_bytes()]);
        }
        Attempt::new(&self.agent, self.idempotency_key.as_ref(), key, &request)
    }

    fn answer(&self, plan: &Plan, revision: Revision) -> SetSecretsAnswer {
        let warnings = self.checked.warnings.iter();
        SetSecretsAnswer {
            written: written(&plan.keys, revision),
            warnings: warnings
                .map(|warning| (warning.key.to_string(), warning.code.as_str().to_owned()))
                .collect(),
            changes: plan.changes.iter().map(|(name, kind)| (name.to_string(), *kind)).collect(),
        }
    }
}

fn pruned(plan: &Plan, name: &SecretName) -> bool {
    plan.changes.get(name) == Some(&ChangeKind::Pruned)
}
