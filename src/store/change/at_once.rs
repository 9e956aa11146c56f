//! Changes on PostgreSQL: read, decide, and one statement that writes, which is a transaction by itself.
//!
//! The statement waits for nobody: an agent that another transaction has locked, or that has moved on since it was
//! read, is left alone by all its parts, and is not among those it returns. (A row that was changed meanwhile is
//! looked at again as it is then: PostgreSQL manual, "Read Committed Isolation Level".)

use std::{collections::HashSet, sync::Arc};

use sea_orm::{DbBackend, Statement, Value};

use super::{Change, Fate, Job, tables::Written};
use crate::{
    domain::{AgentId, Revision},
    store::{
        Error, Transient as _, found,
        pool::Pool,
        rows::{numbers, texts},
    },
};

/// An agent, the revision at which it was read, and what was decided about it.
type Due = (AgentId, Revision, Change);

/// Does jobs of which no two are about one agent, each by itself wholly or not at all, and says of each what became of it.
pub(super) async fn carry_out(pool: &Pool, jobs: &[Arc<dyn Job>]) -> Vec<Result<Fate, Error>> {
    let left = match attempt(pool, jobs).await {
        Ok(left) => left,
        // Nothing was written, and each waits for a connection as long as anybody, all at the same time
        Err(error) if error.is_interrupted() => return jobs.iter().map(|_| Ok(Fate::Taken)).collect(),
        // One bad change must not fail its neighbours; nothing of them is written
        Err(error) if jobs.len() > 1 && !matches!(error, Error::Unavailable(_)) => {
            let mut fates = Vec::with_capacity(jobs.len());
            for job in jobs.chunks(1) {
                fates.push(fate(attempt(pool, job).await.map(|left| !left.is_empty())));
            }
            return fates;
        }
        Err(error) => return jobs.iter().map(|_| fate(Err(error.clone()))).collect(),
    };
    jobs.iter().map(|job| fate(Ok(left.contains(&job.question().agent)))).collect()
}

fn fate(is_left: Result<bool, Error>) -> Result<Fate, Error> {
    match is_left {
        Ok(false) => Ok(Fate::Done),
        Ok(true) => Ok(Fate::Taken),
        Err(error) if error.is_transient() => Ok(Fate::Taken),
        Err(error) => Err(error),
    }
}

/// Returns the agents that were left alone.
async fn attempt(pool: &Pool, jobs: &[Arc<dyn Job>]) -> Result<HashSet<AgentId>, Error> {
    let questions: Vec<_> = jobs.iter().map(|job| job.question()).collect();
    let found = found::read(pool, &questions).await?;
    let decide = |job: &Arc<dyn Job>| {
        let agent = &job.question().agent;
        let found = found.get(agent);
        let change = job.decide(found)?;
        Some((
            agent.clone(),
            found.map_or_else(Revision::default, |found| found.metadata.agent.revision),
            change,
        ))
    };
    let due: Vec<_> = jobs.iter().filter_map(decide).collect();
    if due.is_empty() {
        return Ok(HashSet::new());
    }
    let written = write(pool, &due).await?;
    let agents = due.into_iter().map(|(agent, _, _)| agent);
    Ok(agents.filter(|agent| !written.contains(agent)).collect())
}

/// Returns those agents of which the changes were written.
async fn write(pool: &Pool, due: &[Due]) -> Result<HashSet<AgentId>, Error> {
    let statement = Statement::from(Composition::of(due)?);
    let rows = pool.query_once(statement).await.map_err(Error::of_statement)?;
    let ids = rows.iter().map(|row| row.try_get_by_index::<String>(0));
    Ok(ids.map(|id| id.map(AgentId::from_stored)).collect::<Result<_, _>>()?)
}

/// The statement while it is put together. Which parts it has depends on what is to be written, and its text on
/// nothing else.
struct Composition {
    parts: Vec<String>,
    parameters: Vec<Value>,
}

impl Composition {
    fn of(due: &[Due]) -> Result<Self, Error> {
        let Written { secrets, deleted, overlaps, events, answers } =
            Written::of(&due.iter().map(|(agent, _, change)| (agent, change)).collect::<Vec<_>>())?;
        let mut all = Self { parts: Vec::new(), parameters: Vec::new() };
        let asked = all.arrays(&[
            texts(due.iter().map(|(agent, _, _)| agent.as_str())),
            numbers(due.iter().map(|(_, revision, _)| revision.0)),
            numbers(due.iter().map(|(_, _, change)| i64::from(change.moves_on))),
            numbers(due.iter().map(|(_, _, change)| i64::from(change.writes_secrets()))),
        ]);
        all.part(
            "locked",
            &format!(
                "SELECT agents.id, asked.step, asked.writes \
                 FROM unnest({asked}) AS asked(id, revision, step, writes) \
                 JOIN agents ON agents.id = asked.id AND agents.revision = asked.revision \
                 FOR UPDATE OF agents SKIP LOCKED"
            ),
        );
        all.part(
            "moved",
            "UPDATE agents SET revision = revision + step FROM locked WHERE agents.id = locked.id AND writes > 0",
        );
        for (name, rows) in [("set", secrets), ("told", events), ("kept", answers)] {
            if !rows.is_empty() {
                let is_locked = "new.agent_id IN (SELECT id FROM locked)";
                let insert = rows.into_insert(is_locked, &mut all.parameters);
                all.part(name, &insert);
            }
        }
        if !deleted.is_empty() {
            let keys = all.arrays(&[
                texts(deleted.iter().map(|(agent, _)| agent.as_str())),
                texts(deleted.iter().map(|(_, name)| name.as_str())),
            ]);
            all.part(
                "deleted",
                &format!(
                    "DELETE FROM secrets USING unnest({keys}) AS gone(agent_id, name) \
                     WHERE secrets.agent_id = gone.agent_id AND secrets.name = gone.name \
                     AND secrets.agent_id IN (SELECT id FROM locked)"
                ),
            );
        }
        if !overlaps.is_empty() {
            let ends = all.arrays(&[
                texts(overlaps.iter().map(|(agent, _, _)| agent.as_str())),
                texts(overlaps.iter().map(|(_, name, _)| name.as_str())),
                numbers(overlaps.iter().map(|(_, _, until)| until.map_or(0, |until| until.0))),
            ]);
            all.part("overlapping", &overlap(&ends));
        }
        Ok(all)
    }

    fn part(&mut self, name: &str, text: &str) {
        let materialized = if name == "locked" { "MATERIALIZED " } else { "" };
        self.parts.push(format!("{name} AS {materialized}({text})"));
    }

    /// Arrays as arguments of `unnest`.
    fn arrays(&mut self, arrays: &[(Value, &str)]) -> String {
        let arguments = arrays.iter().map(|(array, cast)| {
            self.parameters.push(array.clone());
            format!("${}::{cast}", self.parameters.len())
        });
        arguments.collect::<Vec<_>>().join(", ")
    }
}

/// Keeps values before until other times; what was cleared in between does not come back.
fn overlap(ends: &str) -> String {
    let unless_ended =
        |column: &str| format!("{column} = CASE WHEN ends.until > 0 THEN secrets.{column} END");
    format!(
        "UPDATE secrets SET previous_until = NULLIF(ends.until, 0), {}, {}, {} \
         FROM unnest({ends}) AS ends(agent_id, name, until) \
         WHERE secrets.agent_id = ends.agent_id AND secrets.name = ends.name \
         AND secrets.previous_sealed IS NOT NULL AND secrets.agent_id IN (SELECT id FROM locked)",
        unless_ended("previous_version"),
        unless_ended("previous_sealed"),
        unless_ended("previous_fingerprint"),
    )
}

impl From<Composition> for Statement {
    fn from(Composition { parts, parameters }: Composition) -> Self {
        let text = format!("WITH {} SELECT id FROM locked", parts.join(", "));
        Self::from_sql_and_values(DbBackend::Postgres, text, parameters)
    }
}
