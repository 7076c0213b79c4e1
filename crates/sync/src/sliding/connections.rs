//! The connections that are in use, in memory, and how they are stored.

use super::SlidingRequest;
use super::lists::Lists;
use crate::{Inner, SyncError, SyncToken};
use base::RoomNum;
use quick_cache::sync::Cache;
use records::{
    SlidingConnection, SlidingElement, SlidingRequired, SlidingRoom, SlidingScope, SlidingSent, SlidingVersion,
};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sync_core::sliding::connection::Row;
use sync_core::sliding::{Begun, Connection, Draft, Element, Position, RequiredState, Rules, Save, Sent, Wanted};
use tokio::sync::Notify;

/// How many connections a device has at most; the one that was changed least lately makes room.
const CONNECTIONS_MAX: usize = 16;

const BEGUN_ACCOUNT_DATA: u8 = 1;
const BEGUN_E2EE: u8 = 2;
const BEGUN_THREAD_SUBSCRIPTIONS: u8 = 4;

const SENT_DM: u8 = 1;
const SENT_ACCOUNT_DATA: u8 = 2;
const SENT_RECEIPTS: u8 = 4;

/// What tells a connection from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    user: OwnedUserId,
    device: OwnedDeviceId,
    connection: String,
}

impl Key {
    /// A key.
    pub fn new(user: &UserId, device: &DeviceId, connection: &str) -> Self {
        Self { user: user.to_owned(), device: device.to_owned(), connection: connection.to_owned() }
    }
}

/// The connections that are in use.
pub struct Connections(Cache<Key, Arc<Slot>>);

/// A connection's place in memory.
#[derive(Default)]
pub struct Slot {
    live: Mutex<Option<Live>>,
    turn: AtomicU64,
    /// Ends the request that waits when another one comes.
    pub superseded: Notify,
}

/// A connection in memory.
pub struct Live {
    pub connection: Connection,
    /// The order of rooms in its lists, as of the last look.
    pub lists: Option<Lists>,
    /// The user's direct chats, as of the last look.
    pub direct: Option<HashSet<RoomNum>>,
    /// After which look everything in the windows was told.
    pub scanned: Option<Scanned>,
    /// Not a thing of it is stored, and what is stored under its name is of an older one.
    is_new: bool,
}

/// A look after which everything in the windows of these rules was told.
pub struct Scanned {
    /// The version of the connection that it began with, or that it made.
    pub version: u64,
    /// Up to when it went.
    pub token: SyncToken,
    /// The rules.
    pub rules: Arc<SlidingRequest>,
}

impl Scanned {
    pub fn is_of(&self, version: u64, since: Option<SyncToken>, rules: &Rules) -> bool {
        self.version == version && Some(self.token) == since && self.rules.rules == *rules
    }
}

/// A request's turn.
pub struct Turn {
    pub number: u64,
    pub version: u64,
    pub since: Option<SyncToken>,
    pub draft: Draft,
}

/// What there is to store of a connection.
pub struct Stored {
    save: Save,
    replaces: bool,
}

impl Connections {
    /// At most so many are kept in memory.
    pub fn new(connections_max: usize) -> Self {
        Self(Cache::new(connections_max.max(1)))
    }

    pub fn slot(&self, key: &Key) -> Arc<Slot> {
        let Ok(slot) = self.0.get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        slot
    }

    /// Drops what is in memory of a connection: it is read again when it is needed.
    pub fn forget(&self, key: &Key) {
        self.0.remove(key);
    }
}

impl Slot {
    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes: it ends the one before it, and goes on from its position.
    pub fn begin(&self, inner: &Inner, request: &SlidingRequest) -> Result<Turn, SyncError> {
        let scope = scope(request);
        let mut live = self.live();
        let since = match &request.position {
            None => {
                let before = match live.take() {
                    Some(live) => Some(live.connection.newest_version()),
                    None => inner.records.view().sliding_connection(scope)?.map(|record| newest_version(&record)),
                };
                // Above all versions that any connection of this name had, even if it is not known any more.
                let version = before.map_or(0, |before| before.saturating_add(1)).max(inner.clock.now().0);
                *live = Some(Live::new(Connection::new(version), true));
                None
            }
            Some(position) => {
                let position: Position = position.parse().map_err(|_| SyncError::UnknownPosition)?;
                let owner = Position::owner(&request.user_id, &request.device_id, &request.connection);
                let view = inner.records.view();
                if position.owner != owner || position.token.stamp > view.stamp() {
                    return Err(SyncError::UnknownPosition);
                }
                if live.is_none() {
                    let record = view.sliding_connection(scope)?.ok_or(SyncError::UnknownPosition)?;
                    *live = Some(Live::new(restored(record, view.sliding_rooms(scope)?), false));
                }
                let known = live.as_mut().ok_or(SyncError::UnknownPosition)?;
                known.connection.present(position.version).map_err(|_| SyncError::UnknownPosition)?;
                inner.usable(Some(position.token), view.stamp())
            }
        };
        let known = live.as_ref().ok_or(SyncError::UnknownPosition)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        self.superseded.notify_waiters();
        Ok(Turn { number: turn, version: known.connection.version(), since, draft: known.connection.draft() })
    }

    /// Gives access to the connection, if it is still this request's turn.
    pub fn with<T>(&self, turn: u64, act: impl FnOnce(&mut Live) -> T) -> Option<T> {
        let mut live = self.live();
        (self.turn.load(Ordering::Relaxed) == turn).then(|| live.as_mut().map(act)).flatten()
    }

    /// Changes the connection as a response tells, if it is still this request's turn. Answers the version, and
    /// what there is to store.
    pub fn settle(&self, turn: u64, draft: Draft, token: SyncToken) -> Option<(u64, Option<Stored>)> {
        self.with(turn, |live| {
            let (version, save) = live.connection.settle(draft);
            if let Some(scanned) = live.scanned.as_mut().filter(|scanned| scanned.token == token) {
                scanned.version = version;
            }
            let save = save.map(|save| Stored { save, replaces: std::mem::take(&mut live.is_new) });
            (version, save)
        })
    }
}

impl Live {
    fn new(connection: Connection, is_new: bool) -> Self {
        Self { connection, lists: None, direct: None, scanned: None, is_new }
    }
}

impl Inner {
    /// Stores what a response changes. It need not wait for the disk: a client whose position is lost starts
    /// from scratch.
    pub(super) async fn save_connection(&self, request: &SlidingRequest, stored: Stored) -> Result<(), SyncError> {
        let scope = scope(request);
        let view = self.records.view();
        let mut changes = self.records.changes(&view);
        changes.derived();
        let Stored { save, replaces } = stored;
        if replaces {
            changes.clear_sliding_connection(scope)?;
            let mut others = view.sliding_connections(scope.user, scope.device)?;
            others.retain(|(name, _)| name != scope.connection);
            others.sort_by_key(|(_, record)| std::cmp::Reverse(record.at));
            for (connection, _) in others.iter().skip(CONNECTIONS_MAX - 1) {
                changes.clear_sliding_connection(SlidingScope { connection, ..scope })?;
                self.sliding.forget(&Key::new(scope.user, scope.device, connection));
            }
        }
        let record = SlidingConnection {
            confirmed: version_record(save.confirmed),
            pending: save.pending.map(version_record),
            wanted: save.wanted.iter().map(|wanted| wanted.parts().iter().map(required_record).collect()).collect(),
            at: self.clock.now(),
        };
        changes.put_sliding_connection(scope, &record);
        for (room, row) in &save.rooms {
            let row = SlidingRoom {
                confirmed: row.confirmed.as_ref().map(sent_record),
                pending: row.pending.as_ref().map(|(version, sent)| (*version, sent_record(sent))),
            };
            changes.put_sliding_room(scope, *room, &row);
        }
        drop(view);
        self.records.commit(changes).await?;
        Ok(())
    }
}

fn scope(request: &SlidingRequest) -> SlidingScope<'_> {
    SlidingScope { user: &request.user_id, device: &request.device_id, connection: &request.connection }
}

fn newest_version(record: &SlidingConnection) -> u64 {
    record.pending.map_or(0, |pending| pending.version).max(record.confirmed.version)
}

fn version_record((version, begun): (u64, Begun)) -> SlidingVersion {
    let mut bits = 0;
    let flags = [
        (begun.account_data, BEGUN_ACCOUNT_DATA),
        (begun.e2ee, BEGUN_E2EE),
        (begun.thread_subscriptions, BEGUN_THREAD_SUBSCRIPTIONS),
    ];
    for (is, bit) in flags {
        bits |= if is { bit } else { 0 };
    }
    SlidingVersion { version, begun: bits }
}

fn version(record: SlidingVersion) -> (u64, Begun) {
    let has = |bit: u8| record.begun & bit != 0;
    let begun = Begun {
        account_data: has(BEGUN_ACCOUNT_DATA),
        e2ee: has(BEGUN_E2EE),
        thread_subscriptions: has(BEGUN_THREAD_SUBSCRIPTIONS),
    };
    (record.version, begun)
}

fn required_record(required: &RequiredState) -> SlidingRequired {
    let elements = |elements: &[Element]| -> Vec<SlidingElement> {
        elements.iter().map(|element| (element.kind.clone(), element.state_key.clone())).collect()
    };
    SlidingRequired { include: elements(&required.include), exclude: elements(&required.exclude), lazy: required.lazy }
}

fn required(record: SlidingRequired) -> RequiredState {
    let elements = |elements: Vec<SlidingElement>| -> Vec<Element> {
        elements.into_iter().map(|(kind, state_key)| Element { kind, state_key }).collect()
    };
    RequiredState { include: elements(record.include), exclude: elements(record.exclude), lazy: record.lazy }
}

fn sent_record(sent: &Sent) -> SlidingSent {
    let mut flags = 0;
    for (is, bit) in [(sent.is_dm, SENT_DM), (sent.account_data, SENT_ACCOUNT_DATA), (sent.receipts, SENT_RECEIPTS)] {
        flags |= if is { bit } else { 0 };
    }
    SlidingSent {
        up_to: sent.up_to,
        wanted: sent.wanted,
        timeline: sent.timeline,
        flags,
        members: sent.members.clone(),
    }
}

fn sent(record: SlidingSent) -> Sent {
    let has = |bit: u8| record.flags & bit != 0;
    Sent {
        up_to: record.up_to,
        wanted: record.wanted,
        timeline: record.timeline,
        is_dm: has(SENT_DM),
        account_data: has(SENT_ACCOUNT_DATA),
        receipts: has(SENT_RECEIPTS),
        members: record.members,
    }
}

fn restored(record: SlidingConnection, rooms: Vec<(RoomNum, SlidingRoom)>) -> Connection {
    let row = |row: SlidingRoom| Row {
        confirmed: row.confirmed.map(sent),
        pending: row.pending.map(|(version, record)| (version, sent(record))),
    };
    Connection::restore(Save {
        confirmed: version(record.confirmed),
        pending: record.pending.map(version),
        wanted: record.wanted.into_iter().map(|parts| parts.into_iter().map(required).collect::<Wanted>()).collect(),
        rooms: rooms.into_iter().map(|(room, record)| (room, row(record))).collect(),
    })
}
