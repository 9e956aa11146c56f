//! Programs of the machine that only some tests need.

use super::environment;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Whether a program runs, found where `path` says. If not, what needs it is left out and one line says so; with
/// `SUPERSERVE_TEST_REQUIRE_INTERPRETERS=1` that is a failure.
///
/// # Panics
/// When it is required and does not run.
pub(crate) fn is_there(program: &str, arguments: &[&str], path: impl AsRef<OsStr>) -> bool {
    let there = runs(program, arguments, path);
    let required = environment("SUPERSERVE_TEST_REQUIRE_INTERPRETERS").is_some_and(|value| value != "0");
    assert!(there || !required, "{program} {arguments:?} is required and does not run");
    if !there {
        say_once(&format!(
            "{program} {} does not run: the tests that need it are left out\n",
            arguments.join(" ")
        ));
    }
    there
}

/// Whether a program runs that no machine has to have.
pub(crate) fn runs(program: &str, arguments: &[&str], path: impl AsRef<OsStr>) -> bool {
    let mut command = Command::new("env");
    command.arg(program).args(arguments).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The time that processors have spent on a process; `None` when it is gone.
pub(crate) fn processor_time(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything: utime and stime are the 12th and 13th, in hundredths
    let (_, fields) = stat.rsplit_once(") ").expect("Linux says it");
    let hundredths = fields.split(' ').skip(11).take(2).map(|it| it.parse::<u64>().expect("a number"));
    Some(Duration::from_millis(10 * hundredths.sum::<u64>()))
}

/// Writes a line where a person sees it, the first time.
pub(crate) fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned()) {
        // Not `eprintln!`: the test harness captures that
        let _written = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Says that a drill cannot be done here; with `SUPERSERVE_TEST_REQUIRE_DRILLS=1` that is a failure.
pub(crate) fn leave_out(why: &str) {
    let required = environment("SUPERSERVE_TEST_REQUIRE_DRILLS").is_some_and(|value| value != "0");
    assert!(!required, "a drill is required, and {why}");
    say_once(&format!("{why}: the drill that needs it is left out\n"));
}
