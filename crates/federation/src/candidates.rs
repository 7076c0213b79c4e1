//! Whom to ask about a room.

use crate::{Federation, FederationError};
use records::Membership;
use ruma::{OwnedServerName, RoomId, ServerName, UserId};

/// How many servers of a room are looked at to find some to ask.
const SERVERS_LOOKED_AT: usize = 50;
/// How many servers are asked to let a user into a room.
const DOORS_MAX: usize = 8;

impl Federation {
    /// The servers to ask to let a user into a room, the most promising first: those that were named, the one of who
    /// invited the user, the one that the room was made on, and those that were in it when this server last was.
    pub(crate) fn doors(
        &self,
        room_id: &RoomId,
        user: &UserId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>, FederationError> {
        let mut servers = via.to_vec();
        let view = self.0.records.view();
        if let Some(num) = view.room_num(room_id)? {
            if let Some((_, record)) = view.membership(user, num)?
                && record.membership == Membership::Invite
            {
                servers.push(record.sender.server_name().to_owned());
            }
            servers.extend(view.room_servers(num, None, SERVERS_LOOKED_AT)?.into_iter().map(|(server, _)| server));
        }
        servers.extend(room_id.server_name().map(ToOwned::to_owned));
        Ok(self.distinct(servers, DOORS_MAX))
    }

    /// The servers to ask about a room's events: `first`, and some others that are in the room.
    pub(crate) fn residents(
        &self,
        room_id: &RoomId,
        first: &[OwnedServerName],
        servers_max: usize,
    ) -> Result<Vec<OwnedServerName>, FederationError> {
        let mut servers = first.to_vec();
        let view = self.0.records.view();
        if let Some(num) = view.room_num(room_id)? {
            let mut others = view.room_servers(num, None, SERVERS_LOOKED_AT)?;
            // Those with many members are more likely to know, and to be there.
            others.sort_by_key(|(_, members)| std::cmp::Reverse(*members));
            servers.extend(others.into_iter().map(|(server, _)| server));
        }
        Ok(self.distinct(servers, servers_max))
    }

    /// Other servers, each once.
    fn distinct(&self, servers: Vec<OwnedServerName>, servers_max: usize) -> Vec<OwnedServerName> {
        let mut distinct: Vec<OwnedServerName> = Vec::new();
        for server in servers {
            if self.is_remote(&server) && !distinct.contains(&server) {
                distinct.push(server);
            }
        }
        distinct.truncate(servers_max);
        distinct
    }

    /// The servers with members in a room.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn is_in_room(&self, server: &ServerName, room_id: &RoomId) -> Result<bool, FederationError> {
        let view = self.0.records.view();
        match view.room_num(room_id)? {
            Some(num) => Ok(view.joined_of_server(num, server)? > 0),
            None => Ok(false),
        }
    }
}
