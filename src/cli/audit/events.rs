//! Events: what was done, when, by whom.

use serde_json::{Value, json};

use crate::{
    cli::{
        audit::Listed,
        client::{Client, NamedAgent},
        failure::Failure,
        output::Output,
        render,
    },
    proto::v1::{AuditEvent, AuditedSecret, ListAuditEventsRequest},
};

/// Asks for at most `limit` events, newest first.
///
/// # Errors
/// When the server refuses or fails.
pub(super) async fn fetch(
    client: &Client,
    agent: &NamedAgent,
    limit: usize,
) -> Result<Listed<AuditEvent>, Failure> {
    let page_size = i32::try_from(limit).unwrap_or(i32::MAX);
    let page = |page_token| {
        let request = ListAuditEventsRequest { agent_id: agent.id.clone(), page_size, page_token };
        let mut audit = client.audit();
        async move {
            let page = audit.list_audit_events(request).await?.into_inner();
            Ok((page.events, page.next_page_token))
        }
    };
    let (rows, more) = client.first(limit, page).await?;
    Ok(Listed { rows, more })
}

/// Prints them.
///
/// # Errors
/// When it cannot be written.
pub(super) fn report(
    output: &mut Output,
    agent: &NamedAgent,
    events: &Listed<AuditEvent>,
) -> Result<(), Failure> {
    if output.json {
        return output.document(&json!({
            "agent_id": agent.id,
            "events": events.rows.iter().map(document).collect::<Vec<_>>(),
            "more": events.more,
        }));
    }
    if events.rows.is_empty() {
        return output.data(format!("No audit events for agent '{}'", agent.shown));
    }
    let rows: Vec<_> = events.rows.iter().map(row).collect();
    output.data(render::table(["TIME", "ACTION", "ACTOR", "REVISION", "SECRETS", "RUN"], &rows))
}

fn row(event: &AuditEvent) -> [String; 6] {
    let secrets: Vec<_> = event
        .secrets
        .iter()
        .map(|AuditedSecret { key, version, fingerprint: _ }| match version {
            0 => key.clone(),
            version => format!("{key}@{version}"),
        })
        .collect();
    let revision = if event.revision == 0 { String::new() } else { event.revision.to_string() };
    [
        render::time_text(event.time.as_ref()),
        event.action.clone(),
        event.actor.clone(),
        revision,
        secrets.join(", "),
        event.run_id.clone(),
    ]
}

fn document(event: &AuditEvent) -> Value {
    let AuditEvent {
        id,
        time,
        action,
        actor,
        agent_id,
        secrets,
        run_id,
        request_id,
        remote,
        revision,
        subject,
    } = event;
    let secrets: Vec<_> = secrets
        .iter()
        .map(|AuditedSecret { key, version, fingerprint }| {
            json!({ "key": key, "version": version, "fingerprint": render::optional(fingerprint) })
        })
        .collect();
    json!({
        "id": id,
        "time": render::time(time.as_ref()),
        "action": action,
        "actor": actor,
        "agent_id": render::optional(agent_id),
        "secrets": secrets,
        "run_id": render::optional(run_id),
        "request_id": request_id,
        "remote": remote,
        "revision": revision,
        "subject": render::optional(subject),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    fn listed(rows: &[AuditEvent]) -> Listed<AuditEvent> {
        Listed { rows: rows.to_vec(), more: false }
    }

    fn agent() -> NamedAgent {
        NamedAgent { id: "agt_1".to_owned(), shown: "my-agent".to_owned() }
    }

    fn event() -> AuditEvent {
        let secret =
            |key: &str, version| AuditedSecret { key: key.to_owned(), version, ..Default::default() };
        AuditEvent {
            id: "evt_1".to_owned(),
            action: "secrets.set".to_owned(),
            actor: "tok_1".to_owned(),
            secrets: vec![secret("A", 3), secret("B", 0)],
            revision: 3,
            ..Default::default()
        }
    }

    #[test]
    fn events_are_a_table() {
        let captured = Captured::default();
        report(&mut captured.output(), &agent(), &listed(&[event()])).unwrap();
        let lines =
            "TIME  ACTION       ACTOR  REVISION  SECRETS  RUN\n-     secrets.set  tok_1  3         A@3, B\n";
        assert_eq!(captured.stdout(), lines);
    }

    #[test]
    fn json_has_every_field() {
        let captured = Captured::default();
        report(&mut captured.json_output(), &agent(), &listed(&[event()])).unwrap();
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(
            document["events"][0]["secrets"][0],
            json!({"key": "A", "version": 3, "fingerprint": null})
        );
        assert_eq!(document["events"][0].as_object().unwrap().len(), 11);
    }

    #[test]
    fn no_events_are_said_to_be_none() {
        let captured = Captured::default();
        report(&mut captured.output(), &agent(), &listed(&[])).unwrap();
        assert_eq!(captured.stdout(), "No audit events for agent 'my-agent'\n");
    }
}
