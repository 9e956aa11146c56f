//! `superserve keys rotate`.

use clap::Args;
use serde_json::json;

use super::{
    Failure, failed,
    progress::{Progress, rate},
};
use crate::{
    app::{self, AgentsRewrapped, KeysRotated},
    cli::{context::Context, failure::Exit},
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
}

impl Rotate {
    /// Makes a key the primary and brings the agents under it.
    ///
    /// # Errors
    /// When there is no other key, when the keyring and the database do not fit together, or when agents are left.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let mut progress = Progress::new(&mut context.output);
        let rotated =
            app::rotate_keys(&storage, self.key.as_deref(), |done, total| progress.tell(done, total));
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
            "Have all servers read the keyring again (restart them, or send them SIGHUP), so that new agents come \
             under it too. Then `superserve keys retire ID` can remove the old key.",
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
        "Servers that use another primary key may have added them: have all servers read the keyring again (restart \
         them, or send them SIGHUP), and run `superserve keys rotate` once more.",
    )
}
