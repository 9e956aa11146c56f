//! What single steps of a call cost, without a socket or a database: `just bench`. Divan runs them, which is small and
//! brings no second version of a crate into the tree.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what goes wrong here ends the measurement"
)]

use std::fmt::Write as _;

use divan::{Bencher, black_box};
use superserve::{
    cli::count_assignments,
    crypto::{DataKey, Keyring, Place, Random, Sealed, WrappedKey},
    domain::{AgentId, Revision, SecretName, SecretValue, TenantId, Timestamp, TokenText},
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
