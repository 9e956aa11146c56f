//! What single steps of a call cost, without a socket or a database: `just bench`. Divan runs them, which is small and
//! brings no second version of a crate into the tree.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what goes wrong here ends the measurement"
)]

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use divan::{Bencher, black_box};
use futures_util::FutureExt as _;
use ring::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use superserve::{
    cli::count_assignments,
    crypto::{DataKey, Keyring, Place, Random, Sealed, WrappedKey},
    domain::{AgentId, Revision, SecretName, SecretValue, TenantId, Timestamp, TokenText},
    identity::Identities,
    transport::set_without_service,
};

fn main() {
    divan::main();
}

/// An agent with its wrapped data key and some values.
struct Agent {
    random: Random,
    keyring: Keyring,
    tenant: TenantId,
    id: AgentId,
    wrapped: WrappedKey,
    values: Vec<(SecretName, SecretValue)>,
}

impl Agent {
    fn new(values: usize) -> Self {
        let (random, tenant, id) = (Random::new(), TenantId::default_tenant(), AgentId::from_random(7));
        let keyring = Keyring::generate(&random, Timestamp(0)).expect("the system has randomness");
        let key = DataKey::generate(&random).expect("the system has randomness");
        let wrapped = keyring.wrap(&key, &tenant, &id, &random).expect("the system has randomness");
        let value = |n| {
            let name = SecretName::parse(&format!("KEY_{n}")).expect("a name");
            (name, SecretValue::from_opened(format!("{n:064}")))
        };
        Self { random, keyring, tenant, id, wrapped, values: (0..values).map(value).collect() }
    }

    fn key(&self) -> DataKey {
        self.keyring.unwrap_key(&self.wrapped, &self.tenant, &self.id).expect("its own key")
    }

    fn place<'a>(&'a self, name: &'a SecretName) -> Place<'a> {
        Place { tenant: &self.tenant, agent: &self.id, name, version: Revision(7) }
    }

    fn seal_all(&self, key: &DataKey) -> Vec<Vec<u8>> {
        let seal = |(name, value): &(SecretName, SecretValue)| {
            key.seal(&self.place(name), value, &self.random).expect("it is short").into_bytes()
        };
        self.values.iter().map(seal).collect()
    }
}

/// A set of 3 values: the agent's key is unwrapped, each value is fingerprinted and sealed.
#[divan::bench]
fn crypto_of_a_set_of_3(bencher: Bencher<'_, '_>) {
    let agent = Agent::new(3);
    bencher.bench(|| {
        let key = agent.key();
        let fingerprints: Vec<_> =
            agent.values.iter().map(|(name, value)| key.fingerprint(name, value)).collect();
        (fingerprints, agent.seal_all(&key))
    });
}

/// A resolve of 10 values: the agent's key is unwrapped, each value is opened.
#[divan::bench]
fn crypto_of_a_resolve_of_10(bencher: Bencher<'_, '_>) {
    let agent = Agent::new(10);
    let sealed = agent.seal_all(&agent.key());
    bencher.bench(|| {
        let key = agent.key();
        let open = |((name, _), sealed): (&(SecretName, _), &Vec<u8>)| {
            key.open(&agent.place(name), black_box(sealed)).expect("its own value")
        };
        agent.values.iter().zip(&sealed).map(open).collect::<Vec<_>>()
    });
}

/// One value, without the agent's key: what a further one of a set costs.
#[divan::bench(args = [64, 4096, 65_536])]
fn seal(bencher: Bencher<'_, '_>, bytes: usize) {
    let agent = Agent::new(1);
    let (key, name) = (agent.key(), &agent.values[0].0);
    let value = SecretValue::from_opened("x".repeat(bytes));
    bencher.bench(|| -> Sealed {
        key.seal(&agent.place(name), black_box(&value), &agent.random).expect("it is short enough")
    });
}

/// A file of as many assignments, a third of them quoted, with comments.
#[divan::bench(args = [10, 100])]
fn dotenv(bencher: Bencher<'_, '_>, assignments: usize) {
    let mut file = String::new();
    for n in 0..assignments {
        match n % 3 {
            0 => writeln!(file, "# what it is for\nKEY_{n}='{n:064}'"),
            1 => writeln!(file, "KEY_{n}={n:064}"),
            _ => writeln!(file, "KEY_{n}=\"{n:032}\\n{n:030}\""),
        }
        .expect("a String takes it");
    }
    assert_eq!(count_assignments(file.as_bytes()), Some(assignments));
    bencher.bench(|| count_assignments(black_box(file.as_bytes())));
}

/// The body of a REST set to names and values, and the answer's body.
#[divan::bench(args = [3, 100])]
fn json(bencher: Bencher<'_, '_>, secrets: usize) {
    let secrets: Vec<String> = (0..secrets).map(|n| format!("\"KEY_{n}\":\"{n:064}\"")).collect();
    let body = format!("{{\"secrets\":{{{}}}}}", secrets.join(","));
    assert!(set_without_service(body.as_bytes()).is_some());
    bencher.bench(|| set_without_service(black_box(body.as_bytes())));
}

/// A token's form and checksum.
#[divan::bench]
fn token(bencher: Bencher<'_, '_>) {
    let token = TokenText::from_random(&[7; 32]);
    bencher.bench(|| TokenText::parse(black_box(token.expose())));
}

/// A token of an issuer, from its text to what its bearer may, as each call with one begins: RSA with 2048 bits.
#[divan::bench]
fn identify_by_rs256(bencher: Bencher<'_, '_>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/identities/rsa-issuer.pem");
    let key = PrivatePkcs8KeyDer::from_pem_file(path).expect("a key");
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key");
    let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
    let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
    let public = format!(r#"{{"kty":"RSA","kid":"k","n":"{n}","e":"{e}"}}"#);
    identify(bencher, &public, "RS256", |message| {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("a signature");
        signature
    });
}

/// The same with P-256.
#[divan::bench]
fn identify_by_es256(bencher: Bencher<'_, '_>) {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("an EC key");
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let public = format!(r#"{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}"#);
    identify(bencher, &public, "ES256", |message| {
        key.sign(&random, message).expect("a signature").as_ref().to_vec()
    });
}

fn identify(bencher: Bencher<'_, '_>, public: &str, algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) {
    const END: i64 = 4_102_444_800;
    let directory = tempfile::tempdir().expect("a directory");
    let (keys, rules) = (directory.path().join("keys.json"), directory.path().join("identities.toml"));
    std::fs::write(&keys, format!(r#"{{"keys":[{public}]}}"#)).expect("it can be written");
    let text = format!(
        "[[issuers]]\nissuer = \"https://issuer\"\naudiences = [\"superserve\"]\njwks_file = \"{}\"\n\
         [[issuers.rules]]\nclaims = {{ sub = \"system:serviceaccount:agents:one\" }}\ntenant = \"ten_default\"\n\
         scopes = [\"secrets:resolve\"]\nagents = \"all\"\n",
        keys.display()
    );
    std::fs::write(&rules, text).expect("it can be written");
    let identities = Identities::load(Some(rules), false).expect("good rules");
    let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
    let claims = format!(
        r#"{{"iss":"https://issuer","sub":"system:serviceaccount:agents:one","aud":["superserve"],"exp":{END}}}"#
    );
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(message.as_bytes())));
    bencher.bench(|| {
        let known = identities.identify(black_box(&token), Timestamp(0)).now_or_never();
        known.expect("its keys are there").expect("it is known")
    });
}
