//! Typed reads. Each table's module adds its own.

use crate::codec::RecordsError;
use crate::tables::Table;
use base::Stamp;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use store::{Direction, Row, Scan, Snapshot};

/// Everything that was committed up to a stamp. Cheap to clone; not to be kept while waiting.
#[derive(Clone)]
pub struct View {
    snapshot: Arc<dyn Snapshot>,
}

impl View {
    pub(crate) fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        Self { snapshot }
    }

    /// Up to where the view goes.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.snapshot.stamp()
    }

    pub(crate) fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RecordsError> {
        Ok(self.snapshot.get(table.family, key)?)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, RecordsError> {
        self.get_bytes(table, key)?.map(|bytes| table.decode(&bytes)).transpose()
    }

    pub(crate) fn get_stamped<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<(Stamp, T)>, RecordsError> {
        self.get_bytes(table, key)?.map(|bytes| table.decode_stamped(&bytes)).transpose()
    }

    pub(crate) fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, RecordsError> {
        Ok(self.snapshot.get_many(table.family, keys)?)
    }

    /// The rows from `range.0` on and before `range.1`, at most `rows_max`.
    pub(crate) fn scan(
        &self,
        table: Table,
        range: (Vec<u8>, Vec<u8>),
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<Row>, RecordsError> {
        let (from, to) = range;
        if from >= to || rows_max == 0 {
            return Ok(Vec::new());
        }
        Ok(self.snapshot.scan(&Scan { family: table.family, from, to, direction, rows_max })?)
    }

    /// All rows of a range, read page by page. Only for ranges that another limit keeps small.
    pub(crate) fn scan_all(&self, table: Table, range: (Vec<u8>, Vec<u8>)) -> Result<Vec<Row>, RecordsError> {
        let (mut from, to) = range;
        let mut rows = Vec::new();
        loop {
            let page = self.scan(table, (from.clone(), to.clone()), Direction::Forward, base::limits::SCAN_ROWS_MAX)?;
            let full = page.len() == base::limits::SCAN_ROWS_MAX;
            rows.extend(page);
            match rows.last() {
                Some((last, _)) if full => {
                    from.clone_from(last);
                    from.push(0);
                }
                _ => return Ok(rows),
            }
        }
    }
}
