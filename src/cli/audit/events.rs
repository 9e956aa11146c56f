//! Events: what was done, when, by whom.

use serde_json::{Value, json};
use tonic::Status;

use crate::{
    cli::{
        client::{Client, NamedAgent},
        list::{Listing, Page},
        render,
    },
    proto::v1::{AuditEvent, AuditedSecret, ListAuditEventsRequest},
};

/// The events of an agent, newest first.
pub(super) struct Events {
    /// Whose.
    pub(super) agent: NamedAgent,
    /// How many a page may have; 0 leaves it to the server.
    pub(super) page_size: i32,
}

impl Listing<6> for Events {
    type Row = AuditEvent;

    const NAME: &'static str = "events";
    const HEADING: [&'static str; 6] = ["TIME", "ACTION", "ACTOR", "REVISION", "SECRETS", "RUN"];

    async fn page(&self, client: &Client, page_token: String) -> Result<Page<AuditEvent>, Status> {
        let Self { agent, page_size } = self;
        let request =
            ListAuditEventsRequest { agent_id: agent.id.clone(), page_size: *page_size, page_token };
        let page = client.audit().list_audit_events(request).await?.into_inner();
        Ok((page.events, page.next_page_token))
    }

    fn agent(&self) -> Option<&NamedAgent> {
        Some(&self.agent)
    }

    fn none(&self) -> String {
        format!("No audit events for agent '{}'", self.agent.shown)
    }

    fn cells(&self, event: &AuditEvent) -> [String; 6] {
        let secret = |AuditedSecret { key, version, .. }: &AuditedSecret| match version {
            0 => key.clone(),
            version => format!("{key}@{version}"),
        };
        let revision = if event.revision == 0 { String::new() } else { event.revision.to_string() };
        [
            render::time_text(event.time.as_ref()),
            event.action.clone(),
            event.actor.clone(),
            revision,
            event.secrets.iter().map(secret).collect::<Vec<_>>().join(", "),
            event.run_id.clone(),
        ]
    }

    fn document(&self, event: &AuditEvent) -> Value {
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
        json!({
            "id": id,
            "time": render::time(time.as_ref()),
            "action": action,
            "actor": actor,
            "agent_id": render::optional(agent_id),
            "secrets": super::documents(secrets),
            "run_id": render::optional(run_id),
            "request_id": request_id,
            "remote": remote,
            "revision": revision,
            "subject": render::optional(subject),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        audit::tests::{agent, secret},
        list,
        output::Output,
        testing::Captured,
    };

    fn event() -> AuditEvent {
        AuditEvent {
            id: "evt_1".to_owned(),
            action: "secrets.set".to_owned(),
            actor: "tok_1".to_owned(),
            secrets: vec![secret("A", 3), secret("B", 0)],
            revision: 3,
            ..Default::default()
        }
    }

    fn report(output: &mut Output, events: &[AuditEvent]) {
        list::report(&Events { agent: agent(), page_size: 1 }, events, false, output).unwrap();
    }

    #[test]
    fn events_are_a_table() {
        let captured = Captured::default();
        report(&mut captured.output(), &[event()]);
        let lines =
            "TIME  ACTION       ACTOR  REVISION  SECRETS  RUN\n-     secrets.set  tok_1  3         A@3, B\n";
        assert_eq!(captured.stdout(), lines);
    }

    #[test]
    fn json_has_every_field() {
        let captured = Captured::default();
        report(&mut captured.json_output(), &[event()]);
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(document["agent_id"], "agt_1");
        assert_eq!(
            document["events"][0]["secrets"][0],
            json!({"key": "A", "version": 3, "fingerprint": null})
        );
        assert_eq!(document["events"][0].as_object().unwrap().len(), 11);
    }

    #[test]
    fn no_events_are_said_to_be_none() {
        let captured = Captured::default();
        report(&mut captured.output(), &[]);
        assert_eq!(captured.stdout(), "No audit events for agent 'my-agent'\n");
    }
}
