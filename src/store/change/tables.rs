//! What changes are written as: rows, for all agents of a batch together.

use std::sync::OnceLock;

use sea_orm::Value;

use super::Change;
use crate::{
    domain::{AgentId, SecretName, Timestamp},
    store::{
        Error, SealedSecret, SealedWrite,
        rows::{Kind, Rows, Table, of_events},
    },
};

static SECRETS: Table = Table {
    name: "secrets",
    columns: &[
        ("agent_id", Kind::Text),
        ("name", Kind::Text),
        ("version", Kind::Number),
        ("sealed", Kind::Bytes),
        ("fingerprint", Kind::Bytes),
        ("created_at", Kind::Number),
        ("updated_at", Kind::Number),
        ("updated_by", Kind::Text),
        ("previous_version", Kind::OptionalNumber),
        ("previous_sealed", Kind::OptionalBytes),
        ("previous_fingerprint", Kind::OptionalBytes),
        ("previous_until", Kind::OptionalNumber),
    ],
    on_conflict: "ON CONFLICT (agent_id, name) DO UPDATE SET version = excluded.version, \
        sealed = excluded.sealed, fingerprint = excluded.fingerprint, updated_at = excluded.updated_at, \
        updated_by = excluded.updated_by, previous_version = excluded.previous_version, \
        previous_sealed = excluded.previous_sealed, previous_fingerprint = excluded.previous_fingerprint, \
        previous_until = excluded.previous_until",
    insert: OnceLock::new(),
};

static ANSWERS: Table = Table {
    name: "idempotency",
    columns: &[
        ("agent_id", Kind::Text),
        ("name", Kind::Text),
        ("request_digest", Kind::Bytes),
        ("answer", Kind::Text),
        ("created_at", Kind::Number),
    ],
    on_conflict: "",
    insert: OnceLock::new(),
};

/// Changes of several agents, by what is done to which table.
pub(super) struct Written {
    pub(super) secrets: Rows,
    pub(super) deleted: Vec<(AgentId, SecretName)>,
    pub(super) overlaps: Vec<(AgentId, SecretName, Option<Timestamp>)>,
    pub(super) events: Rows,
    pub(super) answers: Rows,
}

impl Written {
    /// Sorts changes, each of an agent of its own, into tables.
    pub(super) fn of(changes: &[(&AgentId, &Change)]) -> Result<Self, Error> {
        let events: Vec<_> = changes.iter().map(|(_, change)| &change.event).collect();
        let mut written = Self {
            secrets: Rows::new(&SECRETS),
            deleted: Vec::new(),
            overlaps: Vec::new(),
            events: of_events(&events)?,
            answers: Rows::new(&ANSWERS),
        };
        for (agent, change) in changes.iter().copied() {
            for put in &change.puts {
                written.secrets.push(row_of(agent, put));
            }
            written.deleted.extend(change.deletes.iter().map(|name| (agent.clone(), name.clone())));
            let overlaps = change.overlaps.iter();
            written.overlaps.extend(overlaps.map(|(name, until)| (agent.clone(), name.clone(), *until)));
            if let Some((key, remembered)) = &change.remember {
                written.answers.push([
                    agent.as_str().into(),
                    key.as_str().into(),
                    remembered.request_digest.as_slice().into(),
                    remembered.answer.as_str().into(),
                    change.event.at.0.into(),
                ]);
            }
        }
        Ok(written)
    }
}

fn row_of(agent: &AgentId, SealedWrite { secret, at, by }: &SealedWrite) -> [Value; 12] {
    let SealedSecret { name, version, fingerprint, sealed, previous } = secret;
    let previous = previous.as_ref();
    [
        agent.as_str().into(),
        name.as_str().into(),
        version.0.into(),
        sealed.as_slice().into(),
        fingerprint.as_slice().into(),
        at.0.into(),
        at.0.into(),
        by.as_str().into(),
        previous.map(|it| it.version.0).into(),
        previous.map(|it| it.sealed.clone()).into(),
        previous.map(|it| it.fingerprint.clone()).into(),
        previous.map(|it| it.until.0).into(),
    ]
}
