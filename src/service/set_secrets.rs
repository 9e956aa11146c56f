//! Set.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Call, ChangeKind, Error, RawEntry, Service,
    effect::Effect,
    idempotency::{self, Attempt, revision_bytes},
    overlap::{self, Overlap},
    plan::{Checked, Plan},
    secrets::{Written, expect_revision, written},
};
use crate::{
    crypto::DataKey,
    domain::{AgentId, Faults, IdempotencyKey, RequiredSecret, Revision, Scope},
    store::{Change, Decided, Found},
    trace::{self, Here},
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
pub(super) struct PreparedSet {
    pub(super) call: Call,
    pub(super) agent: AgentId,
    pub(super) checked: Checked,
    expected_revision: Option<Revision>,
    idempotency_key: Option<IdempotencyKey>,
    pub(super) validate_only: bool,
    prune: bool,
    pub(super) previous_for: Option<i64>,
    /// Where it may be decided on another thread.
    here: Here,
}

/// What an agent's declarations say of the entries of a set.
struct Judgement {
    required: Vec<RequiredSecret>,
    faults: Faults,
}

/// Why a set is not decided.
pub(super) enum Stop {
    /// It is refused, or fails.
    Failed(Error),
    /// The agent has these declarations, and to hold the entries to them takes too long to decide it while others
    /// wait.
    NotJudged(Vec<RequiredSecret>),
    /// The sealed values have to be known.
    NeedsValues,
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
        checked.faults.extend(overlap::fault_of_time("previous_for", previous_for));
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
            here: trace::here(),
        });
        let answer = self.set_prepared(&prepared).await?;
        self.tell_watchers(&prepared.agent, Some(Revision(answer.written.revision)));
        Ok(answer)
    }

    /// Decides until everything is known that it takes: what the agent's patterns say of the entries, and where the
    /// size classes do not settle whether there is room, the sealed values.
    async fn set_prepared(&self, set: &Arc<PreparedSet>) -> Result<SetSecretsAnswer, Error> {
        let mut judgement = Arc::new(set.judge(Vec::new()));
        let mut question = self.question(&set.call, &set.agent, set.idempotency_key.as_ref());
        question.with_values = set.previous_for.is_some_and(|micros| micros > 0);
        let mut has_looked = false;
        loop {
            let (service, set_, judgement_) = (self.clone(), Arc::clone(set), Arc::clone(&judgement));
            let decide = move |found: Option<&Found>| service.decide_set(&set_, found, &judgement_);
            match self.parts.store.change(question.clone(), decide).await {
                Ok(answer) => return Ok(answer),
                Err(Stop::Failed(Error::KeyWanted(wanted))) if !has_looked => {
                    has_looked = true;
                    self.find_key(&wanted).await?;
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::NotJudged(required)) => {
                    let set = Arc::clone(set);
                    judgement = Arc::new(self.parts.heavy.run(move || set.judge(required)).await?);
                }
                Err(Stop::NeedsValues) => question.with_values = true,
            }
        }
    }

    fn decide_set(
        &self,
        set: &PreparedSet,
        found: Option<&Found>,
        judgement: &Judgement,
    ) -> Result<Decided<SetSecretsAnswer>, Stop> {
        let found = found.ok_or(Error::AgentNotFound)?;
        let mut faults = set.faults_for(&found.metadata.agent.required_secrets, judgement)?;
        let key = self.data_key(&found.metadata.agent)?;
        let attempt = set.attempt(&key);
        if faults.is_empty() {
            if let Some(answer) = attempt.recall(found)? {
                return Ok(Decided { answer, change: None });
            }
            expect_revision(set.expected_revision, found.metadata.agent.revision)?;
        }
        let at = self.parts.clock.now();
        let plan = Plan::new(&set.checked.entries, &found.metadata.secrets, &key, set.prune);
        let overlap = Overlap::new(&plan, &found.metadata.secrets, set.previous_for, at);
        let effect = Effect { set, found, key: &key, plan, overlap, at };
        faults.extend(effect.overlap.faults(&effect.plan, &self.parts.limits));
        let of_size = effect.faults_of_size(&self.parts.limits)?;
        faults.extend(of_size.into_iter().filter(|fault| !set.checked.faults.contains(fault)));
        if !faults.is_empty() {
            return Err(Error::Invalid(faults).into());
        }
        let answer = set.answer(&effect.plan, &effect.overlap, effect.revision_after());
        let change = if set.validate_only {
            self.validation(&effect)?
        } else {
            let change = set.here.timed("seal", || self.change(&effect))?;
            Change { remember: attempt.remember(&answer)?, ..change }
        };
        Ok(Decided { answer, change: Some(change) })
    }
}

// === impl PreparedSet ===

impl PreparedSet {
    /// Holds the entries to what an agent declares.
    fn judge(&self, required: Vec<RequiredSecret>) -> Judgement {
        let faults = self.checked.faults_for(&required);
        Judgement { required, faults }
    }

    /// All that is wrong with the entries for an agent that declares this.
    fn faults_for(&self, required: &[RequiredSecret], judgement: &Judgement) -> Result<Faults, Stop> {
        if judgement.required == required {
            Ok(judgement.faults.clone())
        } else if self.checked.meets_a_pattern(required) {
            Err(Stop::NotJudged(required.to_vec()))
        } else {
            Ok(self.checked.faults_for(required))
        }
    }

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
        Attempt::new(self.idempotency_key.as_ref(), key, &request)
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

// === impl Stop ===

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
