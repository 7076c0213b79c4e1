//! Who is told of an entry of the log.

use super::Item;
use crate::{Federation, FederationError};
use base::RoomNum;
use records::{LogEntry, Membership, View};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use std::collections::BTreeSet;

/// How many servers of a room are read at once.
const SERVERS_PAGE: usize = 1_000;
/// Of how many of a user's rooms the servers are told that the user's devices have changed.
const ROOMS_MAX: usize = 10_000;

impl Federation {
    /// Says to `tell` which servers are to be told what because of an entry of the log.
    pub(super) fn route(
        &self,
        view: &View,
        entry: &LogEntry,
        mut tell: impl FnMut(&ServerName, Item),
    ) -> Result<(), FederationError> {
        match entry {
            LogEntry::Event { room, event, .. } => {
                let Some((own, also)) = self.concerns(view, *room, *event)? else { return Ok(()) };
                let mut servers = self.others_in(view, *room)?;
                servers.extend(also.into_iter().filter(|server| self.is_remote(server)));
                servers.remove(&own);
                for server in &servers {
                    tell(server, Item::Event(*event));
                }
            }
            LogEntry::Receipt { room, user, private: false } if self.is_own(user) => {
                for server in &self.others_in(view, *room)? {
                    tell(server, Item::Receipt { room: *room, user: user.clone() });
                }
            }
            LogEntry::DeviceList { user } if self.is_own(user) => {
                for server in &self.servers_around(view, user)? {
                    tell(server, Item::Devices(user.clone()));
                }
            }
            LogEntry::ToDevice { users } => {
                let servers: BTreeSet<&ServerName> =
                    users.iter().filter(|user| !self.is_own(user)).map(|user| user.server_name()).collect();
                for server in servers {
                    tell(server, Item::Messages);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_own(&self, user: &UserId) -> bool {
        !self.is_remote(user.server_name())
    }

    /// Whether an event is this server's to tell; then whose it is, and who is to be told of it beside those in the
    /// room: the server of a user who is not in it any more because of it.
    fn concerns(
        &self,
        view: &View,
        room: RoomNum,
        event: base::EventNum,
    ) -> Result<Option<(OwnedServerName, Option<OwnedServerName>)>, FederationError> {
        let Some(reader) = self.0.rooms.reader(view, room)? else { return Ok(None) };
        let Some(event) = reader.event(event)? else { return Ok(None) };
        let pdu = &event.pdu;
        if !self.is_own(pdu.sender()) && !view.is_relayed(pdu.event_id())? {
            return Ok(None);
        }
        let member = pdu.state_key().filter(|_| pdu.kind_str() == "m.room.member");
        let member = member.and_then(|member| OwnedUserId::try_from(member).ok());
        let also = member.filter(|_| {
            let membership = crate::receive::membership(pdu);
            matches!(membership.as_deref(), Some("leave" | "ban"))
        });
        Ok(Some((pdu.sender().server_name().to_owned(), also.map(|member| member.server_name().to_owned()))))
    }

    /// The other servers with members in a room.
    pub(super) fn others_in(&self, view: &View, room: RoomNum) -> Result<BTreeSet<OwnedServerName>, FederationError> {
        let mut servers = BTreeSet::new();
        let mut after: Option<OwnedServerName> = None;
        loop {
            let page = view.room_servers(room, after.as_deref(), SERVERS_PAGE)?;
            let full = page.len() == SERVERS_PAGE;
            after = page.last().map(|(server, _)| server.clone());
            servers.extend(page.into_iter().map(|(server, _)| server).filter(|server| self.is_remote(server)));
            if !full {
                return Ok(servers);
            }
        }
    }

    /// The other servers with members in rooms that a user is in.
    pub(super) fn servers_around(
        &self,
        view: &View,
        user: &UserId,
    ) -> Result<BTreeSet<OwnedServerName>, FederationError> {
        let mut servers = BTreeSet::new();
        let joined = view.memberships(user)?.into_iter().filter(|(_, _, record)| record.membership == Membership::Join);
        for (room, ..) in joined.take(ROOMS_MAX) {
            servers.extend(self.others_in(view, room)?);
        }
        Ok(servers)
    }
}
