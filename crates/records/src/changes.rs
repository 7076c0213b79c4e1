//! Typed writes. Each table's module adds its own.

use crate::codec::{self, RecordsError};
use crate::ids::Ids;
use crate::tables::Table;
use crate::view::View;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use store::{Batch, Durability, Expect, Family, Stamped, Write};

/// What one decision writes. Reads through it see its own writes over the view that it began with.
pub struct Changes {
    view: View,
    ids: Arc<Ids>,
    batch: Batch,
    /// The last write of each key: `None` where it was cleared.
    written: HashMap<(Family, Vec<u8>), Option<Vec<u8>>>,
}

impl Changes {
    pub(crate) fn new(view: View, ids: Arc<Ids>) -> Self {
        Self { view, ids, batch: Batch::default(), written: HashMap::new() }
    }

    /// New changes of the same view, which know nothing of these.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.view.clone(), self.ids.clone())
    }

    /// Takes over what other changes of the same view write, after what these do. Answers by how much the numbers
    /// of their stamps grow.
    pub fn absorb(&mut self, other: Self) -> u16 {
        let shift = self.batch.stamps;
        self.batch.stamps = shift.saturating_add(other.batch.stamps);
        self.batch.expects.extend(other.batch.expects);
        self.batch.writes.extend(other.batch.writes.into_iter().map(|write| match write {
            Write::Put { family, mut key, mut value } => {
                for hole in key.holes.iter_mut().chain(&mut value.holes) {
                    hole.nth = hole.nth.saturating_add(shift);
                }
                Write::Put { family, key, value }
            }
            other => other,
        }));
        self.written.extend(other.written);
        shift
    }

    /// The view that the changes began with; it does not show them.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Numbers for what is new.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The bytes written so far; see [`base::limits::BATCH_BYTES_SOFT_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Marks the changes as derivable from the log, so that they need not wait for the disk.
    pub fn derived(&mut self) {
        self.batch.durability = Durability::Derived;
    }

    /// Takes one more stamp of the commit and returns its number among them.
    pub fn stamp(&mut self) -> u16 {
        let nth = self.batch.stamps;
        self.batch.stamps = nth.saturating_add(1);
        nth
    }

    /// How many stamps are taken so far.
    #[must_use]
    pub fn stamps(&self) -> u16 {
        self.batch.stamps
    }

    pub(crate) fn into_batch(self) -> Batch {
        self.batch
    }

    /// The bytes of a key as they are after these changes. Stamps in them are not filled in.
    pub(crate) fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RecordsError> {
        match self.written.get(&(table.family, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.view.get_bytes(table, key),
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, RecordsError> {
        self.get_bytes(table, key)?.map(|bytes| table.decode(&bytes)).transpose()
    }

    /// Whether these changes write or clear a key, ranges and keys with stamps apart.
    pub(crate) fn is_written(&self, table: Table, key: &[u8]) -> bool {
        self.written.contains_key(&(table.family, key.to_vec()))
    }

    /// Commits only if the key still holds what the view shows.
    pub(crate) fn expect_unchanged(&mut self, table: Table, key: Vec<u8>) -> Result<(), RecordsError> {
        let value = self.view.get_bytes(table, &key)?;
        self.batch.expects.push(Expect { family: table.family, key, value });
        Ok(())
    }

    /// Commits only if nothing is at the key.
    pub(crate) fn expect_absent(&mut self, table: Table, key: Vec<u8>) {
        self.batch.expects.push(Expect { family: table.family, key, value: None });
    }

    pub(crate) fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, value: &T) {
        self.put_raw(table, key.into(), codec::encode(value).into());
    }

    /// Writes a value that carries the stamp `nth` of the commit.
    pub(crate) fn put_stamped<T: Serialize>(&mut self, table: Table, key: Vec<u8>, nth: u16, value: &T) {
        self.put_raw(table, key.into(), codec::encode_stamped(nth, value));
    }

    /// Writes a key and a value that may both have holes.
    pub(crate) fn put_raw(&mut self, table: Table, key: Stamped, value: Stamped) {
        if key.holes.is_empty() {
            self.written.insert((table.family, key.bytes.clone()), Some(value.bytes.clone()));
        }
        self.batch.writes.push(Write::Put { family: table.family, key, value });
    }

    pub(crate) fn clear(&mut self, table: Table, key: Vec<u8>) {
        self.written.insert((table.family, key.clone()), None);
        self.batch.writes.push(Write::Clear { family: table.family, key });
    }

    /// Adds to a counter. Reads through these changes don't see that.
    pub(crate) fn add(&mut self, table: Table, key: Vec<u8>, delta: i64) {
        self.batch.writes.push(Write::Add { family: table.family, key, delta });
    }

    /// Clears a range. Reads through these changes don't see that.
    pub(crate) fn clear_range(&mut self, table: Table, range: (Vec<u8>, Vec<u8>)) {
        let (from, to) = range;
        self.batch.writes.push(Write::ClearRange { family: table.family, from, to });
    }
}
