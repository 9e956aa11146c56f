//! Runs: which was given which version of which key.

use serde_json::{Value, json};

use crate::{
    cli::{
        audit::Listed,
        client::{Client, NamedAgent},
        failure::Failure,
        output::Output,
        render,
    },
    proto::v1::{AuditedSecret, ListRunsRequest, Run},
};

/// Which runs.
pub(super) struct Filter {
    /// Those that were given this key.
    pub(super) key: Option<String>,
    /// Those that hold an old version.
    pub(super) stale: bool,
}

/// Asks for at most `limit` runs, newest first.
///
/// # Errors
/// When the server refuses or fails.
pub(super) async fn fetch(
    client: &Client,
    agent: &NamedAgent,
    filter: &Filter,
    limit: usize,
) -> Result<Listed<Run>, Failure> {
    let page_size = i32::try_from(limit).unwrap_or(i32::MAX);
    let page = |page_token| {
        let request = ListRunsRequest {
            agent_id: agent.id.clone(),
            page_size,
            page_token,
            key: filter.key.clone().unwrap_or_default(),
            stale: filter.stale,
        };
        let mut audit = client.audit();
        async move {
            let page = audit.list_runs(request).await?.into_inner();
            Ok((page.runs, page.next_page_token))
        }
    };
    let (rows, more) = client.first(limit, page).await?;
    Ok(Listed { rows, more })
}

/// Prints them; as a table with the key that was asked for alone.
///
/// # Errors
/// When it cannot be written.
pub(super) fn report(
    output: &mut Output,
    agent: &NamedAgent,
    filter: &Filter,
    runs: &Listed<Run>,
) -> Result<(), Failure> {
    if output.json {
        return output.document(&json!({
            "agent_id": agent.id,
            "runs": runs.rows.iter().map(document).collect::<Vec<_>>(),
            "more": runs.more,
        }));
    }
    if runs.rows.is_empty() {
        return output.data(none(agent, filter));
    }
    let rows: Vec<_> = runs.rows.iter().map(|run| row(run, filter.key.as_deref())).collect();
    output.data(render::table(["TIME", "RUN", "ACTOR", "REVISION", "SECRETS"], &rows))
}

fn none(agent: &NamedAgent, filter: &Filter) -> String {
    let shown = &agent.shown;
    match (&filter.key, filter.stale) {
        (Some(key), true) => format!("No run of agent '{shown}' holds an old version of {key}"),
        (Some(key), false) => format!("No run of agent '{shown}' was given {key}"),
        (None, true) => format!("No run of agent '{shown}' holds an old version of a secret"),
        (None, false) => format!("No runs of agent '{shown}'"),
    }
}

fn row(run: &Run, only: Option<&str>) -> [String; 5] {
    let shown = run.secrets.iter().filter(|secret| only.is_none_or(|only| secret.key == only));
    let secrets: Vec<_> =
        shown.map(|AuditedSecret { key, version, fingerprint: _ }| format!("{key}@{version}")).collect();
    let run_id = if run.run_id.is_empty() { "-".to_owned() } else { run.run_id.clone() };
    [
        render::time_text(run.resolved_at.as_ref()),
        run_id,
        run.actor.clone(),
        run.revision.to_string(),
        secrets.join(", "),
    ]
}

fn document(run: &Run) -> Value {
    let Run { run_id, resolved_at, revision, secrets, actor } = run;
    let secrets: Vec<_> = secrets
        .iter()
        .map(|AuditedSecret { key, version, fingerprint }| {
            json!({ "key": key, "version": version, "fingerprint": render::optional(fingerprint) })
        })
        .collect();
    json!({
        "run_id": render::optional(run_id),
        "resolved_at": render::time(resolved_at.as_ref()),
        "revision": revision,
        "secrets": secrets,
        "actor": actor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    fn listed(rows: &[Run]) -> Listed<Run> {
        Listed { rows: rows.to_vec(), more: false }
    }

    fn agent() -> NamedAgent {
        NamedAgent { id: "agt_1".to_owned(), shown: "my-agent".to_owned() }
    }

    fn run(run_id: &str) -> Run {
        let secret =
            |key: &str, version| AuditedSecret { key: key.to_owned(), version, ..Default::default() };
        Run {
            run_id: run_id.to_owned(),
            revision: 3,
            secrets: vec![secret("A", 3), secret("B", 1)],
            actor: "tok_1".to_owned(),
            ..Default::default()
        }
    }

    fn reported(key: Option<&str>, stale: bool, runs: &[Run]) -> String {
        let captured = Captured::default();
        let filter = Filter { key: key.map(str::to_owned), stale };
        report(&mut captured.output(), &agent(), &filter, &listed(runs)).unwrap();
        captured.stdout()
    }

    #[test]
    fn runs_are_a_table() {
        assert_eq!(
            reported(None, false, &[run("run-7")]),
            "TIME  RUN    ACTOR  REVISION  SECRETS\n-     run-7  tok_1  3         A@3, B@1\n"
        );
        assert_eq!(
            reported(Some("B"), true, &[run("")]),
            "TIME  RUN  ACTOR  REVISION  SECRETS\n-     -    tok_1  3         B@1\n"
        );
    }

    #[test]
    fn none_is_said_of_what_was_asked_for() {
        assert_eq!(reported(None, false, &[]), "No runs of agent 'my-agent'\n");
        assert!(reported(Some("A"), true, &[]).contains("holds an old version of A"));
    }

    #[test]
    fn json_has_every_field() {
        let captured = Captured::default();
        let filter = Filter { key: Some("A".to_owned()), stale: true };
        report(&mut captured.json_output(), &agent(), &filter, &listed(&[run("")])).unwrap();
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        let run = &document["runs"][0];
        assert_eq!(run["run_id"], Value::Null);
        assert_eq!(run["secrets"][1], json!({"key": "B", "version": 1, "fingerprint": null}));
        assert_eq!(run.as_object().unwrap().len(), 5);
    }
}
