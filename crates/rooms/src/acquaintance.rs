//! Who knows of whom by the rooms that they are in.

use crate::{RoomError, Rooms};
use base::{EventNum, RoomNum};
use records::{Membership, View};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// How many rooms of somebody are looked at to see whether one of them makes them known to everybody.
const ROOMS_MAX: usize = 200;

/// Whom a user knows of: those with whom they share a room, and those who are in a room that everybody can join or
/// read (client-server API, `POST /user_directory/search`). It remembers what it has found out about rooms, so it
/// is for one request.
pub struct Acquaintance<'a> {
    rooms: &'a Rooms,
    view: View,
    own: HashSet<RoomNum>,
    open: HashMap<RoomNum, bool>,
}

impl Rooms {
    /// Whom a user knows of at a view.
    pub fn acquaintance(&self, view: &View, user: &UserId) -> Result<Acquaintance<'_>, RoomError> {
        let memberships = view.memberships(user)?.into_iter();
        let own = memberships.filter(|(_, _, record)| record.membership == Membership::Join).map(|(num, ..)| num);
        Ok(Acquaintance { rooms: self, view: view.clone(), own: own.collect(), open: HashMap::new() })
    }
}

/// Somebody with whom a user shares a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub user_id: OwnedUserId,
    /// A room that both are in.
    pub room: RoomNum,
    /// The event with which they are a member of it.
    pub member: EventNum,
}

/// How somebody is called in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// The name.
    pub displayname: Option<String>,
    /// The picture's `mxc:` URI.
    pub avatar_url: Option<String>,
}

impl Acquaintance<'_> {
    /// Those with whom the user shares a room, from the smallest rooms on, until they are so many: the rooms that are
    /// larger than what is left of that are passed over. Each comes once.
    pub fn neighbours(&self, users_max: usize) -> Result<Vec<Neighbour>, RoomError> {
        let mut rooms = Vec::with_capacity(self.own.len());
        for room in &self.own {
            rooms.extend(self.view.room_head(*room)?.map(|head| (head.joined, *room)));
        }
        rooms.sort_unstable();
        let (mut neighbours, mut seen, mut left) = (Vec::new(), HashSet::new(), users_max);
        for (joined, room) in rooms {
            let joined = usize::try_from(joined).unwrap_or(usize::MAX);
            if joined > left {
                break;
            }
            left -= joined;
            for (user_id, member) in self.view.room_members(room, Membership::Join, None, joined)? {
                if seen.insert(user_id.clone()) {
                    neighbours.push(Neighbour { user_id, room, member });
                }
            }
        }
        Ok(neighbours)
    }

    /// How somebody is called in the room that is shared with them.
    pub fn shown(&self, neighbour: &Neighbour) -> Result<Shown, RoomError> {
        let Some(reader) = self.rooms.reader(&self.view, neighbour.room)? else { return Ok(Shown::default()) };
        let member = reader.event(neighbour.member)?;
        Ok(member.and_then(|member| serde_json::from_str(member.pdu.content().get()).ok()).unwrap_or_default())
    }

    /// Whether the user knows of another one.
    pub fn knows(&mut self, other: &UserId) -> Result<bool, RoomError> {
        let memberships = self.view.memberships(other)?;
        let joined = memberships.into_iter().filter(|(_, _, record)| record.membership == Membership::Join);
        let joined: Vec<RoomNum> = joined.map(|(num, ..)| num).collect();
        if joined.iter().any(|num| self.own.contains(num)) {
            return Ok(true);
        }
        for num in joined.into_iter().take(ROOMS_MAX) {
            if self.is_open(num)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_open(&mut self, num: RoomNum) -> Result<bool, RoomError> {
        if let Some(open) = self.open.get(&num) {
            return Ok(*open);
        }
        let open = match self.rooms.reader(&self.view, num)? {
            Some(reader) => reader.is_public()? || reader.is_world_readable()?,
            None => false,
        };
        self.open.insert(num, open);
        Ok(open)
    }
}
