//! Reads, as of one stamp.

use crate::counters::Counters;
use crate::database::Database;
use crate::families::RANGE_PREFIX_BYTES;
use base::{Stamp, limits};
use rocksdb::{ColumnFamily, DB, ErrorKind, ReadOptions, ReadTier};
use self_cell::self_cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use store::{Direction, Family, Row, Scan, Snapshot, StoreError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The keys of [`Snapshot::get_many`] that are read at once. It bounds the blocks that they pin.
const GET_MANY_KEYS: usize = 256;
/// What is read ahead of a scan of the log, which always goes on.
const LOG_READAHEAD_BYTES: usize = 256 * 1024;
/// The rows that a scan makes room for before it has seen any.
const ROWS_EXPECTED: usize = 32;

/// A view of the database as of a stamp. The database stays open as long as any of its snapshots.
pub(crate) struct RocksSnapshot {
    stamp: Stamp,
    pinned: Pinned,
    counters: Arc<Counters>,
}

self_cell!(
    struct Pinned {
        owner: Arc<Database>,
        #[covariant]
        dependent: View,
    }
);

/// RocksDB's snapshot, and the options of reads from it.
struct View<'db> {
    snapshot: rocksdb::Snapshot<'db>,
    in_memory: ReadOptions,
    anywhere: ReadOptions,
}

/// Where a read looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Only in memory; what isn't there is an error of kind `Incomplete`.
    Memory,
    /// On the disk too.
    Disk,
}

impl RocksSnapshot {
    /// The newest state of the database. The caller knows that no write is under way, and its stamp.
    pub(crate) fn new(database: Arc<Database>, stamp: Stamp, counters: Arc<Counters>) -> Self {
        let pinned = Pinned::new(database, |database| {
            let snapshot = database.db.snapshot();
            let options = |reach| {
                let mut options = read_options(reach);
                options.set_snapshot(&snapshot);
                options
            };
            View { in_memory: options(Reach::Memory), anywhere: options(Reach::Disk), snapshot }
        });
        Self { stamp, pinned, counters }
    }

    fn db(&self) -> &DB {
        &self.pinned.borrow_owner().db
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        self.pinned.borrow_owner().family(family)
    }

    fn options(&self, reach: Reach) -> &ReadOptions {
        let view = self.pinned.borrow_dependent();
        match reach {
            Reach::Memory => &view.in_memory,
            Reach::Disk => &view.anywhere,
        }
    }

    /// Reads in memory; failing that from the disk, off the runtime's worker.
    fn read<T>(&self, read: impl Fn(Reach) -> Result<T, rocksdb::Error>) -> Result<T, StoreError> {
        let answer = match read(Reach::Memory) {
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                self.counters.disk_reads.fetch_add(1, Relaxed);
                off_the_worker(|| read(Reach::Disk))
            }
            answer => answer,
        };
        answer.map_err(|error| StoreError::Engine(Box::new(error)))
    }

    fn get_some<'k>(
        &self,
        family: &ColumnFamily,
        keys: impl Iterator<Item = &'k Vec<u8>>,
        reach: Reach,
    ) -> impl Iterator<Item = Result<Option<Vec<u8>>, rocksdb::Error>> {
        let values = self.db().batched_multi_get_cf_opt(family, keys, false, self.options(reach));
        values.into_iter().map(|value| Ok(value?.map(|value| value.to_vec())))
    }

    fn rows(
        &self,
        family: &ColumnFamily,
        scan: &Scan,
        rows_max: usize,
        reach: Reach,
    ) -> Result<Vec<Row>, rocksdb::Error> {
        let mut options = read_options(reach);
        options.set_snapshot(&self.pinned.borrow_dependent().snapshot);
        options.set_iterate_lower_bound(scan.from.as_slice());
        options.set_iterate_upper_bound(scan.to.as_slice());
        if scan.direction == Direction::Forward && is_within_a_prefix(scan) {
            options.set_prefix_same_as_start(true);
        } else {
            // The prefix filters know nothing of a range over several prefixes.
            options.set_total_order_seek(true);
        }
        if scan.family == Family::Log {
            options.set_readahead_size(LOG_READAHEAD_BYTES);
        }
        let mut iterator = self.db().raw_iterator_cf_opt(family, options);
        match scan.direction {
            Direction::Forward => iterator.seek(&scan.from),
            Direction::Backward => iterator.seek_to_last(),
        }
        let mut rows = Vec::with_capacity(rows_max.min(ROWS_EXPECTED));
        while let Some((key, value)) = iterator.item() {
            rows.push((key.to_vec(), value.to_vec()));
            if rows.len() == rows_max {
                break;
            }
            match scan.direction {
                Direction::Forward => iterator.next(),
                Direction::Backward => iterator.prev(),
            }
        }
        // An iterator that failed has no item either.
        iterator.status()?;
        Ok(rows)
    }
}

impl Snapshot for RocksSnapshot {
    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let family = self.family(family)?;
        let read = |reach| self.db().get_pinned_cf_opt(family, key, self.options(reach));
        // The copy is taken within `read`, so that a block is pinned only as long as that.
        self.read(|reach| Ok(read(reach)?.map(|value| value.to_vec())))
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let family = self.family(family)?;
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(GET_MANY_KEYS) {
            let mut found: Vec<_> = self.get_some(family, keys.iter(), Reach::Memory).collect();
            let is_missed = |value: &Result<_, rocksdb::Error>| {
                value.as_ref().is_err_and(|error| error.kind() == ErrorKind::Incomplete)
            };
            let missed: Vec<&Vec<u8>> =
                keys.iter().zip(&found).filter(|(_, value)| is_missed(value)).map(|(key, _)| key).collect();
            if !missed.is_empty() {
                self.counters.disk_reads.fetch_add(1, Relaxed);
                let read = || self.get_some(family, missed.into_iter(), Reach::Disk).collect::<Vec<_>>();
                let places = found.iter_mut().filter(|value| is_missed(value));
                places.zip(off_the_worker(read)).for_each(|(place, value)| *place = value);
            }
            for value in found {
                values.push(value.map_err(|error| StoreError::Engine(Box::new(error)))?);
            }
        }
        Ok(values)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let family = self.family(scan.family)?;
        let rows_max = scan.rows_max.min(limits::SCAN_ROWS_MAX);
        if rows_max == 0 || scan.from >= scan.to {
            return Ok(Vec::new());
        }
        self.read(|reach| self.rows(family, scan, rows_max, reach))
    }
}

fn read_options(reach: Reach) -> ReadOptions {
    let mut options = ReadOptions::default();
    if reach == Reach::Memory {
        options.set_read_tier(ReadTier::BlockCache);
    }
    options
}

/// Whether all keys of a range have the same indexed prefix, so that its filters tell where they are.
fn is_within_a_prefix(scan: &Scan) -> bool {
    let prefix = scan.from.get(..RANGE_PREFIX_BYTES);
    let Some(prefix) = prefix.filter(|_| scan.family == Family::Ranges) else { return false };
    scan.to.starts_with(prefix) || scan.to == store::key::after_prefix(prefix)
}

/// Runs what waits for the disk where it holds up no other task.
fn off_the_worker<T>(read: impl FnOnce() -> T) -> T {
    let on_a_worker = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if on_a_worker { tokio::task::block_in_place(read) } else { read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_within_a_prefix_if_all_its_keys_are() {
        let check = |from: &[u8], to: &[u8]| {
            let (from, to) = (from.to_vec(), to.to_vec());
            is_within_a_prefix(&Scan { family: Family::Ranges, from, to, direction: Direction::Forward, rows_max: 1 })
        };
        assert!(check(b"123456789", b"123456789a"));
        assert!(check(b"123456789a", b"123456789b"));
        assert!(check(b"123456789", b"12345678:"));
        assert!(check(&[0xff; 9], &[0xff; 10]));
        assert!(!check(b"12345678", b"123456789"));
        assert!(!check(b"123456789", b"12345678:\0"));
        assert!(!check(b"123456787a", b"123456789"));
        assert!(!check(b"123456789", b"2"));
    }
}
