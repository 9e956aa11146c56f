//! `superserve tenants delete TENANT`.

use clap::Args;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, tenants::Belongings},
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// The arguments of `tenants delete`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    settings: StorageSettings,
    /// The tenant: a name or a `ten_` id
    tenant: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Delete {
    /// Deletes the tenant. What was broken off is taken up by running it again.
    ///
    /// # Errors
    /// When it is not confirmed, when there is no such tenant, or when the database fails.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let (tenant, belongings) =
            app::tenants::look_at(&storage, &self.tenant).await.map_err(|error| failed(&error))?;
        let Belongings { agents, secrets, tokens } = belongings;
        let Context { input, output, .. } = context;
        let (name, id) = (tenant.name.as_str(), &tenant.id);
        if !self.yes {
            let question = format!(
                "Delete the tenant '{name}' ({id}) with {agents} agent(s), {secrets} secret(s) and {tokens} valid \
                 token(s), for ever?"
            );
            input.confirm(output, &question).await?;
        }
        let is_live = output.is_live;
        let deleted = app::tenants::delete(&storage, id, |gone| {
            if is_live {
                output.live(&format!("{gone}/{agents} agents"));
            }
        });
        let deleted = deleted.await.map_err(|error| failed(&error))?;
        if is_live && deleted > 0 {
            output.talk("");
        }
        if output.json {
            output.document(&json!({ "tenant_id": id.as_str(), "deleted": true, "agents": deleted }))?;
        } else {
            output.data(format!("Deleted the tenant '{name}' ({id}) with {deleted} agent(s)"))?;
        }
        Ok(Exit::Fine)
    }
}
