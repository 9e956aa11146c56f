//! A token of an issuer: nobody who does not have the issuer's key makes one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use superserve::{
    domain::Timestamp,
    identity::{Identities, Refusal},
};
use tokio::runtime::{Builder, Runtime};

/// The public key that stands in RFC 7515, A.3, whose private key signed the token there: for an issuer called `joe`, for an
/// audience that it does not name.
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/issuer-keys.json");
/// A token that says it is signed by that key, and is not.
const NAMED: &str = include_str!("../seeds/signed_token/named");

/// What has the keys in the background.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| {
    let rules = std::env::temp_dir().join(format!("superserve-fuzz-{}.toml", std::process::id()));
    let text = format!(
        "[[issuers]]\nissuer = \"joe\"\naudiences = [\"superserve\"]\njwks_file = \"{KEYS}\"\n\
         [[issuers.rules]]\nclaims = {{ sub = \"one\" }}\ntenant = \"ten_default\"\n\
         scopes = [\"secrets:resolve\"]\nagents = \"all\"\n"
    );
    std::fs::write(&rules, text).expect("it can be written");
    let identities = Identities::load(Some(rules.clone()), false).expect("good rules");
    std::fs::remove_file(&rules).expect("it is ours");
    // That tokens get as far as their signature is why this target is here
    let known = RUNTIME.block_on(identities.identify(NAMED, Timestamp(0)));
    assert!(matches!(known, Err(Refusal::Invalid(_))), "{known:?}");
    identities
});

fuzz_target!(|text: &str| {
    let known = RUNTIME.block_on(IDENTITIES.identify(text, Timestamp(0)));
    assert!(known.is_err(), "{text}");
});
