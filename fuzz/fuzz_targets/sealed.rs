//! What stands in the database: nothing opens but what was sealed here.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use superserve::{
    crypto::{DataKey, Fingerprint, Keyring, Place, Random, WrappedKey},
    domain::{AgentId, Revision, SecretName, TenantId, Timestamp},
};

struct House {
    key: DataKey,
    keyring: Keyring,
    tenant: TenantId,
    agent: AgentId,
    name: SecretName,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let random = Random::new();
    House {
        key: DataKey::generate(&random).expect("randomness"),
        keyring: Keyring::generate(&random, Timestamp(0)).expect("randomness"),
        tenant: TenantId::default_tenant(),
        agent: AgentId::from_random(7),
        name: SecretName::parse("KEY").expect("a name"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    let House { key, keyring, tenant, agent, name } = &*HOUSE;
    let place = Place { tenant, agent, name, version: Revision(7) };
    assert!(key.open(&place, bytes).is_err());
    let _at_most = DataKey::value_bytes_at_most(bytes.len());
    let wrapped = WrappedKey { kek: keyring.primary().id().clone(), bytes: bytes.to_vec() };
    assert!(keyring.unwrap_key(&wrapped, tenant, agent).is_err());
    let _check = keyring.verify(keyring.primary().id(), bytes);
    let _fingerprint = Fingerprint::from_stored(bytes);
});
