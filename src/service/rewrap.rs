//! Wrapping data keys anew: under the primary key what other keys wrap.
//!
//! A data key stays what it is, so values are not touched and no call notices. The walk goes by the agents' ids, a batch
//! at a time; each batch is exchanged only where nobody else was faster ([`Store::exchange`]). So it can be broken off
//! anywhere, and any number may be at it at once.

use std::{collections::VecDeque, ops::AddAssign, time::Duration};

use futures_util::future::join_all;
use tokio::{task::yield_now, time::sleep};

use super::{Error, KeySet, WantedKey};
use crate::{
    crypto::{ProviderError, WrappedKey},
    domain::{AgentId, KekId},
    store::{Rewrapped, Store, WrappedKeyRow, Wrapping},
};

/// How many agents are read at a time, and how many an operator's command exchanges at a time.
const BATCH: usize = 1000;

/// How many are wrapped anew side by side: each may take a call of a provider or two.
const SIDE_BY_SIDE: usize = 16;

/// Between two batches, so that others who write come to their turn: SQLite has one writer for all processes.
const BREATH: Duration = Duration::from_millis(5);

/// How often the agents are gone through. The later times find what somebody held at that moment, and what servers
/// without the new primary key have added.
const PASSES: u32 = 10;

/// Between two times.
const BETWEEN_PASSES: Duration = Duration::from_millis(200);

/// What became of wrapping anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapping {
    /// How many data keys are wrapped by the primary key now, by this run.
    pub rewrapped: u64,
    /// How many are still wrapped by another key of the keyring.
    pub left: u64,
    /// How many of these do not open; the log names them.
    pub unopened: u64,
}

/// A way through all agents whose data keys some keys wrap.
pub(super) struct Walk<'w> {
    store: &'w Store,
    keys: &'w KeySet,
    from: Vec<KekId>,
    at_once: usize,
    after: Option<AgentId>,
    /// What was read and is to be wrapped anew.
    due: VecDeque<Wrapping>,
    /// What ended the last batch before its end.
    failed: Option<Error>,
}

/// What a step of a walk did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) found: u64,
    pub(super) rewrapped: u64,
    pub(super) unopened: u64,
}

/// Wraps under the primary key all that other keys of the keyring wrap. `progress` is told after each batch how many
/// agents are done, and of how many.
///
/// # Errors
/// [`Error::Store`] and [`Error::Crypto`]; what is done until then stays done.
pub async fn rewrap_all(
    store: &Store,
    keys: &KeySet,
    mut progress: impl FnMut(u64, u64),
) -> Result<Rewrapping, Error> {
    let from = keys.all_but_primary();
    let mut sum = Rewrapping::default();
    let mut total = 0;
    for pass in 0.. {
        sum.left = wrapped_by(store, &from).await?;
        if sum.left == 0 || pass == PASSES || (pass > 0 && sum.left == sum.unopened) {
            break;
        }
        if pass > 0 {
            sleep(BETWEEN_PASSES).await;
        }
        // Others may be at it too, or add to it
        total = sum.left.max(total);
        let mut done = total - sum.left;
        progress(done, total);
        sum.unopened = 0;
        let mut walk = Walk::new(store, keys, from.clone(), BATCH);
        while let Some(step) = walk.step().await? {
            sum.rewrapped += step.rewrapped;
            sum.unopened += step.unopened;
            done += step.found - step.unopened;
            total = total.max(done);
            progress(done, total);
            sleep(BREATH).await;
        }
    }
    Ok(sum)
}

/// How many agents' data keys these keys wrap.
pub(super) async fn wrapped_by(store: &Store, keks: &[KekId]) -> Result<u64, Error> {
    let usage = store.key_usage().await?;
    Ok(usage.into_iter().filter(|(id, _)| keks.contains(id)).map(|(_, agents)| agents).sum())
}

// === impl Step ===

impl AddAssign for Step {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.rewrapped += other.rewrapped;
        self.unopened += other.unopened;
    }
}

// === impl Walk ===

impl<'w> Walk<'w> {
    /// A way from the beginning, in batches of this size.
    pub(super) fn new(store: &'w Store, keys: &'w KeySet, from: Vec<KekId>, at_once: usize) -> Self {
        Self { store, keys, from, at_once, after: None, due: VecDeque::new(), failed: None }
    }

    /// Does the next batch; `None` at the end.
    ///
    /// # Errors
    /// [`Error`]; the step before has exchanged what was wrapped until then.
    pub(super) async fn step(&mut self) -> Result<Option<Step>, Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.read_on().await?;
        let some: Vec<_> = self.due.drain(..self.at_once.min(self.due.len())).collect();
        if some.is_empty() {
            return Ok(None);
        }
        let mut step = Step::default();
        let mut rewrapped = Vec::with_capacity(some.len());
        let keys = self.keys;
        let mut some = some.into_iter().peekable();
        while self.failed.is_none() && some.peek().is_some() {
            let side_by_side = some.by_ref().take(SIDE_BY_SIDE).map(|before| rewrap(keys, before));
            for one in join_all(side_by_side).await {
                match one {
                    Ok(Some(one)) => rewrapped.push(one),
                    Ok(None) => step.unopened += 1,
                    // What is wrapped beside it is not to be wrapped once more
                    Err(error) => self.failed = Some(error),
                }
            }
        }
        step.found = rewrapped.len() as u64 + step.unopened;
        step.rewrapped = self.store.exchange(rewrapped).await?;
        Ok(Some(step))
    }

    /// Reads on until something is due, or there are no more agents.
    async fn read_on(&mut self) -> Result<(), Error> {
        while self.due.is_empty() {
            let page = self.store.wrappings(self.after.as_ref(), BATCH).await?;
            let Some(last) = page.last() else { break };
            self.after = Some(last.agent.clone());
            self.due.extend(page.into_iter().filter(|wrapping| self.from.contains(&wrapping.key.kek)));
            // SQLite is read on this thread, and others have to have their turn on it
            yield_now().await;
        }
        Ok(())
    }
}

/// `None` if the data key does not open: that is no reason to leave the others as they are.
async fn rewrap(keys: &KeySet, before: Wrapping) -> Result<Option<Rewrapped>, Error> {
    let wrapped = WrappedKey { kek: before.key.kek.clone(), bytes: before.key.bytes.clone() };
    let wanted = WantedKey { agent: before.agent.clone(), tenant: before.tenant.clone(), wrapped };
    match keys.rewrap(&wanted.wrapped, wanted.owner()).await {
        Ok(WrappedKey { kek, bytes }) => Ok(Some(Rewrapped { before, key: WrappedKeyRow { kek, bytes } })),
        Err(error @ (ProviderError::UnknownKey(_) | ProviderError::DoesNotOpen)) => {
            tracing::error!(agent = %before.agent, kek = %before.key.kek, %error, "a data key does not open");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
