//! How structs become bytes.

use crate::state_map::StateMapError;
use base::Stamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Hole, Stamped, StoreError};

/// The version byte of every value of this schema.
const VALUE_VERSION: u8 = 1;
/// Where the stamp of a stamped value is.
const STAMP_AT: u32 = 1;

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes of a record are not what this version writes.
    #[error("a record of the table {table} is corrupt")]
    Corrupt {
        /// The name of the table.
        table: &'static str,
    },
    /// A room state map is corrupt.
    #[error(transparent)]
    StateMap(#[from] StateMapError),
    /// More numbers were taken at once than are reserved ahead.
    #[error("no more numbers are reserved; try again")]
    IdsExhausted,
}

/// Writes a struct.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    append(vec![VALUE_VERSION], value)
}

/// Writes a struct with a hole for a stamp.
pub(crate) fn encode_stamped<T: Serialize>(nth: u16, value: &T) -> Stamped {
    let bytes = append(vec![VALUE_VERSION, 0, 0, 0, 0, 0, 0, 0, 0], value);
    Stamped { bytes, holes: vec![Hole { at: STAMP_AT, nth }] }
}

/// Writes a struct with a stamp that is known already.
pub(crate) fn encode_at<T: Serialize>(stamp: Stamp, value: &T) -> Vec<u8> {
    let mut bytes = vec![VALUE_VERSION];
    bytes.extend_from_slice(&stamp.0.to_be_bytes());
    append(bytes, value)
}

fn append<T: Serialize>(bytes: Vec<u8>, value: &T) -> Vec<u8> {
    let head = bytes.clone();
    // Writing to memory fails only for types that postcard cannot write, and no stored struct is one: a
    // value without its struct would be read back as corrupt.
    postcard::to_extend(value, bytes).unwrap_or(head)
}

/// Reads a struct.
pub(crate) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, RecordsError> {
    match bytes.split_first() {
        Some((&VALUE_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| RecordsError::Corrupt { table }),
        _ => Err(RecordsError::Corrupt { table }),
    }
}

/// Reads what a value begins with, and passes over the rest.
pub(crate) fn decode_start<'a, T: Deserialize<'a>>(table: &'static str, bytes: &'a [u8]) -> Result<T, RecordsError> {
    match bytes.split_first() {
        Some((&VALUE_VERSION, rest)) => {
            postcard::take_from_bytes(rest).map(|(start, _)| start).map_err(|_| RecordsError::Corrupt { table })
        }
        _ => Err(RecordsError::Corrupt { table }),
    }
}

/// Reads a struct and its stamp.
pub(crate) fn decode_stamped<T: DeserializeOwned>(
    table: &'static str,
    bytes: &[u8],
) -> Result<(Stamp, T), RecordsError> {
    let corrupt = RecordsError::Corrupt { table };
    let Some((&VALUE_VERSION, rest)) = bytes.split_first() else { return Err(corrupt) };
    let Some((stamp, rest)) = rest.split_first_chunk::<8>() else { return Err(corrupt) };
    let value = postcard::from_bytes(rest).map_err(|_| corrupt)?;
    Ok((Stamp(u64::from_be_bytes(*stamp)), value))
}

/// Reads only the stamp of a stamped value.
pub(crate) fn decode_stamp(table: &'static str, bytes: &[u8]) -> Result<Stamp, RecordsError> {
    let stamp = bytes.split_first().filter(|(version, _)| **version == VALUE_VERSION);
    let stamp = stamp.and_then(|(_, rest)| rest.first_chunk::<8>());
    stamp.map(|stamp| Stamp(u64::from_be_bytes(*stamp))).ok_or(RecordsError::Corrupt { table })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_version_is_corrupt() {
        let mut bytes = encode(&7_u32);
        assert_eq!(decode::<u32>("test", &bytes).unwrap(), 7);
        bytes[0] = 2;
        assert!(matches!(decode::<u32>("test", &bytes), Err(RecordsError::Corrupt { table: "test" })));
        assert!(decode::<u32>("test", &[]).is_err());
    }

    #[test]
    fn a_stamp_is_read_back_from_its_hole() {
        let bytes = encode_stamped(2, &"x".to_owned()).fill(Stamp(40));
        assert_eq!(decode_stamped::<String>("test", &bytes).unwrap(), (Stamp(42), "x".to_owned()));
        assert_eq!(encode_at(Stamp(42), &"x"), bytes);
    }
}
