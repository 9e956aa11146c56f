//! `superserve keys status`.

use prost_types::Timestamp as Time;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, KeyStatus, KeysStatus, ServerStatus},
    cli::{
        context::Context,
        failure::Exit,
        render::{table, time, time_text},
    },
    config::StorageSettings,
    domain::Timestamp,
};

/// Shows the keys and the servers.
///
/// # Errors
/// When the database cannot be asked; and, after all is shown, when no server could start with this keyring.
pub(super) async fn run(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let KeysStatus { keys, servers, problem } =
        app::key_status(&settings.check()?).await.map_err(|error| failed(&error))?;
    if context.output.json {
        let keys = keys.iter().map(|key| {
            let KeyStatus { id, state, fingerprint, agents, noted_at, primary_since } = key;
            let (noted_at, primary_since) = (at(*noted_at), at(*primary_since));
            json!({
                "id": id, "state": state, "fingerprint": fingerprint, "agents": agents,
                "noted_at": time(noted_at.as_ref()), "primary_since": time(primary_since.as_ref()),
            })
        });
        let servers = servers.iter().map(
            |ServerStatus { name, wraps, lacks }| json!({ "name": name, "wraps": wraps, "lacks": lacks }),
        );
        let (keys, servers) = (keys.collect::<Vec<_>>(), servers.collect::<Vec<_>>());
        context.output.document(&json!({ "keys": keys, "servers": servers }))?;
    } else {
        let rows: Vec<_> = keys.into_iter().map(row).collect();
        let heading = ["KEY", "STATE", "FINGERPRINT", "AGENTS", "KNOWN SINCE", "IN USE SINCE"];
        context.output.data(table(heading, &rows))?;
        if !servers.is_empty() {
            let rows: Vec<_> = servers
                .into_iter()
                .map(|ServerStatus { name, wraps, lacks }| {
                    let lacks = if lacks.is_empty() { "-".to_owned() } else { lacks.join(" ") };
                    [name, wraps, lacks]
                })
                .collect();
            context.output.data(format!("\n{}", table(["SERVER", "WRAPS BY", "LACKS"], &rows)))?;
        }
    }
    match problem {
        Some(problem) => Err(failed(&problem)),
        None => Ok(Exit::Fine),
    }
}

fn row(key: KeyStatus) -> [String; 6] {
    let KeyStatus { id, state, fingerprint, agents, noted_at, primary_since } = key;
    let told = |time: Option<Timestamp>| time_text(at(time).as_ref());
    [id, state.to_owned(), fingerprint, agents.to_string(), told(noted_at), told(primary_since)]
}

fn at(time: Option<Timestamp>) -> Option<Time> {
    // Whole seconds are enough to be compared with the date of a backup
    time.map(|Timestamp(micros)| Time { seconds: micros.div_euclid(1_000_000), nanos: 0 })
}
