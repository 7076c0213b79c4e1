//! The limits of the protocol and of this server, named. A limit that an operator may change is in the
//! configuration of the crate that enforces it instead.

/// The largest event, in bytes of canonical JSON (client-server API, "Size limits").
pub const PDU_BYTES_MAX: usize = 65_536;
/// The longest user id, room id, event type, state key or sender, in bytes (same section).
pub const ID_BYTES_MAX: usize = 255;
/// The deepest nesting of JSON that is read from the network.
pub const JSON_DEPTH_MAX: usize = 100;
/// The longest key of the store, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// The largest value of the store, in bytes.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// The size at which writers split their work over several batches, in bytes.
pub const BATCH_BYTES_SOFT_MAX: usize = 1024 * 1024;
/// The largest batch that an engine accepts, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most rows that one scan of the store returns.
pub const SCAN_ROWS_MAX: usize = 10_000;
