//! As what PostgreSQL is spoken to.
//!
//! With `SUPERSERVE_TEST_ENGINE=distributed` as a database that is spread over machines: each transaction is
//! serializable, so that PostgreSQL ends those that met (SQLSTATE 40001), there is no LISTEN/NOTIFY, and calls share no
//! statements. Else as itself.

use super::environment;

/// What a server is told that speaks to a distributed database.
const DISTRIBUTED: [(&str, &str); 2] =
    [("SUPERSERVE_DATABASE_NOTIFICATIONS", "false"), ("SUPERSERVE_DATABASE_BATCHING", "false")];

/// Whether it is to be taken for a distributed database.
///
/// # Panics
/// When the setting is none that there is.
pub(crate) fn is_distributed() -> bool {
    match environment("SUPERSERVE_TEST_ENGINE").as_deref() {
        None | Some("postgresql") => false,
        Some("distributed") => true,
        Some(other) => panic!("SUPERSERVE_TEST_ENGINE is {other}, neither postgresql nor distributed"),
    }
}

/// What each database of a test is set to.
pub(crate) fn database_settings() -> &'static [&'static str] {
    if is_distributed() { &["default_transaction_isolation = 'serializable'"] } else { &[] }
}

/// What a server on PostgreSQL is told.
pub(crate) fn server_settings() -> &'static [(&'static str, &'static str)] {
    if is_distributed() { &DISTRIBUTED } else { &[] }
}
