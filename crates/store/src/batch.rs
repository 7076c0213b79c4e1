//! A batch: what one decision writes, as data.

use crate::{Family, Stamps};
use base::{Stamp, limits};

/// Whether a commit is answered before or after it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Answered when it is on disk. For everything that a client or a peer is told.
    #[default]
    Synced,
    /// Answered when it is visible; on disk with the next synced batch. For what can be derived again
    /// from the log: the tables and cursors of followers.
    Derived,
}

/// A set of writes that becomes visible whole or not at all, and only if every [`Expect`] holds.
///
/// It is deterministic: the same batches in the same order on the same data give the same data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many consecutive stamps the commit takes; at least one is always taken.
    pub stamps: u16,
    /// What must hold for the batch to be committed.
    pub expects: Vec<Expect>,
    /// The writes, in order: a later one prevails over an earlier one.
    pub writes: Vec<Write>,
    /// When the commit is answered.
    pub durability: Durability,
}

impl Batch {
    /// Whether the batch would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The bytes of all keys and values, which [`limits::BATCH_BYTES_MAX`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let expects = self.expects.iter().map(|e| e.key.len() + e.value.as_ref().map_or(0, Vec::len));
        let writes = self.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.bytes.len() + value.bytes.len(),
            Write::Clear { key, .. } => key.len(),
            Write::ClearRange { from, to, .. } => from.len() + to.len(),
            Write::Add { key, .. } => key.len() + 8,
        });
        expects.chain(writes).sum()
    }

    /// The stamps that the batch takes when it is committed after `newest`.
    #[must_use]
    pub fn stamps_after(&self, newest: Stamp) -> Stamps {
        let first = newest.next();
        Stamps { first, last: Stamp(newest.0.saturating_add(u64::from(self.stamps.max(1)))) }
    }

    /// Whether every key, every value and the whole are within the limits of the interface.
    #[must_use]
    pub fn within_limits(&self) -> bool {
        let key = |key: &[u8]| key.len() <= limits::KEY_BYTES_MAX;
        self.expects.iter().all(|expect| key(&expect.key))
            && self.bytes() <= limits::BATCH_BYTES_MAX
            && self.writes.iter().all(|write| match write {
                Write::Put { key: k, value, .. } => key(&k.bytes) && value.bytes.len() <= limits::VALUE_BYTES_MAX,
                Write::Clear { key: k, .. } | Write::Add { key: k, .. } => key(k),
                Write::ClearRange { from, to, .. } => key(from) && key(to),
            })
    }
}

/// A precondition of a batch: the key holds this value, or is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Where the key is.
    pub family: Family,
    /// The key.
    pub key: Vec<u8>,
    /// Its value, or `None` for a key that must be absent.
    pub value: Option<Vec<u8>>,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where the key is.
        family: Family,
        /// The key; the commit fills its holes.
        key: Stamped,
        /// The value; the commit fills its holes.
        value: Stamped,
    },
    /// Removes a key, if it is there.
    Clear {
        /// Where the key is.
        family: Family,
        /// The key.
        key: Vec<u8>,
    },
    /// Removes all keys from `from` on and before `to`.
    ClearRange {
        /// Where the keys are.
        family: Family,
        /// The first key that is removed.
        from: Vec<u8>,
        /// The first key that stays.
        to: Vec<u8>,
    },
    /// Adds to a counter: a value of eight bytes, big-endian, zero where the key is absent or the value
    /// has another length. Wraps around.
    Add {
        /// Where the key is.
        family: Family,
        /// The key.
        key: Vec<u8>,
        /// What is added.
        delta: i64,
    },
}

/// Bytes in which the commit writes its stamps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamped {
    /// The bytes, with any eight bytes where a hole is.
    pub bytes: Vec<u8>,
    /// Where the stamps go.
    pub holes: Vec<Hole>,
}

/// Eight bytes that receive a stamp, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The offset of the first byte.
    pub at: u32,
    /// Which of the batch's stamps: 0 is the first.
    pub nth: u16,
}

impl Stamped {
    /// The bytes once the batch has its stamps, `first` and on. A hole beyond the end is ignored.
    #[must_use]
    pub fn fill(&self, first: Stamp) -> Vec<u8> {
        self.clone().into_filled(first)
    }

    /// As [`Self::fill`], without a copy.
    #[must_use]
    pub fn into_filled(self, first: Stamp) -> Vec<u8> {
        let mut bytes = self.bytes;
        for hole in self.holes {
            let at = hole.at as usize;
            if let Some(place) = bytes.get_mut(at..at.saturating_add(8)) {
                place.copy_from_slice(&first.0.saturating_add(u64::from(hole.nth)).to_be_bytes());
            }
        }
        bytes
    }
}

impl From<Vec<u8>> for Stamped {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, holes: Vec::new() }
    }
}

/// What a counter holds after [`Write::Add`].
#[must_use]
pub fn counter_plus(value: Option<&[u8]>, delta: i64) -> Vec<u8> {
    let count = value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
    count.wrapping_add_signed(delta).to_be_bytes().to_vec()
}
