//! What a request asks for: lists, subscriptions and extensions (MSC4186, "Lists and subscriptions").

use super::{ListFilter, RequiredState, Wanted};
use ruma::{OwnedRoomId, RoomId};
use std::collections::BTreeMap;
use std::fmt;

/// The most lists of a request (MSC4186, "Top-level").
pub const LISTS_MAX: usize = 100;
/// The most subscriptions of a request (MSC4186, "Top-level").
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// The most patterns of state that one rule may have.
pub const ELEMENTS_MAX: usize = 500;
/// The most ranges of one list, and the most values of each kind in its filter.
pub const VALUES_MAX: usize = 100;
/// The longest name of a list, and of a connection.
pub const NAME_BYTES_MAX: usize = 255;

/// What is wrong with a request: 400 `M_INVALID_PARAM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(pub &'static str);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RuleError {}

/// What to tell of a room that matches a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomRule {
    /// At most how many events of the timeline.
    pub timeline_limit: usize,
    /// Which state.
    pub required_state: RequiredState,
}

/// A window over the rooms that match a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRule {
    /// What to tell of its rooms.
    pub room: RoomRule,
    /// The places that are wanted, both ends included; none for all.
    pub ranges: Option<Vec<(usize, usize)>>,
    /// Which rooms are in the list.
    pub filter: ListFilter,
}

impl ListRule {
    /// Whether a place is wanted.
    #[must_use]
    pub fn has(&self, rank: usize) -> bool {
        self.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&rank)))
    }

    /// The ranges, of which there is one over everything if none are given.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = self.ranges.is_none().then_some((0, usize::MAX));
        all.into_iter().chain(self.ranges.iter().flatten().copied())
    }

    /// Whether some range does not begin at the top, so that a room which moves up moves others into it.
    #[must_use]
    pub fn has_range_below_top(&self) -> bool {
        self.ranges().any(|(first, _)| first > 0)
    }
}

/// The rooms that an extension is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The rooms in these lists; none for all lists.
    pub lists: Option<Vec<String>>,
    /// These of the subscribed rooms; none for all of them.
    pub rooms: Option<Vec<OwnedRoomId>>,
}

impl Scope {
    /// Whether a room is among them.
    #[must_use]
    pub fn has(&self, found: &Match<'_>) -> bool {
        let listed = |list: &&str| self.lists.as_ref().is_none_or(|lists| lists.iter().any(|name| name == list));
        let subscribed = |id: &RoomId| self.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == id));
        found.subscribed.is_some_and(subscribed) || found.lists.iter().any(listed)
    }
}

/// What beside rooms is wanted; what is none is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Account data, of the account and of these rooms (MSC3959).
    pub account_data: Option<Scope>,
    /// Receipts of these rooms (MSC3960).
    pub receipts: Option<Scope>,
    /// Who types in these rooms (MSC3961).
    pub typing: Option<Scope>,
    /// Changes of devices, and what is left of the device's own keys (MSC3884).
    pub e2ee: bool,
    /// Messages to the device (MSC3885).
    pub to_device: bool,
    /// Which threads the user subscribes to (MSC4308), and of how many one answer tells at most.
    pub thread_subscriptions: Option<usize>,
}

/// The rules of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The lists by name.
    pub lists: BTreeMap<String, ListRule>,
    /// The rooms that are wanted whatever lists they are in.
    pub subscriptions: BTreeMap<OwnedRoomId, RoomRule>,
    /// What beside rooms is wanted.
    pub extensions: Extensions,
}

/// By which rules a room is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match<'a> {
    /// The lists in whose windows it is.
    pub lists: Vec<&'a str>,
    /// Its id, if it is subscribed.
    pub subscribed: Option<&'a RoomId>,
}

impl Match<'_> {
    /// Whether no rule wants the room.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lists.is_empty() && self.subscribed.is_none()
    }
}

impl Rules {
    /// Refuses what is more than the limits allow.
    ///
    /// # Errors
    ///
    /// [`RuleError`]
    pub fn check(&self) -> Result<(), RuleError> {
        if self.lists.len() > LISTS_MAX {
            return Err(RuleError("a request has at most 100 lists"));
        }
        if self.subscriptions.len() > SUBSCRIPTIONS_MAX {
            return Err(RuleError("a request has at most 100 room subscriptions"));
        }
        if self.lists.keys().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(RuleError("the name of a list has between 1 and 255 bytes"));
        }
        for list in self.lists.values() {
            let ranges = list.ranges.as_deref().unwrap_or_default();
            if ranges.iter().any(|(first, last)| first > last) {
                return Err(RuleError("a range ends before it begins"));
            }
            let filter = &list.filter;
            let counts = [
                ranges.len(),
                filter.spaces.as_ref().map_or(0, Vec::len),
                filter.room_types.as_ref().map_or(0, Vec::len),
                filter.not_room_types.len(),
                filter.tags.as_ref().map_or(0, Vec::len),
                filter.not_tags.len(),
            ];
            if counts.iter().any(|count| *count > VALUES_MAX) {
                return Err(RuleError("a list has too many ranges or its filter too many values"));
            }
        }
        let rooms = self.lists.values().map(|list| &list.room).chain(self.subscriptions.values());
        let elements = |rule: &RoomRule| rule.required_state.include.len() + rule.required_state.exclude.len();
        if rooms.map(elements).any(|count| count > ELEMENTS_MAX) {
            return Err(RuleError("required_state has too many elements"));
        }
        Ok(())
    }

    /// What the rules that match a room ask for together: how many events, and which state (MSC4186, "Combining
    /// room configs").
    #[must_use]
    pub fn combined(&self, found: &Match<'_>) -> (usize, Wanted) {
        let lists = found.lists.iter().filter_map(|name| self.lists.get(*name)).map(|list| &list.room);
        let subscription = found.subscribed.and_then(|room_id| self.subscriptions.get(room_id));
        let rules: Vec<&RoomRule> = lists.chain(subscription).collect();
        let limit = rules.iter().map(|rule| rule.timeline_limit).max().unwrap_or_default();
        (limit, Wanted::combine(rules.iter().map(|rule| &rule.required_state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sliding::Element;
    use ruma::{owned_room_id, room_id};

    fn rule(timeline_limit: usize, kind: &str) -> RoomRule {
        let include = vec![Element { kind: Some(kind.to_owned()), state_key: None }];
        RoomRule { timeline_limit, required_state: RequiredState { include, ..RequiredState::default() } }
    }

    fn rules() -> Rules {
        let list = ListRule { room: rule(3, "a"), ..ListRule::default() };
        Rules {
            lists: BTreeMap::from([("l".to_owned(), list)]),
            subscriptions: BTreeMap::from([(owned_room_id!("!r:x"), rule(7, "b"))]),
            extensions: Extensions::default(),
        }
    }

    #[test]
    fn rules_that_match_the_same_room_are_combined() {
        let rules = rules();
        let both = Match { lists: vec!["l"], subscribed: Some(room_id!("!r:x")) };
        let (limit, wanted) = rules.combined(&both);
        assert!(limit == 7 && wanted.matches("a", "") && wanted.matches("b", ""));
        let (limit, wanted) = rules.combined(&Match { subscribed: None, ..both });
        assert!(limit == 3 && wanted.matches("a", "") && !wanted.matches("b", ""));
    }

    #[test]
    fn an_extension_is_for_the_rooms_in_its_lists_and_its_subscriptions() {
        let listed = Match { lists: vec!["l"], subscribed: None };
        let subscribed = Match { lists: vec![], subscribed: Some(room_id!("!r:x")) };
        assert!(Scope::default().has(&listed) && Scope::default().has(&subscribed));
        let none = Scope { lists: Some(vec![]), rooms: Some(vec![]) };
        assert!(!none.has(&listed) && !none.has(&subscribed));
        let some = Scope { lists: Some(vec!["m".to_owned()]), rooms: Some(vec![owned_room_id!("!r:x")]) };
        assert!(!some.has(&listed) && some.has(&subscribed));
        assert!(!some.has(&Match { subscribed: Some(room_id!("!s:x")), ..Match::default() }));
    }

    #[test]
    fn requests_beyond_the_limits_are_refused() {
        assert_eq!(rules().check(), Ok(()));
        let many = (0..=LISTS_MAX).map(|n| (n.to_string(), ListRule::default())).collect();
        assert!(Rules { lists: many, ..Rules::default() }.check().is_err());
        let room = |n| ruma::RoomId::parse(format!("!r{n}:x")).unwrap();
        let many = (0..=SUBSCRIPTIONS_MAX).map(|n| (room(n), RoomRule::default())).collect();
        assert!(Rules { subscriptions: many, ..Rules::default() }.check().is_err());
        let with = |list: ListRule| Rules { lists: BTreeMap::from([("l".to_owned(), list)]), ..Rules::default() };
        assert!(with(ListRule { ranges: Some(vec![(3, 2)]), ..ListRule::default() }).check().is_err());
        let mut long = ListRule::default();
        long.room.required_state.include = vec![Element::default(); ELEMENTS_MAX + 1];
        assert!(with(long).check().is_err());
        let nameless = Rules { lists: BTreeMap::from([(String::new(), ListRule::default())]), ..Rules::default() };
        assert!(nameless.check().is_err());
    }

    #[test]
    fn a_list_without_ranges_wants_all_places() {
        let all = ListRule::default();
        assert!(all.has(0) && all.has(9999) && !all.has_range_below_top());
        let some = ListRule { ranges: Some(vec![(0, 1), (5, 6)]), ..ListRule::default() };
        assert!(some.has(1) && !some.has(2) && some.has(6) && some.has_range_below_top());
    }
}
