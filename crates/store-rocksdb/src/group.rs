//! A group of batches on the way to one write: each is evaluated against the database and what the
//! batches before it in the group write.

use crate::database::Database;
use base::Stamp;
use rocksdb::{ColumnFamily, IteratorMode, ReadOptions, WriteBatch};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use store::{Batch, CommitError, Family, Stamps, StoreError, Write, counter_plus};

/// A range with at most so many keys is cleared key by key. A range tombstone costs every later read
/// in the family something, and small ranges are cleared all the time (a device's messages at each sync).
const CLEARED_BY_KEY_MAX: usize = 64;

/// What the batches of a group write.
pub(crate) struct Group<'db> {
    database: &'db Database,
    writes: WriteBatch,
    newest: Stamp,
    overlay: Option<Overlay>,
}

/// What the group has written so far, and what it has read of the database.
type Overlay = BTreeMap<Family, FamilyOverlay>;

#[derive(Default)]
struct FamilyOverlay {
    /// Values that are newer than the cleared ranges, or that the database has.
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    cleared: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the overlay knows of a key.
enum Known<'o> {
    Value(&'o [u8]),
    Absent,
    /// Nothing: the database has the answer.
    Nothing,
}

impl FamilyOverlay {
    fn get(&self, key: &[u8]) -> Known<'_> {
        match self.rows.get(key) {
            Some(Some(value)) => Known::Value(value),
            Some(None) => Known::Absent,
            None if self.cleared.iter().any(|(from, to)| from.as_slice() <= key && key < to.as_slice()) => {
                Known::Absent
            }
            None => Known::Nothing,
        }
    }
}

/// How a range is cleared, decided before anything of its batch is written.
enum Clearing {
    /// The database has these keys in the range.
    Keys(Vec<Vec<u8>>),
    /// More keys than [`CLEARED_BY_KEY_MAX`], or a range of the log, which is only trimmed in large pieces.
    Range,
}

impl<'db> Group<'db> {
    /// A group of these batches, to be committed after `newest`.
    pub(crate) fn new<'b>(
        database: &'db Database,
        newest: Stamp,
        mut batches: impl ExactSizeIterator<Item = &'b Batch>,
    ) -> Self {
        // A batch alone that neither adds nor clears ranges never reads what it wrote.
        let rereads = |write: &Write| matches!(write, Write::Add { .. } | Write::ClearRange { .. });
        let overlaid = batches.len() > 1 || batches.any(|batch| batch.writes.iter().any(rereads));
        Self { database, writes: WriteBatch::default(), newest, overlay: overlaid.then(Overlay::new) }
    }

    /// What is to be written, and the newest stamp after it.
    pub(crate) fn into_writes(self) -> (WriteBatch, Stamp) {
        (self.writes, self.newest)
    }

    /// Adds a batch, if what it expects holds. All that can fail comes first: a batch that is refused has
    /// left nothing.
    pub(crate) fn add(&mut self, batch: Batch) -> Result<Stamps, CommitError> {
        for expect in &batch.expects {
            if !self.holds(expect.family, &expect.key, expect.value.as_deref()).map_err(engine)? {
                return Err(CommitError::Conflict);
            }
        }
        let mut clearings = Vec::new();
        for write in &batch.writes {
            match write {
                Write::Put { family, .. } | Write::Clear { family, .. } => {
                    self.database.family(*family).map_err(engine)?;
                }
                Write::ClearRange { family, from, to } => {
                    clearings.push(self.clearing(*family, from, to).map_err(engine)?);
                }
                Write::Add { family, key, .. } => self.load(*family, key).map_err(engine)?,
            }
        }
        let stamps = batch.stamps_after(self.newest);
        let mut clearings = clearings.into_iter();
        for write in batch.writes {
            self.write(write, stamps.first, &mut clearings).map_err(engine)?;
        }
        self.newest = stamps.last;
        Ok(stamps)
    }

    fn known(&self, family: Family, key: &[u8]) -> Known<'_> {
        let overlay = self.overlay.as_ref().and_then(|overlay| overlay.get(&family));
        overlay.map_or(Known::Nothing, |overlay| overlay.get(key))
    }

    fn holds(&self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<bool, StoreError> {
        match self.known(family, key) {
            Known::Value(newer) => return Ok(value == Some(newer)),
            Known::Absent => return Ok(value.is_none()),
            Known::Nothing => {}
        }
        let family = self.database.family(family)?;
        let stored = self.database.db.get_pinned_cf(family, key).map_err(failed)?;
        Ok(stored.as_deref() == value)
    }

    /// Sees to it that the overlay has the value of a key.
    fn load(&mut self, family: Family, key: &[u8]) -> Result<(), StoreError> {
        let Some(overlay) = &mut self.overlay else { return Ok(()) };
        let overlay = overlay.entry(family).or_default();
        if matches!(overlay.get(key), Known::Nothing) {
            let stored = self.database.db.get_cf(self.database.family(family)?, key).map_err(failed)?;
            overlay.rows.insert(key.to_vec(), stored);
        }
        Ok(())
    }

    fn clearing(&self, family: Family, from: &[u8], to: &[u8]) -> Result<Clearing, StoreError> {
        let column = self.database.family(family)?;
        if from >= to {
            return Ok(Clearing::Keys(Vec::new()));
        }
        if family == Family::Log {
            return Ok(Clearing::Range);
        }
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let rows = self.database.db.iterator_cf_opt(column, options, IteratorMode::Start);
        let keys = rows.take(CLEARED_BY_KEY_MAX + 1).map(|row| Ok(row?.0.into_vec()));
        let keys = keys.collect::<Result<Vec<_>, rocksdb::Error>>().map_err(failed)?;
        Ok(if keys.len() > CLEARED_BY_KEY_MAX { Clearing::Range } else { Clearing::Keys(keys) })
    }

    fn write(
        &mut self,
        write: Write,
        first: Stamp,
        clearings: &mut impl Iterator<Item = Clearing>,
    ) -> Result<(), StoreError> {
        match write {
            Write::Put { family, key, value } => {
                let column = self.database.family(family)?;
                self.put(family, column, key.into_filled(first), value.into_filled(first));
            }
            Write::Clear { family, key } => {
                self.writes.delete_cf(self.database.family(family)?, &key);
                if let Some(overlay) = &mut self.overlay {
                    overlay.entry(family).or_default().rows.insert(key, None);
                }
            }
            Write::ClearRange { family, from, to } => {
                let column = self.database.family(family)?;
                let clearing = clearings.next().unwrap_or(Clearing::Range);
                self.clear_range(family, column, from, to, clearing);
            }
            Write::Add { family, key, delta } => {
                let column = self.database.family(family)?;
                let old = match self.known(family, &key) {
                    Known::Value(old) => Some(old),
                    Known::Absent | Known::Nothing => None,
                };
                let sum = counter_plus(old, delta);
                self.put(family, column, key, sum);
            }
        }
        Ok(())
    }

    fn put(&mut self, family: Family, column: &ColumnFamily, key: Vec<u8>, value: Vec<u8>) {
        self.writes.put_cf(column, &key, &value);
        if let Some(overlay) = &mut self.overlay {
            overlay.entry(family).or_default().rows.insert(key, Some(value));
        }
    }

    fn clear_range(&mut self, family: Family, column: &ColumnFamily, from: Vec<u8>, to: Vec<u8>, clearing: Clearing) {
        let Some(overlay) = self.overlay.as_mut().filter(|_| from < to) else { return };
        let overlay = overlay.entry(family).or_default();
        let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        let written: Vec<Vec<u8>> = overlay.rows.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
        for key in &written {
            overlay.rows.remove(key);
        }
        match clearing {
            Clearing::Range => self.writes.delete_range_cf(column, &from, &to),
            Clearing::Keys(keys) => {
                for key in keys.iter().chain(&written) {
                    self.writes.delete_cf(column, key);
                }
            }
        }
        overlay.cleared.push((from, to));
    }
}

fn failed(error: rocksdb::Error) -> StoreError {
    StoreError::Engine(Box::new(error))
}

fn engine(error: StoreError) -> CommitError {
    CommitError::Engine(Arc::new(error))
}
