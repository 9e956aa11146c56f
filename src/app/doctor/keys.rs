//! The keyring, the key provider, and whether they are those that the database was written with.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::time::timeout;

use super::{Findings, database::Known};
use crate::{
    app::{
        keyring_file::{self, KeyringFileError},
        reload::{key_set, remote_key},
    },
    config::Storage,
    crypto::{DataKey, Keyring, Owner, ProviderError, Random},
    domain::{AgentId, TenantId},
    service::{KeySet, KeyUse, RemoteKey, fit_keys},
    store::DatabaseUrl,
};

/// How long a key provider is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn look_at(storage: &Storage, known: Option<&Known>, findings: &mut Findings) {
    let remote = match remote_key(storage) {
        Ok(remote) => remote,
        Err(error) => return findings.problem("key-provider", error.to_string()),
    };
    let Ok(keyring) = look_at_keyring(storage, remote.is_some(), known, findings) else { return };
    let mut answers = true;
    if let Some(remote) = &remote {
        answers = try_out(remote, findings).await;
    }
    let Some(keys) = key_set(remote, keyring, &Random::new()) else {
        if let Some(known) = known.filter(|known| !known.keys.is_empty()) {
            tell_fit(known, None, findings).await;
        }
        return;
    };
    if let Some(known) = known.filter(|_known| answers) {
        tell_fit(known, Some(&keys), findings).await;
    }
}

fn look_at_keyring(
    storage: &Storage,
    has_remote: bool,
    known: Option<&Known>,
    findings: &mut Findings,
) -> Result<Option<Keyring>, ()> {
    const CHECK: &str = "keyring";
    let path = &storage.keyring;
    let shown = path.display();
    match keyring_file::load(path) {
        Ok(Some(keyring)) => {
            let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
            let count = keyring.entries().count();
            if mode & 0o007 != 0 {
                let what = "can be read by everybody of this machine";
                findings.warn(CHECK, format!("{shown} {what}: chmod 600 {shown}"));
            } else {
                let primary = keyring.primary().id();
                findings.fine(CHECK, format!("{shown} has {count} key(s), {primary} is primary"));
            }
            Ok(Some(keyring))
        }
        Ok(None) if has_remote => {
            findings.fine(CHECK, format!("none at {shown}, and none needed beside the key provider"));
            Ok(None)
        }
        Ok(None) => {
            match (&storage.store.url, known) {
                (DatabaseUrl::Sqlite(_), Some(known)) if known.keys.is_empty() => {
                    findings.fine(CHECK, format!("{shown} is not there yet: the first start makes it"));
                }
                (_, Some(known)) if !known.keys.is_empty() => findings.problem(
                    CHECK,
                    format!("there is no keyring at {shown}, and the database was written with one: put the file back (--keyring)"),
                ),
                _ => findings.problem(CHECK, KeyringFileError::Missing(path.clone()).to_string()),
            }
            Ok(None)
        }
        Err(error) => {
            findings.problem(CHECK, error.to_string());
            Err(())
        }
    }
}

/// Has the provider wrap and unwrap a key that all know.
async fn try_out(remote: &RemoteKey, findings: &mut Findings) -> bool {
    const CHECK: &str = "key-provider";
    let (tenant, agent) = (TenantId::from_stored(String::new()), AgentId::from_stored(String::new()));
    let owner = Owner { tenant: &tenant, agent: &agent };
    let tried = async {
        let key = DataKey::for_check()?;
        let wrapped = remote.provider.wrap(&key, owner).await?;
        let back = remote.provider.unwrap(&wrapped, owner).await?;
        if back.expose() == key.expose() { Ok(()) } else { Err(ProviderError::DoesNotOpen) }
    };
    match timeout(PATIENCE, tried).await {
        Ok(Ok(())) => findings.fine(CHECK, format!("{} wraps and unwraps", remote.id)),
        Ok(Err(error)) => findings.problem(CHECK, format!("{}: {error} (--key-provider)", remote.id)),
        Err(_elapsed) => {
            let seconds = PATIENCE.as_secs();
            findings
                .problem(CHECK, format!("{} has not answered for {seconds} s (--key-provider)", remote.id));
        }
    }
    findings.0.last().is_some_and(|last| last.verdict == super::Verdict::Fine)
}

async fn tell_fit(known: &Known, keys: Option<&KeySet>, findings: &mut Findings) {
    const CHECK: &str = "keys";
    let uses = match fit_keys(known.keys.clone(), &known.usage, keys).await {
        Ok(uses) => uses,
        Err(problem) => return findings.problem(CHECK, problem.to_string()),
    };
    let is_old = |key: &&KeyUse| keys.is_some_and(|keys| *keys.primary() != key.id);
    let left: u64 = uses.iter().filter(is_old).map(|key| key.agents).sum();
    let all: u64 = uses.iter().map(|key| key.agents).sum();
    if left > 0 {
        findings.warn(
            CHECK,
            format!(
                "they fit the database, and {left} of {all} agent(s) are not under the primary key: servers bring them \
                 there, or `superserve keys rotate` does; until then the others must stay"
            ),
        );
    } else {
        findings.fine(CHECK, format!("they fit the database: {all} agent(s), all under the primary key"));
    }
}
