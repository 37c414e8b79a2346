//! What can be told of a catalog that no daemon has open.

use std::path::Path;

use super::Result;
use super::reader_sync::to_send;
use super::schema::{check_header, open_reader};

/// How many items a catalog holds that are not sent yet. Changes nothing.
pub fn left_to_send(path: &Path) -> Result<u64> {
    check_header(path)?;
    let sql = concat!("SELECT COUNT(*) FROM outbox o WHERE endpoint = 0 AND ", to_send!());
    let count: i64 = open_reader(path)?.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
