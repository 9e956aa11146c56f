//! Runs: which was given which version of which key.

use serde_json::{Value, json};
use tonic::Status;

use crate::{
    cli::{
        client::{Client, NamedAgent},
        list::{Listing, Page},
        render,
    },
    proto::v1::{AuditedSecret, ListRunsRequest, Run},
};

/// The runs of an agent, newest first.
pub(super) struct Runs {
    /// Whose.
    pub(super) agent: NamedAgent,
    /// Only those that were given this key, of which alone the table then tells.
    pub(super) key: Option<String>,
    /// Only those that hold an old version.
    pub(super) stale: bool,
    /// How many a page may have; 0 leaves it to the server.
    pub(super) page_size: i32,
}

impl Listing<5> for Runs {
    type Row = Run;

    const NAME: &'static str = "runs";
    const HEADING: [&'static str; 5] = ["TIME", "RUN", "ACTOR", "REVISION", "SECRETS"];

    async fn page(&self, client: &Client, page_token: String) -> Result<Page<Run>, Status> {
        let Self { agent, key, stale, page_size } = self;
        let request = ListRunsRequest {
            agent_id: agent.id.clone(),
            page_size: *page_size,
            page_token,
            key: key.clone().unwrap_or_default(),
            stale: *stale,
            since: None,
        };
        let page = client.audit().list_runs(request).await?.into_inner();
        Ok((page.runs, page.next_page_token))
    }

    fn agent(&self) -> Option<&NamedAgent> {
        Some(&self.agent)
    }

    fn none(&self) -> String {
        let shown = &self.agent.shown;
        match (&self.key, self.stale) {
            (Some(key), true) => format!("No run of agent '{shown}' holds an old version of {key}"),
            (Some(key), false) => format!("No run of agent '{shown}' was given {key}"),
            (None, true) => format!("No run of agent '{shown}' holds an old version of a secret"),
            (None, false) => format!("No runs of agent '{shown}'"),
        }
    }

    fn cells(&self, run: &Run) -> [String; 5] {
        let shown =
            run.secrets.iter().filter(|secret| self.key.as_ref().is_none_or(|key| secret.key == *key));
        let secrets: Vec<_> =
            shown.map(|AuditedSecret { key, version, .. }| format!("{key}@{version}")).collect();
        let run_id = if run.run_id.is_empty() { "-".to_owned() } else { run.run_id.clone() };
        [
            render::time_text(run.resolved_at.as_ref()),
            run_id,
            run.actor.clone(),
            run.revision.to_string(),
            secrets.join(", "),
        ]
    }

    fn document(&self, run: &Run) -> Value {
        let Run { run_id, resolved_at, revision, secrets, actor, remote, agent_id: _ } = run;
        json!({
            "run_id": render::optional(run_id),
            "resolved_at": render::time(resolved_at.as_ref()),
            "revision": revision,
            "secrets": super::documents(secrets),
            "actor": actor,
            "remote": remote,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        audit::tests::{agent, secret},
        list,
        testing::Captured,
    };

    fn runs(key: Option<&str>, stale: bool) -> Runs {
        Runs { agent: agent(), key: key.map(str::to_owned), stale, page_size: 1 }
    }

    fn run(run_id: &str) -> Run {
        Run {
            run_id: run_id.to_owned(),
            revision: 3,
            secrets: vec![secret("A", 3), secret("B", 1)],
            actor: "tok_1".to_owned(),
            ..Default::default()
        }
    }

    fn reported(key: Option<&str>, stale: bool, rows: &[Run]) -> String {
        let captured = Captured::default();
        list::report(&runs(key, stale), rows, false, &mut captured.output()).unwrap();
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
        for (key, stale, said) in [
            (None, false, "No runs of agent 'my-agent'\n"),
            (Some("A"), false, "No run of agent 'my-agent' was given A\n"),
            (Some("A"), true, "No run of agent 'my-agent' holds an old version of A\n"),
            (None, true, "No run of agent 'my-agent' holds an old version of a secret\n"),
        ] {
            assert_eq!(reported(key, stale, &[]), said);
        }
    }

    #[test]
    fn json_has_every_field() {
        let captured = Captured::default();
        list::report(&runs(Some("A"), true), &[run("")], false, &mut captured.json_output()).unwrap();
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(document["agent_id"], "agt_1");
        let run = &document["runs"][0];
        assert_eq!(run["run_id"], Value::Null);
        assert_eq!(run["secrets"][1], json!({"key": "B", "version": 1, "fingerprint": null}));
        assert_eq!(run.as_object().unwrap().len(), 6);
    }
}
