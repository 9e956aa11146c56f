//! Who watches which agent, and how they learn of a change.
//!
//! All watchers of an agent on this server share one channel that holds its revision. Three things move
//! it: a write of this server, at once; what other servers tell through the database
//! ([`Word`]); and, where both were missed, a look at all watched agents every
//! few seconds, which also finds the tokens that have ended. An idle watcher costs memory and nothing else.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    Call, Error, Service,
    channels::Channels,
    watch_room::{Place, Room},
};
use crate::{
    domain::{AgentId, Revision, Scope, TenantId, TokenId},
    identity::Changes,
    store::{Changed, Word},
};

/// How often all watched agents and the tokens of their watchers are looked at: what word was lost of, and a
/// token that has ended, is found by then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When to try again where there are too many watches.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The longest watch of an identity: what vouches for somebody may say that it never ends.
const LONGEST: Duration = Duration::from_hours(24);

/// How many rows one look asks for at a time.
const LOOK_AT: usize = 100;

/// What is watched on this server.
#[derive(Debug)]
pub(super) struct Watched {
    agents: Channels<AgentId, State>,
    /// The tokens of those who watch, and whether they have ended.
    tokens: Channels<TokenId, bool>,
    /// For how many watches there is room.
    room: Arc<Room>,
}

/// What is known of a watched agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is at this revision.
    At(Revision),
    /// It is gone.
    Gone,
}

/// What a watcher waits for.
struct Watcher {
    agent: watch::Receiver<State>,
    caller: Caller,
    /// The revision it knows.
    told: Option<Revision>,
    /// Its place, which is free again once it has gone.
    _place: Place,
}

/// Until when somebody may watch.
enum Caller {
    /// Until his token has ended.
    Token(watch::Receiver<bool>),
    /// Until what vouches for him ends, or until the rules are others: he may come back then.
    Identity { ends: Instant, rules: Changes },
}

// === impl Watched ===

impl Watched {
    /// Nothing, with room for so many watches.
    pub(super) fn new(max_watches: usize) -> Self {
        Self { agents: Channels::default(), tokens: Channels::default(), room: Room::new(max_watches) }
    }

    /// Tells the watchers of an agent what became of it. Word that comes late is no news.
    pub(super) fn tell(&self, Changed { agent: id, revision }: &Changed) {
        let news = revision.map_or(State::Gone, State::At);
        self.agents.tell(id, |state| {
            let is_news = match (*state, news) {
                (State::At(known), State::At(told)) => known < told,
                (State::At(_), State::Gone) => true,
                (State::Gone, _) => false,
            };
            if is_news {
                *state = news;
            }
            is_news
        });
    }

    /// Ends the watches of a token.
    pub(super) fn end(&self, token: &TokenId) {
        self.tokens.tell(token, |has_ended| !std::mem::replace(has_ended, true));
    }

    /// Subscribes, if there is room, at a revision before the first: what the agent is at is told afterwards.
    fn subscribe(
        &self,
        tenant: &TenantId,
        id: &AgentId,
        caller: impl FnOnce(&Self) -> Caller,
    ) -> Result<Watcher, Error> {
        let place = self.room.enter(tenant).ok_or(Error::RateLimited { retry_after: RETRY_AFTER })?;
        let agent = self.agents.subscribe(id, State::At(Revision::default()), |state| *state == State::Gone);
        Ok(Watcher { agent, caller: caller(self), told: None, _place: place })
    }
}

// === impl Caller ===

impl Caller {
    /// Waits until he may watch no more.
    async fn wait_for_end(&mut self) {
        match self {
            Self::Token(token) => drop(token.wait_for(|has_ended| *has_ended).await),
            Self::Identity { ends, rules } => tokio::select! {
                () = sleep_until(*ends) => {}
                () = rules.next() => {}
            },
        }
    }
}

// === impl Service ===

impl Service {
    /// The agent's revision at once and at each change, until the agent is gone, the caller's token ends
    /// (within seconds) or the server stops.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:list`; [`Error::RateLimited`] when there are as many watches
    /// as there may be; [`Error::AgentNotFound`], also later in the stream; [`Error::Unauthenticated`] or [`Error::Closing`] at the end of it; [`Error::Store`].
    pub async fn watch(
        &self,
        call: &Call,
        agent: &str,
    ) -> Result<impl Stream<Item = Result<Revision, Error>> + Send + use<>, Error> {
        let id = call.needs_on(Scope::SecretsList, agent)?;
        // Subscribed before it is read: a change between the two is then told, and not missed
        let watcher =
            self.parts.watched.subscribe(call.tenant(), &id, |watched| self.caller(watched, call))?;
        let first = self.parts.store.revision(call.tenant(), &id).await?.ok_or(Error::AgentNotFound)?;
        self.parts.watched.tell(&Changed { agent: id, revision: Some(first) });
        let service = self.clone();
        Ok(stream::try_unfold(watcher, move |mut watcher| {
            let service = service.clone();
            async move { Ok(Some((service.next_revision(&mut watcher).await?, watcher))) }
        }))
    }

    /// How many watches there was no room for.
    #[must_use]
    pub fn watches_refused(&self) -> u64 {
        self.parts.watched.room.refused()
    }

    fn caller(&self, watched: &Watched, call: &Call) -> Caller {
        let token = &call.principal.token;
        if token.is_kept() {
            return Caller::Token(watched.tokens.subscribe(&token.id, false, |has_ended| *has_ended));
        }
        let rules = self.parts.identities.changes();
        let left = token.grant.expires_at.map_or(0, |end| end.0.saturating_sub(self.parts.clock.now().0));
        let left = Duration::from_micros(u64::try_from(left).unwrap_or_default()).min(LONGEST);
        Caller::Identity { ends: Instant::now() + left, rules }
    }

    async fn next_revision(&self, watcher: &mut Watcher) -> Result<Revision, Error> {
        let Watcher { agent, caller, told, _place: _ } = watcher;
        let is_news = |state: &State| match state {
            State::At(revision) => told.is_none_or(|told| told < *revision),
            State::Gone => true,
        };
        let state = tokio::select! {
            biased;
            () = self.parts.closing.cancelled() => return Err(Error::Closing),
            () = caller.wait_for_end() => return Err(Error::Unauthenticated),
            state = agent.wait_for(is_news) => state.map_or(State::Gone, |state| *state),
        };
        match state {
            State::At(revision) => {
                *told = Some(revision);
                Ok(revision)
            }
            State::Gone => Err(Error::AgentNotFound),
        }
    }

    /// Keeps the watchers of this server informed, until it stops. `tasks` carries what listens.
    pub(super) async fn inform_watchers(&self, tasks: &TaskTracker) {
        let mut words = self.parts.store.listen(tasks);
        let closing = &self.parts.closing;
        let mut next_look = Instant::now() + LOOK_EVERY;
        loop {
            // At a time of its own: where much is told, there is never a while without word
            let word = timeout_at(next_look, words.recv());
            match closing.run_until_cancelled(word).await {
                None | Some(Ok(None)) => return,
                Some(Ok(Some(Word::Of(change)))) => self.parts.watched.tell(&change),
                Some(Ok(Some(Word::Lost)) | Err(_)) => {
                    self.look_at_agents().await;
                    self.look_at_tokens().await;
                    next_look = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    async fn look_at_agents(&self) {
        for some in self.parts.watched.agents.keys().chunks(LOOK_AT) {
            match self.parts.store.revisions(some).await {
                Ok(found) => {
                    for id in some {
                        let revision = found.get(id).copied();
                        self.parts.watched.tell(&Changed { agent: id.clone(), revision });
                    }
                }
                // The next look makes up for it
                Err(error) => tracing::debug!(%error, "watched agents cannot be looked at"),
            }
        }
    }

    async fn look_at_tokens(&self) {
        let now = self.parts.clock.now();
        for some in self.parts.watched.tokens.keys().chunks(LOOK_AT) {
            match self.parts.store.tokens_valid_at(some, now).await {
                Ok(valid) => {
                    for token in some.iter().filter(|token| !valid.contains(token)) {
                        self.parts.watched.end(token);
                    }
                }
                // The next look makes up for it
                Err(error) => tracing::debug!(%error, "the tokens of watchers cannot be looked at"),
            }
        }
    }

    /// Tells the watchers of all servers of a change.
    pub(super) fn tell_watchers(&self, agent: &AgentId, revision: Option<Revision>) {
        let change = Changed { agent: agent.clone(), revision };
        self.parts.watched.tell(&change);
        self.parts.store.announce(change);
    }
}
