//! What was answered and is not taken yet.
//!
//! A client that asks and does not read leaves the answers in this server's memory. How many it can leave there the limit
//! of streams says; here is counted what all clients leave, and who takes nothing of it for too long is known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::{sync::Notify, time::sleep};

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
    all: Arc<AllUntaken>,
}

/// A piece of an answer. The protocol's library drops it when it is written to the socket, or its stream has ended.
struct Piece {
    bytes: Bytes,
    of: Arc<Untaken>,
}

// === impl AllUntaken ===

impl AllUntaken {
    /// At most so many bytes; when there are more, calls are refused.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), connections: AtomicUsize::new(0), most })
    }

    /// Of a new connection.
    pub(super) fn connection(self: &Arc<Self>) -> Arc<Untaken> {
        let (bytes, taken) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Untaken { bytes, taken, begun: Notify::new(), all: Arc::clone(self) })
    }
}

// === impl Untaken ===

impl Untaken {
    /// Whether clients leave so much that nothing should be added for this one: more than there is room for, and it its
    /// share of that. Where they leave twice as much, nothing is added for anybody.
    pub fn is_too_much(&self) -> bool {
        let AllUntaken { bytes, connections, most } = &*self.all;
        let bytes = bytes.load(Ordering::Relaxed);
        if bytes <= *most {
            return false;
        }
        // One more than there are: who comes next has room too
        let share = most / (connections.load(Ordering::Relaxed) + 1);
        bytes > most.saturating_mul(2) || self.bytes.load(Ordering::Relaxed) > share
    }

    /// Counts an answer until it is taken.
    pub(super) fn count(self: &Arc<Self>, answer: Response) -> Response {
        let size = answer.body().size_hint().upper();
        if size.is_some_and(|size| size < LEAST_BYTES as u64) {
            return answer;
        }
        let of = Arc::clone(self);
        answer.map(|body| {
            Body::new(body.map_frame(move |frame| frame.map_data(|bytes| Self::piece(&of, bytes))))
        })
    }

    fn piece(of: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() < LEAST_BYTES {
            return bytes;
        }
        of.all.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        if of.bytes.fetch_add(bytes.len(), Ordering::Relaxed) == 0 {
            of.all.connections.fetch_add(1, Ordering::Relaxed);
            of.begun.notify_one();
        }
        Bytes::from_owner(Piece { bytes, of: Arc::clone(of) })
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
        self.of.all.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_counts_until_it_is_taken() {
        let all = AllUntaken::new(3 * LEAST_BYTES);
        let (one, other) = (all.connection(), all.connection());
        let large = || Response::new(Body::from(vec![b'x'; 2 * LEAST_BYTES]));
        let left = one.count(large()).into_body().collect().await.unwrap().to_bytes();
        assert!(!other.is_too_much());
        let more = other.count(large()).into_body().collect().await.unwrap().to_bytes();
        assert!(one.is_too_much() && other.is_too_much(), "it is one room for all");
        assert!(!all.connection().is_too_much(), "who leaves nothing may call");
        // A part that is kept keeps the whole
        let part = left.slice(..1);
        drop(left);
        assert!(one.is_too_much());
        drop(part);
        assert!(!one.is_too_much());
        assert_eq!(more.len(), 2 * LEAST_BYTES);
        drop(more);
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_small_is_not_counted() {
        let all = AllUntaken::new(0);
        let body = Body::from(vec![b'x'; LEAST_BYTES - 1]);
        let kept =
            all.connection().count(Response::new(body)).into_body().collect().await.unwrap().to_bytes();
        assert_eq!((kept.len(), all.bytes.load(Ordering::Relaxed)), (LEAST_BYTES - 1, 0));
    }

    #[tokio::test]
    async fn who_takes_something_neglects_nothing() {
        let of = AllUntaken::new(0).connection();
        let piece = || Untaken::piece(&of, Bytes::from(vec![b'x'; LEAST_BYTES]));
        let short = Duration::from_millis(20);
        drop(piece());
        let left = piece();
        let neglected = tokio::time::timeout(Duration::from_secs(20), of.neglected(short));
        neglected.await.expect("it was left");
        drop(left);
        let neglected = tokio::time::timeout(short * 10, of.neglected(short)).await;
        assert!(neglected.is_err(), "nothing is left");
    }

    #[tokio::test]
    async fn who_leaves_least_may_call_and_who_leaves_most_is_not_waited_for() {
        let all = AllUntaken::new(8 * LEAST_BYTES);
        let (greedy, modest) = (all.connection(), all.connection());
        let piece = |of: &Arc<Untaken>| Untaken::piece(of, Bytes::from(vec![b'x'; LEAST_BYTES]));
        let left: Vec<_> = (0..8).map(|_| piece(&greedy)).collect();
        let one = piece(&modest);
        assert!(greedy.is_too_much() && !modest.is_too_much());
        // The first is not waited for an hour, the second is
        let hour = Duration::from_hours(1);
        let first = tokio::time::timeout(IMPATIENCE * 10, greedy.neglected(hour));
        let second = tokio::time::timeout(IMPATIENCE * 2, modest.neglected(hour));
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_ok() && second.is_err());
        let more: Vec<_> = (0..8).map(|_| piece(&greedy)).collect();
        assert!(modest.is_too_much(), "twice as much is too much for all");
        drop((left, one, more));
        assert_eq!(all.connections.load(Ordering::Relaxed), 0);
    }
}
