//! Connections of sliding sync (MSC4186): what each was told, so that it goes on after a restart.
//!
//! A connection is one row, and one more for each room that it was told of: a response writes what it tells,
//! not all that was told before. All of it can be lost without harm: the client then starts from scratch.

use crate::codec::RecordsError;
use crate::tables::{SLIDING_CONNECTION, SLIDING_ROOM};
use crate::{Changes, View};
use base::{EventNum, RoomNum, Stamp, UnixMillis};
use ruma::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};

/// What a connection is unique in.
#[derive(Clone, Copy, Debug)]
pub struct SlidingScope<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Their device.
    pub device: &'a DeviceId,
    /// The name that the client gave the connection; may be empty.
    pub connection: &'a str,
}

/// A version of what a connection was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingVersion {
    /// Its number.
    pub version: u64,
    /// What was begun to be told that is of no room: a bit each.
    pub begun: u8,
}

/// A pattern of state: type and state key.
pub type SlidingElement = (Option<String>, Option<String>);

/// The state that one rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingRequired {
    /// What is wanted.
    pub include: Vec<SlidingElement>,
    /// What of it is not.
    pub exclude: Vec<SlidingElement>,
    /// Whether members are sent as they are needed.
    pub lazy: bool,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingConnection {
    /// What the client has confirmed.
    pub confirmed: SlidingVersion,
    /// What it has not.
    pub pending: Option<SlidingVersion>,
    /// The wishes for state that its rooms refer to by number, each that of several rules together.
    pub wanted: Vec<Vec<SlidingRequired>>,
    /// When this was written.
    pub at: UnixMillis,
}

/// What a connection was told of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingSent {
    /// Up to when; none for up to the client's position.
    pub up_to: Option<Stamp>,
    /// The number of the wish for state.
    pub wanted: u16,
    /// The most events of the timeline.
    pub timeline: u32,
    /// What else was told: a bit each.
    pub flags: u8,
    /// The membership events that were sent.
    pub members: Vec<EventNum>,
}

/// A room of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingRoom {
    /// What the client has confirmed.
    pub confirmed: Option<SlidingSent>,
    /// What it has not, with the number of the version.
    pub pending: Option<(u64, SlidingSent)>,
}

fn connections_of(user: &UserId, device: &DeviceId) -> KeyBuilder {
    SLIDING_CONNECTION.key().text(user.as_str()).text(device.as_str())
}

fn connection_key(scope: SlidingScope<'_>) -> Vec<u8> {
    connections_of(scope.user, scope.device).text(scope.connection).build()
}

fn rooms_of(scope: SlidingScope<'_>) -> KeyBuilder {
    SLIDING_ROOM.key().text(scope.user.as_str()).text(scope.device.as_str()).text(scope.connection)
}

impl View {
    /// A connection.
    pub fn sliding_connection(&self, scope: SlidingScope<'_>) -> Result<Option<SlidingConnection>, RecordsError> {
        self.get(SLIDING_CONNECTION, &connection_key(scope))
    }

    /// The connections of a device by name. Whoever adds one keeps them few.
    pub fn sliding_connections(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Vec<(String, SlidingConnection)>, RecordsError> {
        let rows = self.scan_all(SLIDING_CONNECTION, connections_of(user, device).prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let name = reader.text().and_then(|_| reader.text()).and_then(|_| reader.text());
                let name = name.ok_or_else(|| SLIDING_CONNECTION.corrupt())?;
                Ok((name.to_owned(), SLIDING_CONNECTION.decode(value)?))
            })
            .collect()
    }

    /// The rooms that a connection was told of.
    pub fn sliding_rooms(&self, scope: SlidingScope<'_>) -> Result<Vec<(RoomNum, SlidingRoom)>, RecordsError> {
        let rows = self.scan_all(SLIDING_ROOM, rooms_of(scope).prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let room = reader.text().and_then(|_| reader.text()).and_then(|_| reader.text());
                let room = room.and_then(|_| reader.number()).ok_or_else(|| SLIDING_ROOM.corrupt())?;
                Ok((RoomNum(room), SLIDING_ROOM.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Writes a connection's own row.
    pub fn put_sliding_connection(&mut self, scope: SlidingScope<'_>, record: &SlidingConnection) {
        self.put(SLIDING_CONNECTION, connection_key(scope), record);
    }

    /// Writes a room of a connection, or removes it if there is nothing to say of it.
    pub fn put_sliding_room(&mut self, scope: SlidingScope<'_>, room: RoomNum, record: &SlidingRoom) {
        let key = rooms_of(scope).number(room.0).build();
        if record.confirmed.is_none() && record.pending.is_none() {
            self.clear(SLIDING_ROOM, key);
        } else {
            self.put(SLIDING_ROOM, key, record);
        }
    }

    /// Removes a connection and its rooms.
    pub fn clear_sliding_connection(&mut self, scope: SlidingScope<'_>) -> Result<(), RecordsError> {
        // Row by row: ranges that are cleared often make what is read next to them slow.
        for (room, _) in self.view().sliding_rooms(scope)? {
            self.clear(SLIDING_ROOM, rooms_of(scope).number(room.0).build());
        }
        self.clear(SLIDING_CONNECTION, connection_key(scope));
        Ok(())
    }

    /// Removes all connections of a device, which is gone.
    pub(crate) fn clear_sliding_connections(&mut self, user: &UserId, device: &DeviceId) {
        self.clear_range(SLIDING_CONNECTION, connections_of(user, device).prefix_range());
        let rooms = SLIDING_ROOM.key().text(user.as_str()).text(device.as_str());
        self.clear_range(SLIDING_ROOM, rooms.prefix_range());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{device_id, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    fn scope(connection: &str) -> SlidingScope<'_> {
        SlidingScope { user: user_id!("@a:x"), device: device_id!("D"), connection }
    }

    fn connection(version: u64) -> SlidingConnection {
        let confirmed = SlidingVersion { version, begun: 1 };
        SlidingConnection { confirmed, pending: None, wanted: Vec::new(), at: UnixMillis(7) }
    }

    fn room(up_to: u64) -> SlidingRoom {
        let sent = SlidingSent { up_to: Some(Stamp(up_to)), wanted: 0, timeline: 1, flags: 0, members: Vec::new() };
        SlidingRoom { confirmed: Some(sent), pending: None }
    }

    #[tokio::test]
    async fn connections_are_kept_apart_and_removed_whole() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut changes = records.changes(&records.view());
        for (name, version) in [("", 1), ("b", 2)] {
            changes.put_sliding_connection(scope(name), &connection(version));
            changes.put_sliding_room(scope(name), RoomNum(version), &room(version));
        }
        records.commit(changes).await.unwrap();
        let view = records.view();
        assert_eq!(view.sliding_connection(scope("b")).unwrap(), Some(connection(2)));
        assert_eq!(view.sliding_rooms(scope("")).unwrap(), [(RoomNum(1), room(1))]);
        let names = |view: &View| -> Vec<String> {
            let found = view.sliding_connections(user_id!("@a:x"), device_id!("D")).unwrap();
            found.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&view), ["b", ""], "in the order of their keys");

        let mut changes = records.changes(&view);
        changes.clear_sliding_connection(scope("")).unwrap();
        changes.put_sliding_room(scope("b"), RoomNum(2), &SlidingRoom { confirmed: None, pending: None });
        records.commit(changes).await.unwrap();
        let view = records.view();
        assert_eq!(names(&view), ["b"]);
        assert!(
            view.sliding_rooms(scope("")).unwrap().is_empty() && view.sliding_rooms(scope("b")).unwrap().is_empty()
        );

        let mut changes = records.changes(&view);
        changes.clear_sliding_connections(user_id!("@a:x"), device_id!("D"));
        records.commit(changes).await.unwrap();
        assert_eq!(names(&records.view()), [""; 0]);
    }
}
