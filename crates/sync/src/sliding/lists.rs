//! The lists of a connection, kept in order as things happen.

use super::catalog::Catalog;
use crate::SyncError;
use base::RoomNum;
use records::{Membership, MembershipRecord};
use ruma::OwnedRoomId;
use std::collections::{BTreeMap, HashSet};
use sync_core::sliding::{ListFilter, ListRule, Match, RoomOrder};

/// The lists of a connection as of the last look.
#[derive(Default)]
pub struct Lists(Vec<List>);

struct List {
    name: String,
    filter: ListFilter,
    order: RoomOrder,
    /// The rooms that the filter's spaces name.
    children: HashSet<OwnedRoomId>,
}

/// What has changed since the lists were looked at.
pub struct Changes<'a> {
    /// The rooms in which something happened that may move them.
    pub rooms: Vec<RoomNum>,
    /// Whether other rooms are direct chats than before.
    pub direct: bool,
    /// Whether a room is known to the connection.
    pub is_told: &'a dyn Fn(RoomNum) -> bool,
}

impl Lists {
    /// Whether some of these lists would have to be sorted from all of the user's rooms.
    pub fn lacks(&self, rules: &BTreeMap<String, ListRule>) -> bool {
        rules.iter().any(|(name, rule)| !self.0.iter().any(|list| list.name == *name && list.filter == rule.filter))
    }

    /// Brings the lists up to date with what changed, and sorts those that are new. Answers whether rooms may
    /// have come into a window in which nothing happened.
    pub fn refresh(
        &mut self,
        catalog: &Catalog<'_>,
        rules: &BTreeMap<String, ListRule>,
        changes: &Changes<'_>,
    ) -> Result<bool, SyncError> {
        self.0.retain(|list| rules.get(&list.name).is_some_and(|rule| rule.filter == list.filter));
        let spaces = self.0.iter().any(|list| list.filter.spaces.is_some());
        let mut moved = false;
        let mut to_sort: Vec<usize> = Vec::new();
        for (index, list) in self.0.iter_mut().enumerate() {
            let by_direct = changes.direct && list.filter.is_dm.is_some();
            if by_direct || (spaces && list.is_of_other_children(catalog, &changes.rooms)?) {
                to_sort.push(index);
            }
        }
        for room in &changes.rooms {
            let membership = catalog.view.membership(catalog.user, *room)?;
            let is_told = (changes.is_told)(*room);
            for list in &mut self.0 {
                let at = match &membership {
                    Some((at, record)) => list.place(catalog, (*room, *at, record), is_told)?,
                    None => None,
                };
                let from_below = rules.get(&list.name).is_some_and(ListRule::has_range_below_top);
                moved |= list.order.place(*room, at) || from_below;
            }
        }
        for (name, rule) in rules {
            if !self.0.iter().any(|list| list.name == *name) {
                to_sort.push(self.0.len());
                let (name, filter) = (name.clone(), rule.filter.clone());
                self.0.push(List { name, filter, order: RoomOrder::default(), children: HashSet::new() });
            }
        }
        if !to_sort.is_empty() {
            self.sort(catalog, &to_sort, changes.is_told)?;
            moved = true;
        }
        Ok(moved)
    }

    /// Sorts lists from all rooms of the user.
    fn sort(
        &mut self,
        catalog: &Catalog<'_>,
        which: &[usize],
        is_told: &dyn Fn(RoomNum) -> bool,
    ) -> Result<(), SyncError> {
        let memberships = catalog.view.memberships(catalog.user)?;
        let (joined, others): (Vec<_>, Vec<_>) =
            memberships.into_iter().partition(|(_, _, record)| record.membership == Membership::Join);
        let rooms: Vec<RoomNum> = joined.iter().map(|(room, ..)| *room).collect();
        let active = catalog.view.last_activity(&rooms)?;
        let mut placed: Vec<_> =
            joined.into_iter().zip(active).map(|((room, _, record), active)| (room, active, record)).collect();
        for (room, at, record) in others {
            if let Some(at) = catalog.place_outside(room, at, &record, is_told(room))? {
                placed.push((room, at, record));
            }
        }
        for index in which {
            let Some(list) = self.0.get_mut(*index) else { continue };
            list.children = catalog.children(list.filter.spaces.as_deref().unwrap_or_default())?;
            let mut rooms = Vec::with_capacity(placed.len());
            for (room, at, record) in &placed {
                if list.has(catalog, *room, record)? {
                    rooms.push((*at, *room));
                }
            }
            list.order = RoomOrder::new(rooms);
        }
        Ok(())
    }

    /// The lists in whose windows a room is.
    pub fn of_room<'a>(&self, room: RoomNum, rules: &'a BTreeMap<String, ListRule>) -> Vec<&'a str> {
        let in_window = |name: &str, rule: &ListRule| {
            self.get(name).and_then(|list| list.order.rank(room)).is_some_and(|rank| rule.has(rank))
        };
        rules.iter().filter(|(name, rule)| in_window(name, rule)).map(|(name, _)| name.as_str()).collect()
    }

    /// All rooms in windows, with the lists that they are in.
    pub fn windows<'a>(&self, rules: &'a BTreeMap<String, ListRule>) -> BTreeMap<RoomNum, Match<'a>> {
        let mut rooms: BTreeMap<RoomNum, Match<'a>> = BTreeMap::new();
        for (name, rule) in rules {
            let Some(list) = self.get(name) else { continue };
            for room in rule.ranges().flat_map(|range| list.order.window(range)) {
                let found = rooms.entry(room).or_default();
                if found.lists.last() != Some(&name.as_str()) {
                    found.lists.push(name);
                }
            }
        }
        rooms
    }

    /// How many rooms a list has, in its windows and beyond.
    pub fn count(&self, name: &str) -> usize {
        self.get(name).map_or(0, |list| list.order.len())
    }

    fn get(&self, name: &str) -> Option<&List> {
        self.0.iter().find(|list| list.name == name)
    }
}

impl List {
    fn has(&self, catalog: &Catalog<'_>, room: RoomNum, record: &MembershipRecord) -> Result<bool, SyncError> {
        if self.filter == ListFilter::default() {
            return Ok(true);
        }
        Ok(self.filter.matches(&catalog.facts(&self.filter, &self.children, room, record)?))
    }

    fn place(
        &self,
        catalog: &Catalog<'_>,
        (room, at, record): (RoomNum, base::Stamp, &MembershipRecord),
        is_told: bool,
    ) -> Result<Option<base::Stamp>, SyncError> {
        let at = catalog.place(room, at, record, is_told)?;
        match at {
            Some(at) if self.has(catalog, room, record)? => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// Whether one of the filter's spaces is among the rooms, and it names other children than before.
    fn is_of_other_children(&self, catalog: &Catalog<'_>, rooms: &[RoomNum]) -> Result<bool, SyncError> {
        let Some(spaces) = self.filter.spaces.as_deref().filter(|_| !rooms.is_empty()) else { return Ok(false) };
        for space in spaces {
            if catalog.view.room_num(space)?.is_some_and(|num| rooms.contains(&num)) {
                return Ok(catalog.children(spaces)? != self.children);
            }
        }
        Ok(false)
    }
}
