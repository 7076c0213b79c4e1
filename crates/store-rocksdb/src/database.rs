//! The RocksDB database of an engine, and the few records that the engine keeps for itself.

use crate::families;
use base::Stamp;
use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use store::{Family, StoreError};

/// The layout of the database as far as this crate decides it. Keys and values above it have their own.
pub(crate) const FORMAT: u32 = 1;

/// Where the layout's number is, in the default column family.
const FORMAT_KEY: &[u8] = b"format";
/// Where the newest stamp is, in the default column family. Each group writes it with its batches.
const NEWEST_KEY: &[u8] = b"newest";

/// An open database.
pub(crate) struct Database {
    pub(crate) db: DB,
    #[cfg(test)]
    pub(crate) fail_writes: std::sync::atomic::AtomicBool,
}

/// What an engine finds of its own records.
pub(crate) enum Own {
    /// Nothing: the database is new.
    Nothing,
    /// The number of the layout, and the newest stamp unless it is unreadable.
    Found { format: u32, newest: Option<Stamp> },
}

/// A family that every database has was not there.
#[derive(Debug, thiserror::Error)]
#[error("the column family {0} is missing")]
struct MissingFamily(&'static str);

impl Database {
    pub(crate) fn new(db: DB) -> Self {
        Self {
            db,
            #[cfg(test)]
            fail_writes: false.into(),
        }
    }

    pub(crate) fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let name = families::name(family);
        self.db.cf_handle(name).ok_or_else(|| StoreError::Engine(Box::new(MissingFamily(name))))
    }

    pub(crate) fn own(&self) -> Result<Own, rocksdb::Error> {
        let format = self.db.get(FORMAT_KEY)?;
        let newest = self.db.get(NEWEST_KEY)?;
        let Some(format) = format else { return Ok(Own::Nothing) };
        // An unreadable number is as foreign as one of the future.
        let format = format.try_into().map_or(u32::MAX, u32::from_be_bytes);
        let newest = newest.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Stamp(u64::from_be_bytes(bytes)));
        Ok(Own::Found { format, newest })
    }

    /// Makes a new database one of this layout.
    pub(crate) fn found(&self) -> Result<(), rocksdb::Error> {
        let mut writes = WriteBatch::default();
        writes.put(FORMAT_KEY, FORMAT.to_be_bytes());
        self.write(writes, Stamp(0), Sync::Fsync)
    }

    /// Writes all of a group at once, and the stamp that it ends with.
    pub(crate) fn write(&self, mut writes: WriteBatch, newest: Stamp, sync: Sync) -> Result<(), rocksdb::Error> {
        #[cfg(test)]
        if self.fail_writes.load(std::sync::atomic::Ordering::Relaxed) {
            // The name of a property can't contain a zero: an error without a broken disk.
            return self.db.property_value("\0").map(|_| ());
        }
        writes.put(NEWEST_KEY, newest.0.to_be_bytes());
        let mut options = WriteOptions::default();
        options.set_sync(sync == Sync::Fsync);
        self.db.write_opt(writes, &options)
    }
}

/// Whether a write is on the disk when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It is.
    Fsync,
    /// It is with the next write that is.
    Later,
}
