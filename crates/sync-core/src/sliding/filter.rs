//! Which rooms are in a list (MSC4186, "SlidingRoomFilter").

use ruma::OwnedRoomId;

/// What a list is filtered by; what is none filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Direct chats only, or none of them.
    pub is_dm: Option<bool>,
    /// Rooms that one of these spaces names as its children.
    pub spaces: Option<Vec<OwnedRoomId>>,
    /// Encrypted rooms only, or none of them.
    pub is_encrypted: Option<bool>,
    /// Invitations only, or none of them.
    pub is_invited: Option<bool>,
    /// Rooms of these types; none is that of an ordinary room.
    pub room_types: Option<Vec<Option<String>>>,
    /// No rooms of these types, whatever `room_types` says.
    pub not_room_types: Vec<Option<String>>,
    /// Rooms with one of these tags.
    pub tags: Option<Vec<String>>,
    /// No rooms with one of these tags, whatever `tags` says.
    pub not_tags: Vec<String>,
}

/// What filters look at in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a filter's flag of its own")]
pub struct RoomFacts {
    /// It is a direct chat of the user's.
    pub is_dm: bool,
    /// One of the filter's spaces names it.
    pub is_in_space: bool,
    /// It has encryption.
    pub is_encrypted: bool,
    /// The user is invited to it.
    pub is_invited: bool,
    /// Its type.
    pub room_type: Option<String>,
    /// The tags that the user gave it.
    pub tags: Vec<String>,
}

impl ListFilter {
    /// Whether a room is in the list.
    #[must_use]
    pub fn matches(&self, facts: &RoomFacts) -> bool {
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        is(self.is_dm, facts.is_dm)
            && is(self.is_encrypted, facts.is_encrypted)
            && is(self.is_invited, facts.is_invited)
            && (self.spaces.is_none() || facts.is_in_space)
            && !self.not_room_types.contains(&facts.room_type)
            && self.room_types.as_ref().is_none_or(|types| types.contains(&facts.room_type))
            && !self.not_tags.iter().any(|tag| facts.tags.contains(tag))
            && self.tags.as_ref().is_none_or(|tags| tags.iter().any(|tag| facts.tags.contains(tag)))
    }

    /// Whether it looks at the room's own state: its type, or whether it is encrypted.
    #[must_use]
    pub fn looks_at_state(&self) -> bool {
        self.is_encrypted.is_some() || self.room_types.is_some() || !self.not_room_types.is_empty()
    }

    /// Whether it looks at tags.
    #[must_use]
    pub fn looks_at_tags(&self) -> bool {
        self.tags.is_some() || !self.not_tags.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(change: impl FnOnce(&mut RoomFacts)) -> RoomFacts {
        let mut facts = RoomFacts::default();
        change(&mut facts);
        facts
    }

    #[test]
    fn no_filter_lets_all_rooms_through() {
        assert!(ListFilter::default().matches(&room(|room| room.is_dm = true)));
        assert!(ListFilter::default().matches(&room(|room| room.room_type = Some("m.space".to_owned()))));
    }

    #[test]
    fn each_flag_is_matched_both_ways() {
        for wanted in [true, false] {
            let dm = ListFilter { is_dm: Some(wanted), ..ListFilter::default() };
            assert_eq!(dm.matches(&room(|room| room.is_dm = true)), wanted);
            let encrypted = ListFilter { is_encrypted: Some(wanted), ..ListFilter::default() };
            assert_eq!(encrypted.matches(&room(|room| room.is_encrypted = true)), wanted);
            let invited = ListFilter { is_invited: Some(wanted), ..ListFilter::default() };
            assert_eq!(invited.matches(&room(|room| room.is_invited = true)), wanted);
        }
    }

    #[test]
    fn what_is_not_wanted_beats_what_is() {
        let space = || Some("m.space".to_owned());
        let filter = ListFilter {
            room_types: Some(vec![None, space()]),
            not_room_types: vec![space()],
            ..ListFilter::default()
        };
        assert!(filter.matches(&room(|_| {})) && !filter.matches(&room(|room| room.room_type = space())));
        let filter =
            ListFilter { tags: Some(vec!["a".to_owned()]), not_tags: vec!["b".to_owned()], ..ListFilter::default() };
        let tagged = |tags: &[&str]| room(|room| room.tags = tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert!(filter.matches(&tagged(&["a", "c"])));
        assert!(!filter.matches(&tagged(&["a", "b"])) && !filter.matches(&tagged(&["c"])));
    }

    #[test]
    fn an_empty_choice_matches_nothing() {
        let types = ListFilter { room_types: Some(Vec::new()), ..ListFilter::default() };
        let spaces = ListFilter { spaces: Some(Vec::new()), ..ListFilter::default() };
        assert!(!types.matches(&room(|_| {})) && !spaces.matches(&room(|_| {})));
        assert!(spaces.matches(&room(|room| room.is_in_space = true)));
    }
}
