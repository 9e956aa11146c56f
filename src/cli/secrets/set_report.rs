//! What a set says when it is done.

use serde_json::{Value, json};

use crate::{
    cli::{client::NamedAgent, failure::Failure, output::Output},
    proto::v1::{SecretChange, SecretChangeKind, SecretWarning, SetSecretsResponse},
};

/// Says what was set.
///
/// # Errors
/// When it cannot be written.
pub(super) fn has_set(
    output: &mut Output,
    agent: &NamedAgent,
    count: usize,
    answer: &SetSecretsResponse,
) -> Result<(), Failure> {
    warn(output, &answer.warnings);
    if output.json {
        return output.document(&document(agent, answer, false));
    }
    output.data(format!("Set {count} secret(s) for agent '{}'", agent.shown))?;
    let pruned: Vec<_> = answer
        .changes
        .iter()
        .filter(|change| change.kind() == SecretChangeKind::Pruned)
        .map(|change| change.key.as_str())
        .collect();
    if !pruned.is_empty() {
        output.data(format!("Deleted secrets: {}", pruned.join(", ")))?;
    }
    output.data(format!("Current secrets: {}", answer.keys.join(", ")))
}

/// Says what a set would do.
///
/// # Errors
/// When it cannot be written.
pub(super) fn would_set(
    output: &mut Output,
    agent: &NamedAgent,
    answer: &SetSecretsResponse,
) -> Result<(), Failure> {
    warn(output, &answer.warnings);
    if output.json {
        return output.document(&document(agent, answer, true));
    }
    output.data(format!("Dry run for agent '{}', nothing was changed:", agent.shown))?;
    for change in &answer.changes {
        output.data(format!("  - {} ({})", change.key, word(change.kind())))?;
    }
    Ok(())
}

fn warn(output: &mut Output, warnings: &[SecretWarning]) {
    for SecretWarning { key, code } in warnings {
        let meaning = match code.as_str() {
            "surrounding_whitespace" => ": has white space before or after it",
            "smart_quotes" => ": has typographic quotes",
            "zero_width" => ": has characters that cannot be seen",
            "placeholder" => ": looks like a placeholder",
            "quoted" => ": has quotes around the whole of it, which belong to the value",
            "no_previous" => ": had no value before, which could be given out",
            "previous_dropped" => ": the value before it is given out no more",
            _ => "",
        };
        output.warn(format!("{key}{meaning} [{code}]"));
    }
}

fn word(kind: SecretChangeKind) -> &'static str {
    match kind {
        SecretChangeKind::Unspecified => "unknown",
        SecretChangeKind::Added => "added",
        SecretChangeKind::Replaced => "replaced",
        SecretChangeKind::Unchanged => "unchanged",
        SecretChangeKind::Pruned => "pruned",
    }
}

fn document(agent: &NamedAgent, answer: &SetSecretsResponse, dry_run: bool) -> Value {
    let SetSecretsResponse { keys, revision, warnings, changes } = answer;
    let change = |change: &SecretChange| json!({ "key": change.key, "kind": word(change.kind()) });
    let warning = |SecretWarning { key, code }: &SecretWarning| json!({ "key": key, "code": code });
    json!({
        "agent_id": agent.id,
        "keys": keys,
        "revision": revision,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
        "dry_run": dry_run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{secrets::sample, testing::Captured};

    fn answer() -> SetSecretsResponse {
        let changes = [
            ("A", SecretChangeKind::Added),
            ("B", SecretChangeKind::Replaced),
            ("C", SecretChangeKind::Unchanged),
            ("D", SecretChangeKind::Pruned),
        ];
        let change =
            |(key, kind): (&str, SecretChangeKind)| SecretChange { key: key.to_owned(), kind: kind.into() };
        SetSecretsResponse {
            keys: ["A", "B", "C"].map(str::to_owned).to_vec(),
            revision: 4,
            warnings: vec![SecretWarning { key: "B".to_owned(), code: "placeholder".to_owned() }],
            changes: changes.map(change).to_vec(),
        }
    }

    #[test]
    fn people_read_what_was_set_and_what_is_there_now() {
        let captured = Captured::default();
        has_set(&mut captured.output(), &sample(), 3, &answer()).unwrap();
        let lines = "Set 3 secret(s) for agent 'my-agent'\nDeleted secrets: D\nCurrent secrets: A, B, C\n";
        assert_eq!(captured.stdout(), lines);
        assert_eq!(captured.stderr(), "warning: B: looks like a placeholder [placeholder]\n");
    }

    #[test]
    fn a_dry_run_tells_what_would_happen_to_each() {
        let captured = Captured::default();
        would_set(&mut captured.output(), &sample(), &answer()).unwrap();
        let lines = "Dry run for agent 'my-agent', nothing was changed:\n  - A (added)\n  - B (replaced)\n  \
                     - C (unchanged)\n  - D (pruned)\n";
        assert_eq!(captured.stdout(), lines);
    }

    #[test]
    fn programs_read_the_same() {
        let captured = Captured::default();
        would_set(&mut captured.json_output(), &sample(), &answer()).unwrap();
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(document["changes"][3], json!({ "key": "D", "kind": "pruned" }));
        assert_eq!((&document["dry_run"], &document["revision"]), (&json!(true), &json!(4)));
    }
}
