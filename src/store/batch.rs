//! What many ask for at once, done together: in one statement, and one commit.
//!
//! Nobody waits for company. A lane that is free lets run who can, and takes all that waits then, be it one; what
//! comes while every lane is under way goes together next. So who is alone pays next to nothing, and the more there are,
//! the less each of them costs. Where a database is spread over machines, a statement for many may cross them: there
//! each goes by himself.

use std::{collections::VecDeque, fmt, panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Error;

/// What may wait before callers wait to be let in.
const QUEUE: usize = 1024;

/// What can be done for many together.
#[async_trait]
pub(super) trait Together: Send + Sync + 'static {
    /// What one caller asks for.
    type Item: Send + Sync;
    /// What he gets.
    type Outcome: Send;
    /// The most at once: more would make the first wait long for the last.
    const AT_ONCE: usize;

    /// Whether an item may go with another, which came before it. Who may not goes after it.
    fn goes_with(_item: &Self::Item, _other: &Self::Item) -> bool {
        true
    }

    /// Does it, and gives an outcome for each item, in their order.
    async fn run(&self, items: &[Self::Item]) -> Result<Vec<Self::Outcome>, Error>;
}

/// The way to have it done. Cheap to clone.
pub(super) enum Batcher<W: Together> {
    /// To the lanes on which it is done.
    Lanes(mpsc::Sender<Waiting<W>>),
    /// Each by himself, on his own time.
    Each(Arc<W>),
}

/// An item, and whom to tell how it went.
pub(super) struct Waiting<W: Together> {
    item: W::Item,
    caller: oneshot::Sender<Result<W::Outcome, Error>>,
}

/// Those who wait at one lane.
struct Lineup<W: Together> {
    /// Who goes together next.
    next: Vec<Waiting<W>>,
    /// Who cannot go with them, in the order in which they came.
    aside: VecDeque<Waiting<W>>,
}

// === impl Batcher ===

impl<W: Together> Batcher<W> {
    /// Starts so many lanes. They end with the last clone.
    pub(super) fn start(work: W, lanes: usize, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (work, receiver) = (Arc::new(work), Arc::new(Mutex::new(receiver)));
        for _ in 0..lanes {
            tasks.spawn(lane(Arc::clone(&work), Arc::clone(&receiver)));
        }
        Self::Lanes(sender)
    }

    /// With so many lanes, or none.
    pub(super) fn new(work: W, lanes: Option<(usize, &TaskTracker)>) -> Self {
        match lanes {
            Some((lanes, tasks)) => Self::start(work, lanes, tasks),
            None => Self::Each(Arc::new(work)),
        }
    }

    /// Has it done, together with whatever else waits.
    ///
    /// # Errors
    /// What came of this item; of others only what is nobody's own fault.
    pub(super) async fn ask(&self, item: W::Item) -> Result<W::Outcome, Error> {
        match self {
            Self::Lanes(queue) => {
                let (caller, receiver) = oneshot::channel();
                queue.send(Waiting { item, caller }).await.map_err(|_unsent| Error::stopped())?;
                receiver.await.unwrap_or_else(|_dropped| Err(Error::stopped()))
            }
            Self::Each(work) => attempt_one(work.as_ref(), std::slice::from_ref(&item)).await,
        }
    }
}

impl<W: Together> Clone for Batcher<W> {
    fn clone(&self) -> Self {
        match self {
            Self::Lanes(queue) => Self::Lanes(queue.clone()),
            Self::Each(work) => Self::Each(Arc::clone(work)),
        }
    }
}

impl<W: Together> fmt::Debug for Batcher<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batcher")
    }
}

async fn lane<W: Together>(work: Arc<W>, queue: Arc<Mutex<mpsc::Receiver<Waiting<W>>>>) {
    let mut line = Lineup::<W> { next: Vec::new(), aside: VecDeque::new() };
    while line.gather(&mut *queue.lock().await).await {
        // Who gave up waiting is owed nothing
        let awaited = line.next.drain(..).filter(|waiting| !waiting.caller.is_closed());
        let (items, callers): (Vec<_>, Vec<_>) =
            awaited.map(|Waiting { item, caller }| (item, caller)).unzip();
        if items.is_empty() {
            continue;
        }
        if let Err(outage) = serve(work.as_ref(), &items, callers).await {
            // Who waits already has waited for the same connection, and is not let wait as long again
            let waiting = || queue.try_lock().ok().and_then(|mut it| it.try_recv().ok());
            for Waiting { caller, .. } in line.aside.drain(..).chain(std::iter::from_fn(waiting)) {
                tell(caller, Err(outage.clone()));
            }
        }
    }
}

// === impl Lineup ===

impl<W: Together> Lineup<W> {
    /// Takes what waits, once there is anything: also what those ask for who are ready to run. They go first for as long
    /// as that brings anything, which keeps nobody longer than it takes them to ask, and spares them a statement of their
    /// own.
    async fn gather(&mut self, queue: &mut mpsc::Receiver<Waiting<W>>) -> bool {
        for waiting in std::mem::take(&mut self.aside) {
            self.admit(waiting);
        }
        if self.next.is_empty() {
            let Some(first) = queue.recv().await else { return false };
            self.admit(first);
        }
        let mut before = 0;
        while before < self.next.len() && self.has_room() {
            before = self.next.len();
            tokio::task::yield_now().await;
            while self.has_room()
                && let Ok(waiting) = queue.try_recv()
            {
                self.admit(waiting);
            }
        }
        true
    }

    fn has_room(&self) -> bool {
        self.next.len() < W::AT_ONCE && self.aside.len() < QUEUE
    }

    fn admit(&mut self, waiting: Waiting<W>) {
        let goes = || self.next.iter().all(|other| W::goes_with(&waiting.item, &other.item));
        if self.next.len() < W::AT_ONCE && goes() {
            self.next.push(waiting);
        } else {
            self.aside.push_back(waiting);
        }
    }
}

/// Does it for all, or where one fails, for each. Returns what kept it from a connection, if anything did.
async fn serve<W: Together>(
    work: &W,
    items: &[W::Item],
    callers: Vec<oneshot::Sender<Result<W::Outcome, Error>>>,
) -> Result<(), Error> {
    match attempt(work, items).await {
        Ok(outcomes) => {
            for (caller, outcome) in callers.into_iter().zip(outcomes) {
                tell(caller, Ok(outcome));
            }
        }
        // One bad item must not fail its neighbours; but where the database is away, each try would take long
        Err(error) if items.len() > 1 && !matches!(error, Error::Unavailable(_)) => {
            for (item, caller) in items.chunks(1).zip(callers) {
                tell(caller, attempt_one(work, item).await);
            }
        }
        Err(error) => {
            for caller in callers {
                tell(caller, Err(error.clone()));
            }
            if error.is_outage() {
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn attempt_one<W: Together>(work: &W, item: &[W::Item]) -> Result<W::Outcome, Error> {
    let outcomes = attempt(work, item).await?;
    outcomes.into_iter().next().ok_or(Error::Inconsistent("each item has an outcome"))
}

/// A panic is a bug of what was done: its callers are told so, and the lane goes on.
async fn attempt<W: Together>(work: &W, items: &[W::Item]) -> Result<Vec<W::Outcome>, Error> {
    let outcomes = AssertUnwindSafe(work.run(items)).catch_unwind().await;
    let outcomes = outcomes.unwrap_or(Err(Error::Panicked))?;
    if outcomes.len() == items.len() {
        Ok(outcomes)
    } else {
        Err(Error::Inconsistent("each item has an outcome"))
    }
}

/// A caller that hung up does not want to know.
fn tell<T>(caller: oneshot::Sender<Result<T, Error>>, outcome: Result<T, Error>) {
    drop(caller.send(outcome));
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex as StdMutex, time::Duration};

    use tokio::sync::Notify;

    use super::*;

    /// Doubles numbers; what is odd it refuses, at 13 it panics.
    #[derive(Default)]
    struct Doubling(Arc<StdMutex<Vec<usize>>>);

    #[async_trait]
    impl Together for Doubling {
        type Item = u64;
        type Outcome = u64;
        const AT_ONCE: usize = 4;

        async fn run(&self, items: &[u64]) -> Result<Vec<u64>, Error> {
            self.0.lock().unwrap().push(items.len());
            tokio::time::sleep(Duration::from_millis(1)).await;
            items
                .iter()
                .map(|item| match item {
                    13 => panic!("thirteen"),
                    odd if odd % 2 == 1 => Err(Error::Inconsistent("even")),
                    even => Ok(even * 2),
                })
                .collect()
        }
    }

    #[tokio::test]
    async fn who_comes_meanwhile_goes_together_and_gets_his_own() {
        let sizes = Arc::default();
        let batcher = Batcher::start(Doubling(Arc::clone(&sizes)), 1, &TaskTracker::new());
        let asked = (0..10).map(|n| batcher.ask(n * 2));
        let outcomes = futures_util::future::join_all(asked).await;
        let numbers: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(numbers, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]);
        let sizes = sizes.lock().unwrap().clone();
        assert!(sizes.iter().all(|size| *size <= 4) && sizes.len() < 10, "{sizes:?}");
    }

    #[tokio::test]
    async fn who_is_about_to_ask_goes_along() {
        let sizes = Arc::default();
        let tasks = TaskTracker::new();
        let batcher = Batcher::start(Doubling(Arc::clone(&sizes)), 1, &tasks);
        let first_has_asked = Arc::new(Notify::new());
        let others = [4, 6].map(|n| {
            let (batcher, first_has_asked) = (batcher.clone(), Arc::clone(&first_has_asked));
            tasks.spawn(async move {
                first_has_asked.notified().await;
                batcher.ask(n).await
            })
        });
        tokio::task::yield_now().await;
        let (first, ()) = tokio::join!(batcher.ask(2), async { first_has_asked.notify_waiters() });
        assert_eq!(first.unwrap(), 4);
        for (other, doubled) in others.into_iter().zip([8, 12]) {
            assert_eq!(other.await.unwrap().unwrap(), doubled);
        }
        assert_eq!(*sizes.lock().unwrap(), [3]);
    }

    /// Says how many went together. No two of the same go together.
    struct Different;

    #[async_trait]
    impl Together for Different {
        type Item = char;
        type Outcome = usize;
        const AT_ONCE: usize = 4;

        fn goes_with(item: &char, other: &char) -> bool {
            other != item
        }

        async fn run(&self, items: &[char]) -> Result<Vec<usize>, Error> {
            tokio::task::yield_now().await;
            Ok(vec![items.len(); items.len()])
        }
    }

    #[tokio::test]
    async fn many_of_one_keep_no_other_waiting() {
        let batcher = Batcher::start(Different, 1, &TaskTracker::new());
        let told = StdMutex::new(Vec::new());
        let asked = "aaaaaabac".chars().enumerate().map(async |(place, item)| {
            let together = batcher.ask(item).await.unwrap();
            told.lock().unwrap().push((place, item, together));
        });
        futures_util::future::join_all(asked).await;
        let told = told.into_inner().unwrap();
        let others = told.iter().position(|(_, item, _)| *item == 'c').unwrap();
        assert!(others < 4, "{told:?}");
        let same: Vec<_> =
            told.iter().filter(|(_, item, _)| *item == 'a').map(|(place, _, _)| *place).collect();
        assert!(same.is_sorted() && same.len() == 7, "{told:?}");
    }

    #[tokio::test]
    async fn each_goes_by_himself_where_nothing_is_shared() {
        let sizes = Arc::default();
        let batcher = Batcher::new(Doubling(Arc::clone(&sizes)), None);
        let outcomes = futures_util::future::join_all([2, 3, 13, 4].map(|n| batcher.ask(n))).await;
        let [two, three, thirteen, four] = outcomes.try_into().unwrap();
        assert_eq!((two.unwrap(), four.unwrap()), (4, 8));
        assert!(matches!(three, Err(Error::Inconsistent(_))), "{three:?}");
        assert!(matches!(thirteen, Err(Error::Panicked)), "{thirteen:?}");
        assert_eq!(*sizes.lock().unwrap(), [1; 4]);
    }

    #[tokio::test]
    async fn what_fails_or_panics_fails_alone() {
        let batcher = Batcher::start(Doubling::default(), 1, &TaskTracker::new());
        let asked = [2, 3, 13, 4].map(|n| batcher.ask(n));
        let [two, three, thirteen, four] = futures_util::future::join_all(asked).await.try_into().unwrap();
        assert_eq!((two.unwrap(), four.unwrap()), (4, 8));
        assert!(matches!(three, Err(Error::Inconsistent(_))), "{three:?}");
        assert!(matches!(thirteen, Err(Error::Panicked)), "{thirteen:?}");
    }
}
