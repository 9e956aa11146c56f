//! `superserve tenants list`.

use serde_json::json;

use super::{Failure, document, failed, made_at};
use crate::{
    app::{self, StartError},
    cli::{context::Context, failure::Exit, render},
    config::StorageSettings,
    domain::Tenant,
};

/// What ends the list.
enum Ended {
    Failed(Box<StartError>),
    Unwritable(Failure),
}

impl From<StartError> for Ended {
    fn from(error: StartError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Lists the tenants, by id.
pub(super) async fn run(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let storage = settings.check()?;
    let output = &mut context.output;
    let mut documents = Vec::new();
    if !output.json {
        output.data(format!("{:<28} {:<24} {:<28} {}", "TENANT", "NAME", "MADE", "STATE"))?;
    }
    let tell = |tenant: Tenant| {
        if output.json {
            documents.push(document(&tenant));
            return Ok(());
        }
        let state = if tenant.is_going { "deleting" } else { "" };
        let (name, made) = (tenant.name.as_str(), render::time_text(Some(&made_at(&tenant))));
        let line = format!("{:<28} {name:<24} {made:<28} {state}", tenant.id.as_str());
        output.data(line.trim_end()).map_err(Ended::Unwritable)
    };
    app::tenants::list(&storage, tell).await.map_err(|ended| match ended {
        Ended::Failed(error) => failed(&*error),
        Ended::Unwritable(failure) => failure,
    })?;
    if context.output.json {
        context.output.document(&json!({ "tenants": documents }))?;
    }
    Ok(Exit::Fine)
}
