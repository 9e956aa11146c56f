//! A keyring that is changed by another user than the server's: it stays the server's.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
};

use crate::harness::{
    Database, programs,
    server::{BINARY, Server},
};

/// A user and a group without a name.
const SOMEBODY: u32 = 54_321;
const SOMEBODY_ELSE: u32 = 54_322;

/// Only root can give files away.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        programs::say_once("not root: files of other users are left out\n");
    }
    is_root
}

#[tokio::test]
async fn a_keyring_that_root_changes_stays_its_owners() {
    if !is_root() {
        return;
    }
    let server = Server::start(Database::Sqlite);
    let file = server.setup().keyring();
    // By a link, and with a mode for a group
    let there = server.data_dir().join("there.json");
    fs::rename(&file, &there).unwrap();
    symlink("there.json", &file).unwrap();
    chown(&there, Some(SOMEBODY), Some(SOMEBODY_ELSE)).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o640)).unwrap();
    for step in [&["keys", "generate"][..], &["keys", "rotate"]] {
        let before = fs::read(&there).unwrap();
        assert_eq!(server.setup().run(step).code, 0, "{step:?}");
        assert_ne!(fs::read(&there).unwrap(), before, "{step:?}");
        let now = fs::metadata(&there).unwrap();
        assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (SOMEBODY, SOMEBODY_ELSE, 0o640));
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    }
}

#[tokio::test]
async fn a_keyring_of_somebody_else_is_not_taken_from_him() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (program, file) = (directory.path().join("superserve"), directory.path().join("keyring.json"));
    fs::copy(BINARY, &program).unwrap();
    let generate = || {
        let mut command = std::process::Command::new(&program);
        command.env_clear().args(["keys", "generate", "--keyring"]).arg(&file);
        command
    };
    assert!(generate().status().unwrap().success());
    // Whoever may write to the directory could replace the file
    chown(&file, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let before = fs::read(&file).unwrap();
    let refused = generate().uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("belongs to the user {SOMEBODY}")) && said.contains("as root"), "{said}");
    assert_eq!((fs::read(&file).unwrap(), fs::metadata(&file).unwrap().uid()), (before, SOMEBODY));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left over");
}
