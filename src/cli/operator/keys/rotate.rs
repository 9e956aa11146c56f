//! `superserve keys rotate`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, AgentsRewrapped, KeysRotated, Rotation},
    cli::{
        context::Context,
        duration,
        failure::Exit,
        operator::progress::{Progress, rate},
    },
    config::StorageSettings,
};

/// The arguments of `keys rotate`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    settings: StorageSettings,
    /// The key to make primary [default: the newest]
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// How long to wait until all servers have read the keyring with the key
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    wait: Duration,
}

impl Rotate {
    /// Makes a key the primary and brings the agents under it.
    ///
    /// # Errors
    /// When there is no other key, when a server does not have it in time, when the keyring and the database do not fit together, or when agents are left.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let mut progress = Progress::new(&mut context.output, "agents");
        let rotation = Rotation { key: self.key.as_deref(), wait: self.wait };
        let rotated = app::rotate_keys(&storage, rotation, |done, total| progress.tell(done, total));
        let rotated = rotated.await;
        let elapsed = progress.end();
        let KeysRotated { primary, before, agents } = rotated.map_err(|error| failed(&error))?;
        let AgentsRewrapped { rewrapped, left, unopened } = agents;
        if let Some(before) = &before {
            context.output.talk(format!("{primary} is the primary key in the place of {before}."));
        }
        context.output.talk(if before.is_none() && rewrapped == 0 && left == 0 {
            format!(
                "{primary} was the primary key already, and wraps the data keys of all agents. To change to a new \
                 key, run `superserve keys generate` first."
            )
        } else {
            let rate = rate(rewrapped, elapsed);
            format!("Wrapped the data keys of {rewrapped} agent(s) under {primary}, {rate} agents/s.")
        });
        if context.output.json {
            context.output.document(&json!({
                "primary": primary, "before": before, "rewrapped": rewrapped, "left": left, "unopened": unopened,
            }))?;
        }
        if left > 0 {
            return Err(remaining(left, unopened));
        }
        context.output.talk(
            "Servers that share this file use it within seconds; give it to all others, so that new agents come under it \
             too. Then `superserve keys retire ID` can remove the old key.",
        );
        Ok(Exit::Fine)
    }
}

fn remaining(left: u64, unopened: u64) -> Failure {
    if left == unopened {
        return Failure::local(format!(
            "The data keys of {left} agent(s) do not open; the log above names them. All others are under the primary \
             key."
        ));
    }
    Failure::local(format!("{left} agent(s) are still under another key.")).hint(
        "Servers that use another primary key may have added them: give all servers this keyring, and run \
         `superserve keys rotate` once more.",
    )
}
