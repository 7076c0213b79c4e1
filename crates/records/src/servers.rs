//! Which servers take part in which rooms: those with a joined member. Written with the memberships that say so.

use crate::codec::RecordsError;
use crate::tables::{ROOM_SERVER, SERVER_ROOM};
use crate::{Changes, View};
use base::RoomNum;
use ruma::{OwnedServerName, ServerName};
use store::Direction;
use store::key::KeyReader;

fn room_server(room: RoomNum, server: &ServerName) -> Vec<u8> {
    ROOM_SERVER.key().number(room.0).text(server.as_str()).build()
}

fn server_room(server: &ServerName, room: RoomNum) -> Vec<u8> {
    SERVER_ROOM.key().text(server.as_str()).number(room.0).build()
}

impl View {
    /// How many members of a server have joined a room.
    pub fn joined_of_server(&self, room: RoomNum, server: &ServerName) -> Result<u64, RecordsError> {
        Ok(self.get(ROOM_SERVER, &room_server(room, server))?.unwrap_or_default())
    }

    /// The servers with joined members in a room, in the order of their names, from the one after `after`, each with
    /// the number of its members.
    pub fn room_servers(
        &self,
        room: RoomNum,
        after: Option<&ServerName>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedServerName, u64)>, RecordsError> {
        let (mut from, to) = ROOM_SERVER.key().number(room.0).prefix_range();
        if let Some(after) = after {
            from = room_server(room, after);
            from.push(0);
        }
        let rows = self.scan(ROOM_SERVER, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let server = reader.number().and_then(|_| reader.text());
                let server = server.and_then(|server| OwnedServerName::try_from(server).ok());
                Ok((server.ok_or_else(|| ROOM_SERVER.corrupt())?, ROOM_SERVER.decode(value)?))
            })
            .collect()
    }

    /// The rooms in which a server has joined members, in the order of their numbers, from the one after `after`.
    pub fn rooms_of_server(
        &self,
        server: &ServerName,
        after: Option<RoomNum>,
        rows_max: usize,
    ) -> Result<Vec<RoomNum>, RecordsError> {
        let (mut from, to) = SERVER_ROOM.key().text(server.as_str()).prefix_range();
        if let Some(after) = after {
            from = server_room(server, after);
            from.push(0);
        }
        let rows = self.scan(SERVER_ROOM, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let room = reader.text().and_then(|_| reader.number());
                room.map(RoomNum).ok_or_else(|| SERVER_ROOM.corrupt())
            })
            .collect()
    }
}

impl Changes {
    /// How many members of a server have joined a room, after these changes.
    pub fn joined_of_server(&self, room: RoomNum, server: &ServerName) -> Result<u64, RecordsError> {
        Ok(self.get(ROOM_SERVER, &room_server(room, server))?.unwrap_or_default())
    }

    /// Counts one joined member of a server in a room more, or one less.
    pub fn count_server(&mut self, room: RoomNum, server: &ServerName, joins: bool) -> Result<(), RecordsError> {
        let count = self.joined_of_server(room, server)?;
        let now = if joins { count.saturating_add(1) } else { count.saturating_sub(1) };
        if now == 0 {
            self.clear(ROOM_SERVER, room_server(room, server));
            self.clear(SERVER_ROOM, server_room(server, room));
        } else {
            self.put(ROOM_SERVER, room_server(room, server), &now);
            if count == 0 {
                self.put(SERVER_ROOM, server_room(server, room), &());
            }
        }
        Ok(())
    }
}
