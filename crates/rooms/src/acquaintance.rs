//! Who knows of whom by the rooms that they are in.

use crate::{RoomError, Rooms};
use base::RoomNum;
use records::{Membership, View};
use ruma::UserId;
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

impl Acquaintance<'_> {
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
