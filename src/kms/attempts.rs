//! How long a call of a provider may take in all.

use std::time::Duration;

use tokio::time::timeout;

use crate::crypto::ProviderError;

/// The longest that a call takes, with all that it needs: to be let in, to be let in once more, to be answered.
const IN_ALL: Duration = Duration::from_secs(10);

/// Ends a call in time.
///
/// # Errors
/// [`ProviderError::Unavailable`] when it takes too long.
pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    let too_long = || format!("the key provider took longer than {} seconds", IN_ALL.as_secs());
    timeout(IN_ALL, call).await.unwrap_or_else(|_elapsed| Err(ProviderError::Unavailable(too_long())))
}
