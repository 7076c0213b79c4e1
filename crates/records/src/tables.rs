//! The tables: each has a byte that starts its keys, a family, and a name for errors.

use crate::codec::{self, RecordsError};
use base::Stamp;
use serde::de::DeserializeOwned;
use store::Family;
use store::key::KeyBuilder;

/// A table of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The first byte of every key; unique over all families.
    pub byte: u8,
    /// Where its keys are.
    pub family: Family,
    /// What errors call it.
    pub name: &'static str,
}

impl Table {
    const fn new(byte: u8, family: Family, name: &'static str) -> Self {
        Self { byte, family, name }
    }

    /// Begins a key.
    pub fn key(&self) -> KeyBuilder {
        KeyBuilder::table(self.byte)
    }

    /// Reads a value of this table.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, RecordsError> {
        codec::decode(self.name, bytes)
    }

    /// Reads a stamped value of this table.
    pub fn decode_stamped<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<(Stamp, T), RecordsError> {
        codec::decode_stamped(self.name, bytes)
    }

    /// What to say of a key that has not this table's shape.
    pub fn corrupt(&self) -> RecordsError {
        RecordsError::Corrupt { table: self.name }
    }
}

// The store itself: 1 to 9.
pub(crate) const SCHEMA: Table = Table::new(1, Family::Points, "schema");
pub(crate) const IDS: Table = Table::new(2, Family::Points, "ids");
pub(crate) const LOG: Table = Table::new(3, Family::Log, "log");

// Rooms: 10 to 39.
pub(crate) const ROOM_BY_ID: Table = Table::new(10, Family::Points, "room_by_id");
pub(crate) const ROOM_HEAD: Table = Table::new(11, Family::Points, "room_head");
pub(crate) const EVENT: Table = Table::new(12, Family::Events, "event");
pub(crate) const EVENT_BY_ID: Table = Table::new(13, Family::Points, "event_by_id");
pub(crate) const TIMELINE: Table = Table::new(14, Family::Ranges, "timeline");
pub(crate) const STATE_NODE: Table = Table::new(15, Family::Nodes, "state_node");
pub(crate) const MEMBERSHIP: Table = Table::new(16, Family::Ranges, "membership");
pub(crate) const ROOM_MEMBER: Table = Table::new(17, Family::Ranges, "room_member");
pub(crate) const ALIAS: Table = Table::new(18, Family::Points, "alias");
pub(crate) const ROOM_ALIAS: Table = Table::new(19, Family::Ranges, "room_alias");
pub(crate) const PUBLISHED: Table = Table::new(20, Family::Ranges, "published");
pub(crate) const TXN: Table = Table::new(21, Family::Points, "txn");
pub(crate) const TXN_BY_TIME: Table = Table::new(22, Family::Log, "txn_by_time");
pub(crate) const RELATION: Table = Table::new(23, Family::Ranges, "relation");
pub(crate) const RELATED: Table = Table::new(24, Family::Points, "related");
pub(crate) const EDIT: Table = Table::new(25, Family::Ranges, "edit");
pub(crate) const THREAD: Table = Table::new(26, Family::Ranges, "thread");
pub(crate) const RELATION_SENDER: Table = Table::new(27, Family::Ranges, "relation_sender");
pub(crate) const LISTED: Table = Table::new(28, Family::Ranges, "listed");
pub(crate) const LISTED_COUNT: Table = Table::new(29, Family::Points, "listed_count");
pub(crate) const TIME: Table = Table::new(30, Family::Ranges, "time");
pub(crate) const REPORT: Table = Table::new(31, Family::Log, "report");
pub(crate) const NOTICE_ROOM: Table = Table::new(32, Family::Points, "notice_room");
pub(crate) const REGISTRATION_TOKEN: Table = Table::new(33, Family::Ranges, "registration_token");
pub(crate) const JOB: Table = Table::new(36, Family::Ranges, "job");
pub(crate) const BLOCKED_ROOM: Table = Table::new(38, Family::Points, "blocked_room");
pub(crate) const STAY: Table = Table::new(34, Family::Ranges, "stay");
pub(crate) const PENDING_REDACTION: Table = Table::new(35, Family::Ranges, "pending_redaction");

// Receipts and other things about rooms that are not events: 40 to 49.
pub(crate) const RECEIPT: Table = Table::new(40, Family::Points, "receipt");
pub(crate) const ROOM_LAST: Table = Table::new(42, Family::Points, "room_last");
pub(crate) const RECEIPT_BY_STAMP: Table = Table::new(41, Family::Ranges, "receipt_by_stamp");

// Accounts, devices, sessions, what users store: 50 to 79.
pub(crate) const USER: Table = Table::new(50, Family::Points, "user");
pub(crate) const DEVICE: Table = Table::new(51, Family::Ranges, "device");
pub(crate) const ACCESS_TOKEN: Table = Table::new(52, Family::Points, "access_token");
pub(crate) const REFRESH_TOKEN: Table = Table::new(53, Family::Points, "refresh_token");
pub(crate) const DEVICE_TOKEN: Table = Table::new(54, Family::Ranges, "device_token");
pub(crate) const LAST_SEEN: Table = Table::new(55, Family::Ranges, "last_seen");
pub(crate) const PROFILE: Table = Table::new(56, Family::Points, "profile");
pub(crate) const ACCOUNT_DATA: Table = Table::new(57, Family::Ranges, "account_data");
pub(crate) const ACCOUNT_DATA_BY_STAMP: Table = Table::new(58, Family::Ranges, "account_data_by_stamp");
pub(crate) const FILTER: Table = Table::new(59, Family::Ranges, "filter");
pub(crate) const ACCOUNT_DATA_USAGE: Table = Table::new(60, Family::Points, "account_data_usage");
pub(crate) const ENDED: Table = Table::new(61, Family::Points, "ended");
pub(crate) const DEPARTING: Table = Table::new(62, Family::Points, "departing");
pub(crate) const ERASED: Table = Table::new(63, Family::Points, "erased");
pub(crate) const ERASED_LAST: Table = Table::new(64, Family::Points, "erased_last");
pub(crate) const FOLLOWER: Table = Table::new(4, Family::Ranges, "follower");
pub(crate) const LOG_TRIMMED: Table = Table::new(65, Family::Points, "log_trimmed");
pub(crate) const OPENID_TOKEN: Table = Table::new(76, Family::Points, "openid_token");
pub(crate) const OPENID_TOKEN_BY_EXPIRY: Table = Table::new(77, Family::Log, "openid_token_by_expiry");

// Where users are told of what happens outside of their clients, and by what they are known: 66 to 75.
pub(crate) const PUSHER: Table = Table::new(66, Family::Ranges, "pusher");
pub(crate) const PUSHER_BY_KEY: Table = Table::new(67, Family::Ranges, "pusher_by_key");
pub(crate) const PUSH_LAG: Table = Table::new(68, Family::Ranges, "push_lag");
pub(crate) const THREEPID: Table = Table::new(69, Family::Points, "threepid");
pub(crate) const THREEPID_OF: Table = Table::new(70, Family::Ranges, "threepid_of");
pub(crate) const VALIDATION: Table = Table::new(71, Family::Points, "validation");
pub(crate) const VALIDATION_OF: Table = Table::new(72, Family::Points, "validation_of");
pub(crate) const VALIDATION_BY_TIME: Table = Table::new(73, Family::Ranges, "validation_by_time");

// What users have read, and who is there: 100 to 109.
pub(crate) const READ_STATE: Table = Table::new(100, Family::Points, "read_state");
pub(crate) const PRESENCE: Table = Table::new(101, Family::Points, "presence");
pub(crate) const THREAD_SUBSCRIPTION: Table = Table::new(106, Family::Points, "thread_subscription");
pub(crate) const THREAD_SUBSCRIPTION_BY_STAMP: Table = Table::new(107, Family::Ranges, "thread_subscription_by_stamp");
pub(crate) const THREAD_SUBSCRIPTION_COUNT: Table = Table::new(108, Family::Points, "thread_subscription_count");

// Delayed events: 140 to 143.
pub(crate) const DELAYED: Table = Table::new(140, Family::Points, "delayed");
pub(crate) const DELAYED_BY_TIME: Table = Table::new(141, Family::Ranges, "delayed_by_time");
pub(crate) const DELAYED_OF_USER: Table = Table::new(142, Family::Ranges, "delayed_of_user");
pub(crate) const DELAYED_TXN: Table = Table::new(143, Family::Points, "delayed_txn");

// Connections of sliding sync: 110 to 114.
pub(crate) const SLIDING_CONNECTION: Table = Table::new(110, Family::Ranges, "sliding_connection");
pub(crate) const SLIDING_ROOM: Table = Table::new(111, Family::Ranges, "sliding_room");

// Search: 120 to 124.
pub(crate) const SEARCH_INDEX: Table = Table::new(120, Family::Points, "search_index");

// The user directory: 125 to 127.
pub(crate) const FOUND_USER: Table = Table::new(125, Family::Points, "found_user");
pub(crate) const FOUND_WORD: Table = Table::new(126, Family::Ranges, "found_word");
// Media: 128 to 139.
pub(crate) const MEDIA: Table = Table::new(128, Family::Ranges, "media");
pub(crate) const MEDIA_OF_USER: Table = Table::new(129, Family::Ranges, "media_of_user");
pub(crate) const MEDIA_USAGE: Table = Table::new(130, Family::Points, "media_usage");
pub(crate) const MEDIA_PENDING: Table = Table::new(131, Family::Ranges, "media_pending");
pub(crate) const MEDIA_ACCESS: Table = Table::new(132, Family::Points, "media_access");
pub(crate) const BLOB: Table = Table::new(133, Family::Points, "blob");
pub(crate) const BLOB_MEDIA: Table = Table::new(134, Family::Ranges, "blob_media");
pub(crate) const BLOB_BLOCKED: Table = Table::new(135, Family::Points, "blob_blocked");
pub(crate) const BLOB_VERDICT: Table = Table::new(136, Family::Points, "blob_verdict");
pub(crate) const THUMBNAIL: Table = Table::new(137, Family::Ranges, "thumbnail");
pub(crate) const URL_PREVIEW: Table = Table::new(138, Family::Ranges, "url_preview");

// End-to-end encryption: messages to devices, keys, backups: 80 to 99.
pub(crate) const TO_DEVICE: Table = Table::new(80, Family::Ranges, "to_device");
pub(crate) const ONE_TIME_STATE: Table = Table::new(81, Family::Points, "one_time_state");
pub(crate) const ONE_TIME_KEY: Table = Table::new(82, Family::Ranges, "one_time_key");
pub(crate) const DEVICE_KEYS: Table = Table::new(83, Family::Ranges, "device_keys");
pub(crate) const CROSS_SIGNING: Table = Table::new(84, Family::Points, "cross_signing");
pub(crate) const USER_SIGNATURE: Table = Table::new(85, Family::Ranges, "user_signature");
pub(crate) const DEVICE_LIST: Table = Table::new(86, Family::Points, "device_list");
pub(crate) const DEVICE_LIST_BY_STAMP: Table = Table::new(87, Family::Log, "device_list_by_stamp");
pub(crate) const SIGNED_BY_STAMP: Table = Table::new(88, Family::Ranges, "signed_by_stamp");
pub(crate) const DEHYDRATED: Table = Table::new(89, Family::Points, "dehydrated");
pub(crate) const BACKUP_NEXT: Table = Table::new(90, Family::Points, "backup_next");
pub(crate) const BACKUP: Table = Table::new(91, Family::Ranges, "backup");
pub(crate) const BACKUP_KEY: Table = Table::new(92, Family::Ranges, "backup_key");

// Other servers: 150 to 159.
pub(crate) const SERVER_KEY: Table = Table::new(150, Family::Ranges, "server_key");
pub(crate) const SERVER_KEYS: Table = Table::new(151, Family::Points, "server_keys");

// Federation: 160 to 169.
pub(crate) const ROOM_SERVER: Table = Table::new(160, Family::Ranges, "room_server");
pub(crate) const SERVER_ROOM: Table = Table::new(161, Family::Ranges, "server_room");
pub(crate) const RELAYED: Table = Table::new(162, Family::Points, "relayed");
pub(crate) const DESTINATION: Table = Table::new(163, Family::Ranges, "destination");
pub(crate) const OUTGOING_EDU: Table = Table::new(164, Family::Ranges, "outgoing_edu");
pub(crate) const REMOTE_DEVICES: Table = Table::new(165, Family::Points, "remote_devices");
