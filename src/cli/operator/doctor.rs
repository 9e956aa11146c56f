//! `superserve doctor`.

use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, Finding, Verdict},
    cli::{context::Context, failure::Exit},
    config::ServeSettings,
};

/// Looks at all that a server with these settings needs.
///
/// # Errors
/// When what was found cannot be written. A problem is no failure, but another exit.
pub(in crate::cli) async fn run(settings: ServeSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let findings = app::examine(settings.check(&context.environment)).await;
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine);
    let output = &mut context.output;
    if output.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|Finding { check, verdict, sentence }| {
                json!({ "check": check, "verdict": verdict.as_str(), "sentence": sentence })
            })
            .collect();
        output.document(&json!({ "verdict": worst.as_str(), "checks": checks }))?;
    } else {
        for Finding { check, verdict, sentence } in &findings {
            output.data(format!("{:<8} {check}: {sentence}", verdict.as_str()))?;
        }
    }
    Ok(if worst == Verdict::Problem { Exit::Local } else { Exit::Fine })
}
