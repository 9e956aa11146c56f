//! What the operations work with, from the settings and what is there.

use super::{StartError, keyring_file, reload};
use crate::{
    config::Storage,
    crypto::Random,
    domain::Limits,
    identity::Identities,
    service::{Clock, Parts},
    store::Store,
};

/// The parts of a server of this name.
pub(super) async fn assembled(
    name: String,
    storage: &Storage,
    store: Store,
    identities: Identities,
    limits: Limits,
    random: Random,
) -> Result<Parts, StartError> {
    let (clock, remote) = (Clock::system(), reload::remote_key(storage)?);
    let keyring = keyring_file::load_or_create(storage, remote.clone(), &store, &random, &clock).await?;
    let source = reload::source(storage, remote, &random);
    let data_keys_good_for = storage.keys.data_keys_good_for;
    Ok(Parts { store, name, identities, keyring, source, data_keys_good_for, random, clock, limits })
}
