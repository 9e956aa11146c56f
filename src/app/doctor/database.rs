//! The database: whether it is there, whole, of the right schema, and open to who asks; and its clock.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tokio_util::task::TaskTracker;

use super::Findings;
use crate::{
    config::Checked,
    domain::{KekId, Timestamp},
    service::Clock,
    store::{self, Care, Contents, DatabaseUrl, Examined, Hosts, KeyRow, Schema, Store, examine},
};

/// What a database knows of keys.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The keys.
    pub(super) keys: Vec<KeyRow>,
    /// How many agents each wraps the data keys of.
    pub(super) usage: Vec<(KekId, u64)>,
}

/// Clocks that differ by more than this, in seconds, should be looked at.
const SKEW: i64 = 5;

/// Looks at the database, and says what it knows of keys, if it can be asked.
pub(super) async fn look_at(config: &Checked, findings: &mut Findings) -> Option<Known> {
    match &config.storage.store.url {
        DatabaseUrl::Sqlite(path) => look_at_file(path, config.auto_migrate, findings).await,
        DatabaseUrl::Postgres(hosts) => look_at_postgres(hosts, config, findings).await,
    }
}

async fn look_at_file(path: &Path, auto_migrate: bool, findings: &mut Findings) -> Option<Known> {
    const CHECK: &str = "database";
    let shown = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        findings.fine(CHECK, format!("{shown} is not there yet: the first start makes it"));
        return Some(Known::default());
    };
    let of = path.to_owned();
    // It is read as a whole
    let looked = tokio::task::spawn_blocking(move || Contents::of(&of, Care::Quick)).await;
    let contents = match looked {
        Ok(Ok(contents)) => contents,
        Ok(Err(error)) => {
            findings.problem(
                CHECK,
                format!("{error}: restore a backup (`superserve restore`), or look at the disk"),
            );
            return None;
        }
        Err(panic) => {
            findings.problem(CHECK, panic.to_string());
            return None;
        }
    };
    let Contents { schema, agents, secrets, keys, usage, journal_mode, last_seen, .. } = contents;
    if metadata.permissions().mode() & 0o077 != 0 {
        findings.warn(CHECK, format!("{shown} can be read by others: chmod 600 {shown}"));
    } else {
        findings.fine(
            CHECK,
            format!("{shown} is whole: {agents} agent(s), {secrets} secret(s), journal mode {journal_mode}"),
        );
    }
    let is_usable = tell_schema(&schema, auto_migrate, None, findings);
    let now = Clock::system().now();
    match last_seen.filter(|seen| now.0 / 1_000_000 + SKEW < seen.0 / 1_000_000) {
        Some(seen) => {
            let ahead = seen.0.saturating_sub(now.0) / 1_000_000;
            findings.warn(
                "clock",
                format!("it was {ahead} s later when a server last wrote: set the clock of this machine"),
            );
        }
        None => findings.fine("clock", "not before the last write of a server"),
    }
    is_usable.then_some(Known { keys, usage })
}

/// Says whether a program of this version can ask it for its keys.
fn tell_schema(
    schema: &Schema,
    auto_migrate: bool,
    refusal: Option<String>,
    findings: &mut Findings,
) -> bool {
    const CHECK: &str = "schema";
    let pending = schema.pending().len();
    if let Some(why) = schema.too_new() {
        findings.problem(CHECK, why);
        return false;
    }
    if let Some(later) = schema.later() {
        findings.warn(
            CHECK,
            format!("it has {later} of a later version, which this one understands: finish the upgrade"),
        );
    } else if pending == 0 {
        findings.fine(CHECK, format!("up to date ({})", schema.newest()));
    } else if let Some(refusal) = refusal {
        findings.problem(CHECK, format!("{pending} migration(s) are missing, and {refusal}"));
    } else if auto_migrate {
        findings.fine(
            CHECK,
            format!("{pending} migration(s) are missing: the next start applies them; back up before"),
        );
    } else {
        findings.problem(
            CHECK,
            format!("{pending} migration(s) are missing: run `superserve migrate` (--auto-migrate)"),
        );
    }
    true
}

async fn look_at_postgres(hosts: &Hosts, config: &Checked, findings: &mut Findings) -> Option<Known> {
    const CHECK: &str = "database";
    let (begun, examined) = (Clock::system().now(), examine(hosts).await);
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => {
            findings.problem(CHECK, error.to_string());
            return None;
        }
    };
    tell_clock(begun, &examined, findings);
    let Examined { version, role, may_create, lacked, clock: _, is_heard } = examined;
    if lacked.is_empty() {
        findings.fine(CHECK, format!("{hosts:?} takes writes: PostgreSQL {version}, as {role}"));
    } else {
        let tables = lacked.join(", ");
        findings.problem(
            CHECK,
            format!(
                "{role} lacks rights on {tables}: GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}"
            ),
        );
    }
    match (config.storage.store.notifications, is_heard) {
        (true, true) => findings.fine("notifications", "LISTEN hears what NOTIFY tells"),
        (true, false) => findings.warn(
            "notifications",
            "LISTEN hears nothing, as behind a pooler in transaction mode: watchers learn of other replicas' changes after \
             up to 5 s; connect past the pooler, or give --database-notifications false",
        ),
        (false, _) => findings.fine("notifications", "off: replicas look every 5 s"),
    }
    let refusal = (!may_create).then(|| {
        format!("{role} may not make tables: GRANT CREATE ON SCHEMA, or run `superserve migrate` as who may")
    });
    known_to(&config.storage.store, config.auto_migrate, refusal, findings).await
}

async fn known_to(
    config: &store::Config,
    auto_migrate: bool,
    refusal: Option<String>,
    findings: &mut Findings,
) -> Option<Known> {
    let quiet = store::Config { notifications: false, max_connections: 4, ..config.clone() };
    let asked = async {
        let store = Store::open(&quiet, &TaskTracker::new()).await?;
        let schema = store.schema().await?;
        let is_usable = tell_schema(&schema, auto_migrate, refusal, findings);
        if schema.applied.is_empty() {
            return Ok(Some(Known::default()));
        }
        // Of an older one not all columns are there
        if !is_usable || !schema.pending().is_empty() {
            return Ok(None);
        }
        Ok::<_, store::Error>(Some(Known {
            keys: store.known_keys().await?,
            usage: store.key_usage().await?,
        }))
    };
    match asked.await {
        Ok(known) => known,
        Err(error) => {
            findings.problem("schema", error.to_string());
            None
        }
    }
}

/// The database's clock is asked between two looks at ours, so that the way there counts for neither.
fn tell_clock(begun: Timestamp, examined: &Examined, findings: &mut Findings) {
    const CHECK: &str = "clock";
    let ended = Clock::system().now();
    let ahead = if examined.clock.0 > ended.0 {
        examined.clock.0 - ended.0
    } else {
        (examined.clock.0 - begun.0).min(0)
    };
    let seconds = ahead / 1_000_000;
    if seconds.abs() > SKEW {
        let (whose, by) = if seconds > 0 { ("behind", seconds) } else { ("ahead of", -seconds) };
        findings.warn(
            CHECK,
            format!("this machine's is {by} s {whose} the database's: tokens end too late or too soon; set it (NTP)"),
        );
    } else {
        findings.fine(CHECK, format!("within {SKEW} s of the database's"));
    }
}
