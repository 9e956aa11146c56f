//! What was answered and is not taken yet.
//!
//! A client that asks and does not read leaves the answers in this server's memory. How many it can leave there the limit
//! of streams says; here is counted what all clients leave, what each caller leaves over all its connections, and which
//! connection takes nothing for too long.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::{sync::Notify, time::sleep};

use crate::transport::{protocol::CallerNote, source::Source};

/// Pieces of fewer bytes are not counted: all that a connection can have of them is less than one large answer.
const LEAST_BYTES: usize = 8 * 1024;

/// While there is too much, who leaves more than his share is not waited for longer.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// What all connections of a listener leave.
#[derive(Debug)]
pub(super) struct AllUntaken {
    bytes: AtomicUsize,
    /// How many connections leave any.
    connections: AtomicUsize,
    /// The bytes of each caller that leaves any; of those who are not known, by where they come from.
    callers: Mutex<HashMap<String, usize>>,
    most: usize,
}

/// What one connection leaves.
#[derive(Debug)]
pub struct Untaken {
    bytes: AtomicUsize,
    /// How many pieces were taken, ever.
    taken: AtomicU64,
    /// There is something to take.
    begun: Notify,
    /// Where it comes from.
    source: String,
    all: Arc<AllUntaken>,
}

/// Marks an answer whose memory is the same for all who get it. It is nobody's share of what there is room for, and whoever
/// leaves it is hung up on as ever.
#[derive(Clone, Copy, Debug)]
pub struct KeptAnyway;

/// A piece of an answer. The protocol's library drops it when it is written to the socket, or its stream has ended.
struct Piece {
    bytes: Bytes,
    of: Arc<Untaken>,
    /// `None` if its memory is needed anyway.
    caller: Option<CallerNote>,
}

// === impl AllUntaken ===

impl AllUntaken {
    /// At most so many bytes; when there are more, calls of those who leave them are refused.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let (bytes, connections) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { bytes, connections, callers: Mutex::default(), most })
    }

    /// Of a new connection from there.
    pub(super) fn connection(self: &Arc<Self>, address: IpAddr) -> Arc<Untaken> {
        let (bytes, taken, source) =
            (AtomicUsize::new(0), AtomicU64::new(0), Source::of(address).to_string());
        Arc::new(Untaken { bytes, taken, begun: Notify::new(), source, all: Arc::clone(self) })
    }

    fn add(&self, caller: &str, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut callers = self.callers();
        match callers.get_mut(caller) {
            Some(left) => *left += bytes,
            None => drop(callers.insert(caller.to_owned(), bytes)),
        }
    }

    fn take(&self, caller: &str, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut callers = self.callers();
        if let Some(left) = callers.get_mut(caller) {
            *left -= bytes;
            if *left == 0 {
                callers.remove(caller);
            }
        }
    }

    /// Whether one of so many who leave something leaves more than he may, with so many bytes: while there is more than
    /// there is room for, more than his share, and anything while there is twice as much.
    fn is_too_much(&self, bytes: usize, of: usize) -> bool {
        let all = self.bytes.load(Ordering::Relaxed);
        // One more than there are: who comes next has room too
        let share = if all > self.most.saturating_mul(2) { 0 } else { self.most / (of + 1) };
        all > self.most && bytes > share
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Untaken ===

impl Untaken {
    /// Whether a caller, over all his connections, leaves so much that nothing should be added for him: there is more than
    /// there is room for, and of that more than his share is his. Who leaves nothing is not refused for what others leave.
    pub(in crate::transport) fn is_too_much_of(&self, caller: &str) -> bool {
        let (all, caller) = (&*self.all, self.counted_as(caller));
        if all.bytes.load(Ordering::Relaxed) <= all.most {
            return false;
        }
        let callers = all.callers();
        all.is_too_much(callers.get(caller).copied().unwrap_or(0), callers.len())
    }

    fn counted_as<'c>(&'c self, caller: &'c str) -> &'c str {
        if caller.is_empty() { &self.source } else { caller }
    }

    /// The same of this connection, whoever calls on it.
    fn is_too_much(&self) -> bool {
        let (bytes, connections) =
            (self.bytes.load(Ordering::Relaxed), self.all.connections.load(Ordering::Relaxed));
        self.all.is_too_much(bytes, connections)
    }

    /// Counts an answer until it is taken.
    pub(super) fn count(self: &Arc<Self>, answer: Response) -> Response {
        let size = answer.body().size_hint().upper();
        if size.is_some_and(|size| size < LEAST_BYTES as u64) {
            return answer;
        }
        let of = Arc::clone(self);
        let is_kept_anyway = answer.extensions().get::<KeptAnyway>().is_some();
        let caller = answer.extensions().get().cloned().unwrap_or_default();
        let caller = (!is_kept_anyway).then_some(caller);
        answer.map(|body| {
            Body::new(
                body.map_frame(move |frame| frame.map_data(|bytes| Self::piece(&of, caller.as_ref(), bytes))),
            )
        })
    }

    fn piece(of: &Arc<Self>, caller: Option<&CallerNote>, bytes: Bytes) -> Bytes {
        if bytes.len() < LEAST_BYTES {
            return bytes;
        }
        if let Some(caller) = caller {
            of.all.add(of.counted_as(caller.get()), bytes.len());
        }
        if of.bytes.fetch_add(bytes.len(), Ordering::Relaxed) == 0 {
            of.all.connections.fetch_add(1, Ordering::Relaxed);
            of.begun.notify_one();
        }
        Bytes::from_owner(Piece { bytes, of: Arc::clone(of), caller: caller.cloned() })
    }

    /// Comes back once something was there to take for `limit`, or for two seconds while there is too much, and nothing of
    /// it was taken.
    pub(super) async fn neglected(&self, limit: Duration) {
        let slice = limit.min(IMPATIENCE);
        loop {
            self.begun.notified().await;
            let (mut taken, mut waited) = (self.taken.load(Ordering::Relaxed), Duration::ZERO);
            loop {
                sleep(slice).await;
                if self.bytes.load(Ordering::Relaxed) == 0 {
                    break;
                }
                let before = std::mem::replace(&mut taken, self.taken.load(Ordering::Relaxed));
                waited = if before == taken { waited + slice } else { Duration::ZERO };
                if waited >= limit || (!waited.is_zero() && self.is_too_much()) {
                    return;
                }
            }
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.of.taken.fetch_add(1, Ordering::Relaxed);
        if self.of.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed) == self.bytes.len() {
            self.of.all.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(caller) = &self.caller {
            self.of.all.take(self.of.counted_as(caller.get()), self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenId;

    fn caller(name: &str) -> CallerNote {
        let note = CallerNote::default();
        note.set(&TokenId::from_stored(name.to_owned()));
        note
    }

    fn connection(all: &Arc<AllUntaken>) -> Arc<Untaken> {
        all.connection([192, 0, 2, 1].into())
    }

    fn piece(of: &Arc<Untaken>, name: &str) -> Bytes {
        Untaken::piece(of, Some(&caller(name)), Bytes::from(vec![b'x'; LEAST_BYTES]))
    }

    #[tokio::test]
    async fn an_answer_counts_until_it_is_taken() {
        let all = AllUntaken::new(3 * LEAST_BYTES);
        let (one, other) = (connection(&all), connection(&all));
        let large = |name| {
            let mut answer = Response::new(Body::from(vec![b'x'; 2 * LEAST_BYTES]));
            answer.extensions_mut().insert(caller(name));
            answer
        };
        let left = one.count(large("one")).into_body().collect().await.unwrap().to_bytes();
        assert!(!other.is_too_much_of("other"));
        let more = other.count(large("other")).into_body().collect().await.unwrap().to_bytes();
        assert!(one.is_too_much_of("one") && one.is_too_much_of("other"), "it is one room for all");
        assert!(!one.is_too_much_of("third"), "who leaves nothing may call");
        // A part that is kept keeps the whole
        let part = left.slice(..1);
        drop(left);
        assert!(one.is_too_much_of("one"));
        drop(part);
        assert!(!one.is_too_much_of("one"));
        assert_eq!(more.len(), 2 * LEAST_BYTES);
        drop(more);
        assert_eq!((all.bytes.load(Ordering::Relaxed), all.callers().len()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_small_is_not_counted() {
        let all = AllUntaken::new(0);
        let body = Body::from(vec![b'x'; LEAST_BYTES - 1]);
        let kept =
            connection(&all).count(Response::new(body)).into_body().collect().await.unwrap().to_bytes();
        assert_eq!((kept.len(), all.bytes.load(Ordering::Relaxed)), (LEAST_BYTES - 1, 0));
    }

    #[tokio::test]
    async fn who_takes_something_neglects_nothing() {
        let of = connection(&AllUntaken::new(0));
        let short = Duration::from_millis(20);
        drop(piece(&of, "one"));
        let left = piece(&of, "one");
        let neglected = tokio::time::timeout(Duration::from_secs(20), of.neglected(short));
        neglected.await.expect("it was left");
        drop(left);
        let neglected = tokio::time::timeout(short * 10, of.neglected(short)).await;
        assert!(neglected.is_err(), "nothing is left");
    }

    #[tokio::test]
    async fn who_leaves_least_may_call_and_who_leaves_most_is_not_waited_for() {
        let all = AllUntaken::new(8 * LEAST_BYTES);
        let (greedy, modest) = (connection(&all), connection(&all));
        let left: Vec<_> = (0..8).map(|_| piece(&greedy, "greedy")).collect();
        let one = piece(&modest, "modest");
        assert!(modest.is_too_much_of("greedy") && !modest.is_too_much_of("modest"));
        // The first is not waited for an hour, the second is
        let hour = Duration::from_hours(1);
        let first = tokio::time::timeout(IMPATIENCE * 10, greedy.neglected(hour));
        let second = tokio::time::timeout(IMPATIENCE * 2, modest.neglected(hour));
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_ok() && second.is_err());
        let more: Vec<_> = (0..8).map(|_| piece(&greedy, "greedy")).collect();
        assert!(modest.is_too_much_of("modest"), "of twice as much nobody may leave anything");
        assert!(!modest.is_too_much_of("third"), "who leaves nothing still may call");
        drop((left, one, more));
        assert_eq!((all.connections.load(Ordering::Relaxed), all.callers().len()), (0, 0));
    }

    #[test]
    fn who_leaves_a_little_on_many_connections_is_one_caller() {
        let all = AllUntaken::new(8 * LEAST_BYTES);
        let connections: Vec<_> = (0..20).map(|_| connection(&all)).collect();
        let left: Vec<_> = connections.iter().map(|of| piece(of, "many")).collect();
        let fresh = connection(&all);
        assert!(fresh.is_too_much_of("many"));
        assert!(!fresh.is_too_much_of("other"));
        drop(left);
        assert!(!fresh.is_too_much_of("many"));
    }

    #[test]
    fn who_is_not_known_is_where_he_comes_from() {
        let all = AllUntaken::new(LEAST_BYTES);
        let (here, there) = (connection(&all), all.connection([192, 0, 2, 2].into()));
        let left: Vec<_> = (0..2)
            .map(|_| Untaken::piece(&here, Some(&CallerNote::default()), vec![0; LEAST_BYTES].into()))
            .collect();
        assert!(here.is_too_much_of("") && !there.is_too_much_of("") && !here.is_too_much_of("known"));
        drop(left);
        assert!(all.callers().is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_for_all_takes_no_room_and_is_waited_for_as_ever() {
        let all = AllUntaken::new(0);
        let mut answer = Response::new(Body::from(vec![b'x'; LEAST_BYTES]));
        answer.extensions_mut().insert(KeptAnyway);
        let of = connection(&all);
        let kept = of.count(answer).into_body().collect().await.unwrap().to_bytes();
        assert_eq!((kept.len(), all.bytes.load(Ordering::Relaxed)), (LEAST_BYTES, 0));
        assert!(all.callers().is_empty());
        let neglected =
            tokio::time::timeout(Duration::from_secs(20), of.neglected(Duration::from_millis(20)));
        neglected.await.expect("it was left");
    }
}
