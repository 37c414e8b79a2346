//! A write transaction.

use super::Reader;

/// Is a write transaction: implements [`crate::model::Rows`] and the engine's own verbs on rows, and derefs to
/// [`Reader`] for everything that can be asked.
pub struct Tx {
    reader: Reader,
}

impl std::ops::Deref for Tx {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}
