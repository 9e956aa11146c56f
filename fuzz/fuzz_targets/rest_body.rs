//! The body of a REST set: what is taken has names that can be environment variables, and no value comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use superserve::{domain::SecretName, transport::set_without_service};

fuzz_target!(|body: &[u8]| {
    let Some(answer) = set_without_service(body) else { return };
    let names = answer.trim_start_matches("{\"keys\":[").split(']').next().unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        assert!(SecretName::parse(name.trim_matches('"')).is_some(), "{answer}");
    }
});
