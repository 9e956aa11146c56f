//! A token of an issuer: nobody who does not have the issuer's key makes one.
#![no_main]

use std::sync::LazyLock;

use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use superserve::{domain::Timestamp, identity::Identities};

/// The public key that stands in RFC 7515, A.3, whose private key signed the token there: for an issuer called `joe`, for an
/// audience that it does not name.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"k","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("superserve-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (keys, rules) = (directory.join("keys.json"), directory.join("identities.toml"));
    std::fs::write(&keys, KEYS).expect("it can be written");
    let text = format!(
        "[[issuers]]\nissuer = \"joe\"\naudiences = [\"superserve\"]\njwks_file = \"{}\"\n\
         [[issuers.rules]]\nclaims = {{ sub = \"one\" }}\ntenant = \"ten_default\"\n\
         scopes = [\"secrets:resolve\"]\nagents = \"all\"\n",
        keys.display()
    );
    std::fs::write(&rules, text).expect("it can be written");
    let identities = Identities::load(Some(rules), false).expect("good rules");
    std::fs::remove_dir_all(&directory).expect("it is ours");
    identities
});

fuzz_target!(|text: &str| {
    if let Some(known) = IDENTITIES.identify(text, Timestamp(0)).now_or_never() {
        assert!(known.is_err(), "{text}");
    }
});
