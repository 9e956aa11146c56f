//! Work that takes long without waiting for anything: compiling patterns and trying them.
//!
//! On the threads that serve calls it would hold up every call, and in a transaction everybody who waits to
//! write. So it has threads of its own, and no more than the machine has processors: the rest waits its turn, as
//! long as its call may take.

use std::{num::NonZero, sync::Arc, thread};

use tokio::sync::Semaphore;

use super::Error;
use crate::trace;

/// Threads for such work. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Heavy(Arc<Semaphore>);

impl Heavy {
    /// Does such work. It goes on when its caller has gone, and keeps its place until it is done.
    ///
    /// # Errors
    /// [`Error::Bug`] when it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        let place = place.map_err(|_closed| Error::Bug("the places for heavy work are never closed"))?;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        trace::step("patterns", working).await.map_err(|_panicked| Error::Bug("heavy work panicked"))
    }
}

impl Default for Heavy {
    fn default() -> Self {
        let places = thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(places)))
    }
}
