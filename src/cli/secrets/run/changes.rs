//! Tells of new values while a command runs.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::{
    cli::{
        failure::{Exit, Failure},
        output::Output,
    },
    proto::v1::WatchSecretsResponse,
};

use super::resolve::{Resolver, Values};

/// Changes that follow each other more closely than this are one.
const QUIET: Duration = Duration::from_millis(300);
/// A stream of changes is not waited out for longer than this.
const LONGEST_UNREST: Duration = Duration::from_secs(3);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the server tells of one agent.
pub(super) struct Changes<'a> {
    resolver: &'a Resolver,
    /// `None` while there is no connection.
    stream: Option<Streaming<WatchSecretsResponse>>,
    /// The latest revision that was told.
    told: i64,
    /// The revision that was looked at.
    seen: i64,
    /// How long to wait before the next try.
    pause: Duration,
    /// The person knows that there is trouble.
    is_trouble_told: bool,
}

// === impl Changes ===

impl<'a> Changes<'a> {
    /// Tells of what comes after `revision`.
    pub(super) fn new(
        resolver: &'a Resolver,
        stream: Streaming<WatchSecretsResponse>,
        revision: i64,
    ) -> Self {
        Self {
            resolver,
            stream: Some(stream),
            told: revision,
            seen: revision,
            pause: FIRST_PAUSE,
            is_trouble_told: false,
        }
    }

    /// Waits for values that are others. Until there are some the command is to run on, whatever happens;
    /// the person is told. May be dropped at any time and called again: nothing is missed.
    pub(super) async fn next(&mut self, is_other: impl Fn(&Values) -> bool, output: &mut Output) -> Values {
        loop {
            while self.told <= self.seen {
                self.listen(output).await;
            }
            self.settle().await;
            match self.resolver.resolve().await {
                Ok(resolved) => {
                    self.calm();
                    self.seen = self.told.max(resolved.revision);
                    // A change of other keys than this run's, or of what is required, is none
                    if is_other(&resolved.values) {
                        return resolved.values;
                    }
                }
                Err(failure) if failure.exit == Exit::Missing => {
                    self.seen = self.told;
                    output.talk(format!("{failure}\nThe command runs on with the values it has."));
                }
                Err(failure) => self.trouble(&failure, output).await,
            }
        }
    }

    /// Waits for the next revision, over a new connection if need be.
    async fn listen(&mut self, output: &mut Output) {
        if let Some(stream) = &mut self.stream {
            match stream.message().await {
                Ok(Some(WatchSecretsResponse { revision })) => {
                    self.calm();
                    self.told = self.told.max(revision);
                }
                Ok(None) | Err(_) => self.stream = None,
            }
            return;
        }
        // Also after a stream that broke at once: a server that is stopping would be asked in a circle
        sleep(self.pause).await;
        match self.resolver.watch().await {
            Ok(stream) => self.stream = Some(stream),
            Err(failure) => self.trouble(&failure, output).await,
        }
    }

    /// Waits until changes have come to rest.
    async fn settle(&mut self) {
        let start = Instant::now();
        while start.elapsed() < LONGEST_UNREST {
            let Some(stream) = &mut self.stream else { return };
            match timeout(QUIET, stream.message()).await {
                Ok(Ok(Some(WatchSecretsResponse { revision }))) => self.told = self.told.max(revision),
                Ok(Ok(None) | Err(_)) => self.stream = None,
                Err(_elapsed) => return,
            }
        }
    }

    fn calm(&mut self) {
        self.pause = FIRST_PAUSE;
        self.is_trouble_told = false;
    }

    /// Tells of trouble once, and waits longer each time.
    async fn trouble(&mut self, failure: &Failure, output: &mut Output) {
        // Ctrl-C is for the command
        if failure.exit != Exit::Interrupted && !self.is_trouble_told {
            self.is_trouble_told = true;
            output.talk(format!("{failure}\nThe command runs on; changes are asked for again and again."));
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        sleep(pause).await;
    }
}
