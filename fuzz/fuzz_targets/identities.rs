//! The file of identities: it is taken, or refused with a line that it has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use superserve::identity::Identities;

fuzz_target!(|file: &[u8]| {
    let path = std::env::temp_dir().join(format!("superserve-fuzz-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("it can be written");
    if let Err(error) = Identities::load(Some(path), true) {
        let told = error.to_string();
        let line =
            told.split(", line ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        let lines = file.split(|byte| *byte == b'\n').count();
        assert!(line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{told}");
    }
});
