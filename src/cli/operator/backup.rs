//! `superserve backup FILE`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, failed, progress::Progress};
use crate::{
    app::{self, BackedUp, Held, Target},
    cli::{context::Context, failure::Exit, input::interruptible},
    config::StorageSettings,
};

/// What is written for stdin and stdout.
pub(super) const STREAM: &str = "-";

/// The arguments of `backup`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Backup {
    #[command(flatten)]
    settings: StorageSettings,
    /// Where to, or - for stdout
    file: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long)]
    overwrite: bool,
}

impl Backup {
    /// Makes a backup.
    ///
    /// # Errors
    /// When it cannot be made. No file is there then that was not before.
    pub(in crate::cli) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let output = &mut context.output;
        let is_stream = self.file == Path::new(STREAM);
        if is_stream && output.is_shown {
            return Err(Failure::local("A backup is nothing to look at: send stdout into a file."));
        }
        let target = if is_stream {
            Target::Nameless
        } else {
            Target::File { path: &self.file, overwrite: self.overwrite }
        };
        let mut progress = Progress::new(output, "pages");
        let made = interruptible(app::backup(&storage, target, |done, all| progress.tell(done, all))).await;
        progress.end();
        let BackedUp { bytes, held, file } = made?.map_err(|error| failed(&error))?;
        if let Some(mut file) = file {
            output.bytes(&mut file)?;
        } else if output.json {
            let file = self.file.display().to_string();
            output.document(&document(&held, [("file", file.into()), ("bytes", bytes.into())]))?;
        }
        let place = if is_stream { "stdout".to_owned() } else { self.file.display().to_string() };
        output.talk(format!("Backed up to {place}: {bytes} bytes, checked. {}", holds(&held)));
        output.talk("The keyring is not in it: keep a copy of that too, and apart from this.");
        Ok(Exit::Fine)
    }
}

/// What a backup holds, in words.
pub(super) fn holds(held: &Held) -> String {
    let Held { schema, tenants, agents, secrets, keys } = held;
    let keys: Vec<_> = keys
        .iter()
        .map(|(id, fingerprint, agents)| format!("{id} (fingerprint {fingerprint}, {agents} agent(s))"))
        .collect();
    let keys = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
    format!(
        "It holds {tenants} tenant(s), {agents} agent(s) and {secrets} secret(s), has the schema {schema}, and needs of \
         the keyring: {keys}."
    )
}

/// The same as a document, with what else there is to say.
pub(super) fn document(held: &Held, more: [(&str, Value); 2]) -> Value {
    let Held { schema, tenants, agents, secrets, keys } = held;
    let keys: Vec<_> = keys
        .iter()
        .map(|(id, fingerprint, agents)| json!({ "id": id, "fingerprint": fingerprint, "agents": agents }))
        .collect();
    let held = [
        ("schema", json!(schema)),
        ("tenants", json!(tenants)),
        ("agents", json!(agents)),
        ("secrets", json!(secrets)),
        ("keys", keys.into()),
    ];
    more.into_iter().chain(held).map(|(name, value)| (name.to_owned(), value)).collect()
}
