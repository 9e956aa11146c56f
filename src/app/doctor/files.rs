//! Directories, disks, certificates, identities, open files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};

use super::Findings;
use crate::{
    config::{Checked, Storage},
    domain::Timestamp,
    identity::Identities,
    service::Clock,
    store::DatabaseUrl,
    transport::listener::{Tls, Validity},
};

/// Less free space than this, in bytes, should be looked at, and less than the second keeps no server going.
const LITTLE_SPACE: u64 = 512 * 1024 * 1024;
const NO_SPACE: u64 = 16 * 1024 * 1024;

/// As many connections as a server takes, and some files.
const OPEN_FILES: u64 = 10_240;

/// A certificate that ends so soon should have been renewed, in microseconds: a week.
const SOON: i64 = 7 * 24 * 60 * 60 * 1_000_000;

pub(super) fn look_at(config: &Checked, findings: &mut Findings) {
    look_at_directory(&config.storage, findings);
    look_at_certificate(config, findings);
    look_at_identities(config, findings);
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit.filter(|limit| *limit < OPEN_FILES) {
        Some(limit) => findings.warn(
            "open-files",
            format!(
                "at most {limit} (ulimit -Hn): with some more connections than that none is taken; allow {OPEN_FILES}"
            ),
        ),
        None => findings.fine("open-files", limit.map_or_else(|| "no limit".to_owned(), |n| format!("at most {n}"))),
    }
}

fn look_at_directory(storage: &Storage, findings: &mut Findings) {
    const CHECK: &str = "data-directory";
    let directory = &storage.data_dir;
    let shown = directory.display();
    if matches!(storage.store.url, DatabaseUrl::Postgres(_)) && !directory.exists() {
        return findings.fine(CHECK, format!("{shown} is not there, and not needed with PostgreSQL"));
    }
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => {
            findings.problem(CHECK, format!("{shown} is no directory (--data-dir)"));
        }
        Ok(_) if access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            findings.problem(CHECK, format!("{shown} cannot be written by this user (--data-dir): chown it"));
        }
        Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => {
            findings.warn(CHECK, format!("{shown} is open to everybody of this machine: chmod 700 {shown}"));
        }
        Ok(_) => findings.fine(CHECK, format!("{shown} can be written")),
        Err(_) if existing(directory).is_some_and(|parent| access(&parent, Access::WRITE_OK).is_ok()) => {
            findings.fine(CHECK, format!("{shown} is not there yet: the first start makes it"));
        }
        Err(error) => findings.problem(CHECK, format!("{shown} (--data-dir): {error}")),
    }
    look_at_space(directory, findings);
}

fn look_at_space(directory: &Path, findings: &mut Findings) {
    const CHECK: &str = "disk-space";
    let Some(Ok(volume)) = existing(directory).map(|place| statvfs(&place)) else { return };
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let sentence = format!("{} MiB are free for {}", free / (1024 * 1024), directory.display());
    if free < NO_SPACE {
        findings.problem(CHECK, format!("only {sentence}: writes will fail; make room"));
    } else if free < LITTLE_SPACE {
        findings.warn(CHECK, format!("only {sentence}: make room"));
    } else {
        findings.fine(CHECK, sentence);
    }
}

/// The directory, or the nearest above it that is there.
fn existing(directory: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(directory).ok()?;
    absolute.ancestors().find(|place| place.exists()).map(Path::to_owned)
}

fn look_at_certificate(config: &Checked, findings: &mut Findings) {
    const CHECK: &str = "certificate";
    let Some(files) = &config.sockets.tls else {
        if config.sockets.listen.ip().to_canonical().is_loopback() {
            return findings.fine(CHECK, "none: plaintext on loopback alone");
        }
        return findings.warn(
            CHECK,
            "none (--insecure): tokens and values cross the network in plain text unless a proxy before it encrypts",
        );
    };
    match Tls::load(files.clone()) {
        Ok(tls) => tell_validity(tls.validity(), Clock::system().now(), findings),
        Err(error) => findings.problem(CHECK, error.to_string()),
    }
}

fn tell_validity(validity: Validity, now: Timestamp, findings: &mut Findings) {
    const CHECK: &str = "certificate";
    let [from, until] = validity.as_text();
    if now.0 > validity.not_after.0 {
        findings.problem(CHECK, format!("it ended at {until}, and clients refuse it: renew it (--tls-cert)"));
    } else if now.0 < validity.not_before.0 {
        findings
            .problem(CHECK, format!("it begins at {from}: clients refuse it until then; look at the clock"));
    } else if now.0.saturating_add(SOON) > validity.not_after.0 {
        findings.warn(CHECK, format!("it ends at {until}: renew it (--tls-cert)"));
    } else {
        findings.fine(CHECK, format!("its key fits, and it is good until {until}"));
    }
}

fn look_at_identities(config: &Checked, findings: &mut Findings) {
    const CHECK: &str = "identities";
    let asks = config.sockets.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    match (&config.identities, Identities::load(config.identities.clone(), asks)) {
        (None, _) => findings.fine(CHECK, "none: callers have tokens of this service"),
        (Some(_), Ok(identities)) => {
            let (issuers, rules) = identities.count();
            findings.fine(CHECK, format!("{issuers} issuer(s), {rules} rule(s) for certificates"));
        }
        (Some(_), Err(error)) => findings.problem(CHECK, format!("--identities {error}")),
    }
}
