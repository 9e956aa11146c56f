//! Random bytes of the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::CryptoError;
use crate::domain::TokenText;

/// The source of all randomness. Copies are free and share one source.
#[derive(Clone, Debug)]
pub struct Random(SystemRandom);

impl Random {
    /// A source that draws from the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }

    /// `N` random bytes. For a key use a type that wipes itself.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn fill<const N: usize>(&self) -> Result<[u8; N], CryptoError> {
        let mut bytes = [0; N];
        self.fill_into(&mut bytes)?;
        Ok(bytes)
    }

    /// 128 random bits, as an id takes them.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn id_bits(&self) -> Result<u128, CryptoError> {
        Ok(u128::from_be_bytes(self.fill()?))
    }

    /// The text of a new token, with 256 random bits.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn token(&self) -> Result<TokenText, CryptoError> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.fill_into(&mut *bytes)?;
        Ok(TokenText::from_random(&bytes))
    }

    /// Fills what is already where it will stay, so that no copy of a key is left behind.
    pub(super) fn fill_into(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        self.0.fill(bytes).map_err(|ring::error::Unspecified| CryptoError::NoRandomness)
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_twice() {
        let random = Random::new();
        assert_ne!(random.fill::<16>(), random.fill::<16>());
        assert_ne!(random.id_bits(), random.clone().id_bits());
        let (one, other) = (random.token().unwrap(), random.token().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert!(TokenText::parse(one.expose()).is_ok());
    }
}
