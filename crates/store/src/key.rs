//! Keys whose byte order is the order of what they are made of: numbers by their size, texts by their bytes,
//! but that a text comes after those that begin with it.

/// Builds a key from parts. Numbers are big-endian; a text ends with a byte that no text contains, so
/// that no key is a prefix of another by accident.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder(Vec<u8>);

/// What ends a text within a key. UTF-8 never contains this byte.
const TEXT_END: u8 = 0xff;

impl KeyBuilder {
    /// A key of the table with this number; every key starts with one.
    #[must_use]
    pub fn table(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(48);
        bytes.push(table);
        Self(bytes)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a signed number; negative ones come first.
    #[must_use]
    pub fn signed(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        self
    }

    /// Adds one byte.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(TEXT_END);
        self
    }

    /// Adds bytes of a fixed length, such as a hash.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// How long the key is so far: the place of the next part, for a [`crate::Hole`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the key has no part yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.0
    }

    /// The range of all keys that start with this one: from it, up to and without the second.
    #[must_use]
    pub fn prefix_range(self) -> (Vec<u8>, Vec<u8>) {
        let to = after_prefix(&self.0);
        (self.0, to)
    }
}

/// The first key that is beyond all keys that start with `prefix`.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut to = prefix.to_vec();
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            return to;
        }
    }
    // Every byte was 0xff: nothing that a table holds is beyond.
    vec![u8::MAX; prefix.len() + 1]
}

/// Reads a key part by part, in the order in which it was built. `None`: the key has another shape.
#[derive(Clone, Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Reads `key` after its table's byte.
    #[must_use]
    pub fn new(key: &'a [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    /// The next part, a number.
    pub fn number(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// The next part, a signed number.
    pub fn signed(&mut self) -> Option<i64> {
        self.number().map(|number| (number ^ (1 << 63)).cast_signed())
    }

    /// The next part, one byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// The next part, a text.
    pub fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == TEXT_END)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        std::str::from_utf8(text).ok()
    }

    /// The next part, bytes of a fixed length.
    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_parts_do() {
        let key = |n: i64, t: &str| KeyBuilder::table(1).signed(n).text(t).build();
        let sorted = [key(-2, "z"), key(-1, "a"), key(0, "ab"), key(0, "a"), key(0, "b"), key(0, ""), key(7, "")];
        assert!(sorted.is_sorted());
    }

    #[test]
    fn a_key_reads_back_as_it_was_built() {
        let key = KeyBuilder::table(9).number(7).signed(-3).text("m.room.name").byte(4).fixed(&[1, 2]).build();
        let mut reader = KeyReader::new(&key);
        assert_eq!(reader.number(), Some(7));
        assert_eq!(reader.signed(), Some(-3));
        assert_eq!(reader.text(), Some("m.room.name"));
        assert_eq!(reader.byte(), Some(4));
        assert_eq!(reader.fixed(), Some([1, 2]));
        assert_eq!(reader.byte(), None);
    }

    #[test]
    fn a_prefix_range_ends_after_its_last_key() {
        assert_eq!(after_prefix(&[1, 0xff, 0xff]), vec![2]);
        assert_eq!(after_prefix(&[1, 2]), vec![1, 3]);
    }
}
