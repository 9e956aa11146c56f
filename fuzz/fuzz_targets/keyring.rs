//! A keyring file: what is taken is written as it was meant, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use superserve::crypto::Keyring;

fuzz_target!(|file: &[u8]| {
    let Ok(keyring) = Keyring::parse(file) else { return };
    let again = Keyring::parse(&keyring.to_json()).expect("its own text");
    assert!(keyring.is_same(&again));
    assert!(!format!("{keyring:?}").contains("key\":"), "no key is logged");
});
