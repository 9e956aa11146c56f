//! Follows the server that takes writes, where a database has several.
//!
//! The pool opens its connections where it was last told to. So one task holds a connection of its own to the server
//! that takes writes, asks every second whether it still does, and as soon as somebody finds a connection dead.
//! When it does not, all servers are asked, and the pool goes on at the one that does. A server that went
//! without a word, with its machine, is found out in the same way: it does not answer.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    hosts::{Hosts, Name, expect_writable},
    pool::Deaths,
};

/// How often the server is asked while all is well.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The pause between two looks while there is no server that takes writes.
const SEARCH_EVERY: Duration = Duration::from_millis(200);

/// What it takes to follow.
pub(super) struct Scout {
    /// Where to look.
    pub(super) hosts: Hosts,
    /// The server that the pool connects to.
    pub(super) host: PgConnectOptions,
    /// What is to be told.
    pub(super) pool: PgPool,
    /// So that connections are tried before they are used.
    pub(super) deaths: Deaths,
    /// Ends what waits for the server before, which may never answer.
    pub(super) moved: watch::Sender<Option<Instant>>,
}

// === impl Scout ===

impl Scout {
    /// Follows until nobody can call any more. `post` is the connection by which the server was found.
    pub(super) async fn follow(mut self, post: PgConnection, mut calls: mpsc::Receiver<()>) {
        let mut post = Some(post);
        loop {
            if let Some(connection) = &mut post {
                if let Ok(None) = timeout(LOOK_EVERY, calls.recv()).await {
                    return;
                }
                match expect_writable(connection).await {
                    Ok(()) => continue,
                    Err(error) => tracing::warn!(%error, "the database is looked for"),
                }
            } else {
                // Calls make no difference: it is looked for already
                tokio::time::sleep(SEARCH_EVERY).await;
                if calls.is_closed() {
                    return;
                }
            }
            post = self.search().await;
        }
    }

    async fn search(&mut self) -> Option<PgConnection> {
        match self.hosts.primary().await {
            Ok((host, connection)) => {
                self.move_to(host);
                Some(connection)
            }
            Err(error) => {
                tracing::debug!(%error, "no server of the database takes writes");
                None
            }
        }
    }

    /// The same server may have been slow to answer, and what is under way there may yet end well.
    fn move_to(&mut self, host: PgConnectOptions) {
        tracing::info!(server = %Name(&host), "the database is there");
        let is_another = Name(&host).to_string() != Name(&self.host).to_string();
        self.pool.set_connect_options(host.clone());
        self.host = host;
        self.deaths.note();
        if is_another {
            self.moved.send_replace(Some(Instant::now()));
        }
    }
}
