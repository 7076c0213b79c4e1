//! How a node is laid out in bytes, and how it is searched without being decoded.
//!
//! ```text
//! version u8 · height u8 · value width u8 · count u16 · prefix length u16 · suffix length u16
//! prefix · suffix · count × end of middle u16 · count × value · middles
//! ```
//!
//! Numbers are little-endian. A key is prefix + middle + suffix. The values of a leaf (height 0) are
//! events. Above, a value is a child and its key is the smallest key below that child.

use base::NodeNum;
use std::cmp::Ordering;

/// The layout that this code writes and reads.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;
/// A tree of this height would have more entries than there are events; beyond it a node is corrupt.
const HEIGHT_MAX: u8 = 24;

/// The size from which a node is split.
pub(super) const NODE_BYTES_MAX: usize = 2048;
/// The size below which a changed node is joined with a neighbour.
pub(super) const NODE_BYTES_MIN: usize = NODE_BYTES_MAX / 4;
/// A node of fewer entries than twice this is not split, however large.
const ENTRIES_MIN: usize = 4;

/// A key and a value of a node that is being made.
pub(super) type Pair = (Vec<u8>, u64);

/// Why bytes are not a node.
type Reason = &'static str;
const SHORT: Reason = "it ends too early";

/// A node that is read where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeView<'a> {
    /// 0 for a leaf.
    pub height: u8,
    /// How many entries there are; at least one.
    pub count: usize,
    width: usize,
    prefix: &'a [u8],
    suffix: &'a [u8],
    ends: &'a [u8],
    values: &'a [u8],
    middles: &'a [u8],
}

impl<'a> NodeView<'a> {
    /// Reads the header, and checks that the parts lie within the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(SHORT)?;
        let [version, height, width, count_low, count_high, prefix_low, prefix_high, suffix_low, suffix_high] = *header;
        if version != VERSION {
            return Err("its version is unknown");
        }
        if height > HEIGHT_MAX {
            return Err("it is too high");
        }
        if !(1..=8).contains(&width) {
            return Err("its values have no possible width");
        }
        let width = usize::from(width);
        let count = usize::from(u16::from_le_bytes([count_low, count_high]));
        if count == 0 {
            return Err("it has no entries");
        }
        let (prefix, rest) =
            rest.split_at_checked(usize::from(u16::from_le_bytes([prefix_low, prefix_high]))).ok_or(SHORT)?;
        let (suffix, rest) =
            rest.split_at_checked(usize::from(u16::from_le_bytes([suffix_low, suffix_high]))).ok_or(SHORT)?;
        let (ends, rest) = rest.split_at_checked(count * 2).ok_or(SHORT)?;
        let (values, middles) = rest.split_at_checked(count * width).ok_or(SHORT)?;
        Ok(Self { height, count, width, prefix, suffix, ends, values, middles })
    }

    fn end(&self, index: usize) -> Result<usize, Reason> {
        let end = self.ends.get(index * 2..).and_then(|ends| ends.first_chunk::<2>()).ok_or(SHORT)?;
        Ok(usize::from(u16::from_le_bytes(*end)))
    }

    fn middle(&self, index: usize) -> Result<&'a [u8], Reason> {
        let start = match index.checked_sub(1) {
            Some(before) => self.end(before)?,
            None => 0,
        };
        self.middles.get(start..self.end(index)?).ok_or("its keys overlap")
    }

    /// The key of an entry.
    pub fn key(&self, index: usize) -> Result<Vec<u8>, Reason> {
        let middle = self.middle(index)?;
        let mut key = Vec::with_capacity(self.prefix.len() + middle.len() + self.suffix.len());
        key.extend_from_slice(self.prefix);
        key.extend_from_slice(middle);
        key.extend_from_slice(self.suffix);
        Ok(key)
    }

    /// The key of an entry, unless the index is past the last.
    pub fn key_if_any(&self, index: usize) -> Result<Option<Vec<u8>>, Reason> {
        if index < self.count { self.key(index).map(Some) } else { Ok(None) }
    }

    /// The value of an entry.
    pub fn value(&self, index: usize) -> Result<u64, Reason> {
        let start = index * self.width;
        let bytes = self.values.get(start..start + self.width).ok_or(SHORT)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Where a key is (`Ok`), or where it would be inserted (`Err`).
    pub fn search(&self, key: &[u8]) -> Result<Result<usize, usize>, Reason> {
        let Some(rest) = key.strip_prefix(self.prefix) else {
            return Ok(Err(if key < self.prefix { 0 } else { self.count }));
        };
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let index = usize::midpoint(low, high);
            match cmp_joined(self.middle(index)?, self.suffix, rest) {
                Ordering::Less => low = index + 1,
                Ordering::Equal => return Ok(Ok(index)),
                Ordering::Greater => high = index,
            }
        }
        Ok(Err(low))
    }

    /// Of the children, the one in which a key would be; the first for a key that is smaller than all.
    pub fn child_index_for(&self, key: &[u8]) -> Result<usize, Reason> {
        Ok(match self.search(key)? {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        })
    }

    /// Of the children, the one in which a key may be. `None` if it is smaller than all keys below.
    pub fn child_for(&self, key: &[u8]) -> Result<Option<NodeNum>, Reason> {
        let index = match self.search(key)? {
            Ok(index) => index,
            Err(0) => return Ok(None),
            Err(index) => index - 1,
        };
        self.value(index).map(|value| Some(NodeNum(value)))
    }

    /// All entries, decoded; their keys must rise.
    pub fn pairs(&self) -> Result<Vec<Pair>, Reason> {
        self.pairs_from(0)
    }

    /// The entries from an index on, decoded; their keys must rise.
    pub fn pairs_from(&self, start: usize) -> Result<Vec<Pair>, Reason> {
        let mut pairs: Vec<Pair> = Vec::with_capacity(self.count.saturating_sub(start));
        for index in start..self.count {
            let key = self.key(index)?;
            if pairs.last().is_some_and(|(before, _)| *before >= key) {
                return Err("its keys are not sorted");
            }
            pairs.push((key, self.value(index)?));
        }
        Ok(pairs)
    }
}

/// Compares `head` and `tail`, one after the other, with `whole`.
fn cmp_joined(head: &[u8], tail: &[u8], whole: &[u8]) -> Ordering {
    match whole.split_at_checked(head.len()) {
        Some((start, rest)) => head.cmp(start).then_with(|| tail.cmp(rest)),
        // `whole` is shorter than `head`: equal beginnings make it the smaller one.
        None => head.cmp(whole),
    }
}

/// How many bytes a node of the entries so far would take.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    first: Vec<u8>,
    prefix: usize,
    suffix: usize,
    shortest: usize,
    count: usize,
    keys_bytes: usize,
    value_max: u64,
}

impl Size {
    /// Of a whole node.
    pub fn of(pairs: &[Pair]) -> Self {
        let mut size = Self::default();
        for (key, value) in pairs {
            size.add(key, *value);
        }
        size
    }

    /// Counts one more entry.
    pub fn add(&mut self, key: &[u8], value: u64) {
        if self.count == 0 {
            self.first = key.to_vec();
            self.prefix = key.len();
            self.suffix = key.len();
            self.shortest = key.len();
        } else {
            let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
            // Most keys share what those before them share, and comparing that at once is quickest.
            if !self.first.get(..self.prefix).is_some_and(|prefix| key.starts_with(prefix)) {
                self.prefix = self.first.iter().zip(key).take_while(same).count();
            }
            if !self.first.get(self.first.len() - self.suffix..).is_some_and(|suffix| key.ends_with(suffix)) {
                self.suffix = self.first.iter().rev().zip(key.iter().rev()).take_while(same).count();
            }
            self.shortest = self.shortest.min(key.len());
        }
        self.count += 1;
        self.keys_bytes += key.len();
        self.value_max = self.value_max.max(value);
    }

    /// The lengths of what all keys begin with and end with; they do not overlap in the shortest key.
    fn shared(&self) -> (usize, usize) {
        (self.prefix, self.suffix.min(self.shortest - self.prefix))
    }

    fn width(&self) -> usize {
        let bits = u64::BITS - self.value_max.leading_zeros();
        usize::try_from(bits.div_ceil(8)).unwrap_or(8).max(1)
    }

    /// The bytes of the node.
    pub fn bytes(&self) -> usize {
        let (prefix, suffix) = self.shared();
        let shared = prefix + suffix;
        HEADER_BYTES + shared + self.keys_bytes - self.count * shared + self.count * (2 + self.width())
    }

    /// Whether a node of these entries has to be split.
    pub fn is_too_large(&self) -> bool {
        self.bytes() > NODE_BYTES_MAX && self.count >= 2 * ENTRIES_MIN
    }
}

/// The bytes of a node. The caller has split what is too large, so that all lengths fit their fields:
/// at most `NODE_BYTES_MAX`, or fewer than eight keys of the longest.
pub(super) fn encode(height: u8, pairs: &[Pair]) -> Vec<u8> {
    let size = Size::of(pairs);
    let (prefix, suffix) = size.shared();
    let width = size.width();
    let mut bytes = Vec::with_capacity(size.bytes());
    bytes.extend_from_slice(&[VERSION, height, u8::try_from(width).unwrap_or(8)]);
    let push_u16 = |bytes: &mut Vec<u8>, number: usize| {
        debug_assert!(u16::try_from(number).is_ok(), "nodes are split before they are that large");
        bytes.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
    };
    push_u16(&mut bytes, pairs.len());
    push_u16(&mut bytes, prefix);
    push_u16(&mut bytes, suffix);
    bytes.extend(size.first.iter().take(prefix));
    bytes.extend(size.first.iter().skip(size.first.len() - suffix));
    let mut end = 0;
    for (key, _) in pairs {
        end += key.len() - prefix - suffix;
        push_u16(&mut bytes, end);
    }
    for (_, value) in pairs {
        bytes.extend(value.to_le_bytes().into_iter().take(width));
    }
    for (key, _) in pairs {
        bytes.extend(key.iter().take(key.len() - suffix).skip(prefix));
    }
    bytes
}

/// Cuts entries into runs that each fit a node.
pub(super) fn split(mut pairs: Vec<Pair>, runs: &mut Vec<Vec<Pair>>) {
    if pairs.is_empty() {
        return;
    }
    let size = Size::of(&pairs);
    if !size.is_too_large() {
        runs.push(pairs);
        return;
    }
    let mut half_bytes = size.keys_bytes / 2;
    let half = pairs.iter().take_while(|(key, _)| {
        let more = half_bytes > 0;
        half_bytes = half_bytes.saturating_sub(key.len());
        more
    });
    let middle = half.count().clamp(ENTRIES_MIN, pairs.len() - ENTRIES_MIN);
    let later = pairs.split_off(middle);
    split(pairs, runs);
    split(later, runs);
}
