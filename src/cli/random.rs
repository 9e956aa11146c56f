//! Randomness of the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};

use super::failure::Failure;

/// `N` random bytes.
///
/// # Errors
/// When the operating system has none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|ring::error::Unspecified| Failure::local("The system gives no random numbers."))?;
    Ok(bytes)
}

/// A name for one attempt at a write, so that a repeat of it has no second effect.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn idempotency_key() -> Result<String, Failure> {
    Ok(format!("cli-{:032x}", u128::from_le_bytes(bytes()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::IdempotencyKey;

    #[test]
    fn every_attempt_has_its_own_name() {
        let key = idempotency_key().unwrap();
        assert!(IdempotencyKey::parse(&key).is_some());
        assert_ne!(key, idempotency_key().unwrap());
    }
}
