//! Which events a client's filter lets through (client-server API, "Filtering").
//!
//! Only the matching is here: limits, lazy loading of members and the choice of rooms to look at all are for
//! sync.

use crate::pdu::Pdu;
use crate::relation::Relation;
use crate::server_acl::star_matches;
use ruma::api::client::filter::{Filter, RoomEventFilter, RoomFilter, UrlFilter};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashSet;

/// What a filter looks at in an event.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The type.
    pub kind: &'a str,
    /// The sender, if the event has one: account data has not.
    pub sender: Option<&'a UserId>,
    /// The room, if the event is of one.
    pub room_id: Option<&'a RoomId>,
    /// Whether the content has a `url`: [`has_url`].
    pub has_url: bool,
}

/// What a filter asks of relations. It is no part of the specification, but clients use it: MSC3440 has the filters
/// by what relates to an event, MSC3874 those by how an event relates to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RelationFilter {
    /// Some event of one of these senders relates to the event.
    #[serde(default, alias = "io.element.relation_senders")]
    pub related_by_senders: Option<HashSet<OwnedUserId>>,
    /// Some event relates to the event in one of these ways.
    #[serde(default, alias = "io.element.relation_types")]
    pub related_by_rel_types: Option<Vec<String>>,
    /// The event relates to another in one of these ways.
    #[serde(default, rename = "org.matrix.msc3874.rel_types")]
    pub rel_types: Option<Vec<String>>,
    /// The event relates to another in none of these ways.
    #[serde(default, rename = "org.matrix.msc3874.not_rel_types")]
    pub not_rel_types: Vec<String>,
}

impl RelationFilter {
    /// What the filter of a sync asks of relations in timelines.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON.
    pub fn of_timeline(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Default, Deserialize)]
        struct Sync {
            #[serde(default)]
            room: Room,
        }
        #[derive(Default, Deserialize)]
        struct Room {
            #[serde(default)]
            timeline: RelationFilter,
        }
        serde_json::from_str::<Sync>(json).map(|filter| filter.room.timeline)
    }

    /// Whether an event relates to others as the filter wants, or to none.
    fn matches(&self, pdu: &Pdu) -> bool {
        if self.rel_types.is_none() && self.not_rel_types.is_empty() {
            return true;
        }
        let relation = Relation::of(pdu);
        let is_one_of = |types: &[String]| relation.as_ref().is_some_and(|relation| types.contains(&relation.rel_type));
        !is_one_of(&self.not_rel_types) && self.rel_types.as_deref().is_none_or(is_one_of)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A filter made ready for matching many events.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    types: Option<Vec<Pattern>>,
    not_types: Vec<Pattern>,
    senders: Option<HashSet<OwnedUserId>>,
    not_senders: HashSet<OwnedUserId>,
    rooms: RoomMatcher,
    url: Option<UrlFilter>,
    relations: RelationFilter,
}

/// A type in a filter.
#[derive(Clone, Debug)]
enum Pattern {
    /// This type.
    Exact(String),
    /// Types that match, `*` being any text.
    Star(String),
}

/// The part of a filter that chooses rooms.
#[derive(Clone, Debug, Default)]
pub struct RoomMatcher {
    only: Option<HashSet<OwnedRoomId>>,
    not: HashSet<OwnedRoomId>,
}

impl Matcher {
    /// The matcher of a filter for events of rooms.
    #[must_use]
    pub fn of_room_events(filter: &RoomEventFilter) -> Self {
        Self {
            types: filter.types.as_deref().map(patterns),
            not_types: patterns(&filter.not_types),
            senders: filter.senders.as_deref().map(set),
            not_senders: set(&filter.not_senders),
            rooms: RoomMatcher { only: filter.rooms.as_deref().map(set), not: set(&filter.not_rooms) },
            url: filter.url_filter,
            relations: RelationFilter::default(),
        }
    }

    /// The same matcher, which also asks this of relations.
    #[must_use]
    pub fn with_relations(self, relations: RelationFilter) -> Self {
        Self { relations, ..self }
    }

    /// What the filter asks of the events that relate to an event, if anything. The store has to be asked for that,
    /// so [`Matcher::matches_pdu`] does not look at it.
    #[must_use]
    pub fn related_by(&self) -> Option<&RelationFilter> {
        let RelationFilter { related_by_senders, related_by_rel_types, .. } = &self.relations;
        (related_by_senders.is_some() || related_by_rel_types.is_some()).then_some(&self.relations)
    }

    /// The matcher of a filter for account data and presence.
    #[must_use]
    pub fn of_events(filter: &Filter) -> Self {
        Self {
            types: filter.types.as_deref().map(patterns),
            not_types: patterns(&filter.not_types),
            senders: filter.senders.as_deref().map(set),
            not_senders: set(&filter.not_senders),
            ..Self::default()
        }
    }

    /// Whether the filter lets an event through. What is excluded is not let in by being included as well.
    #[must_use]
    pub fn matches(&self, event: &Facts<'_>) -> bool {
        self.matches_type(event.kind)
            && self.matches_sender(event.sender)
            && event.room_id.is_none_or(|room_id| self.rooms.matches(room_id))
            && match self.url {
                None => true,
                Some(UrlFilter::EventsWithUrl) => event.has_url,
                Some(UrlFilter::EventsWithoutUrl) => !event.has_url,
            }
    }

    /// Whether the filter lets an event of a room through.
    #[must_use]
    pub fn matches_pdu(&self, pdu: &Pdu) -> bool {
        let facts = Facts {
            kind: pdu.kind_str(),
            sender: Some(pdu.sender()),
            room_id: Some(pdu.room_id()),
            has_url: self.url.is_some() && has_url(pdu),
        };
        self.matches(&facts) && self.relations.matches(pdu)
    }

    /// Whether the filter can let anything of this room through.
    #[must_use]
    pub fn matches_room(&self, room_id: &RoomId) -> bool {
        self.rooms.matches(room_id)
    }

    /// Whether nothing passes, so that there is no need to look.
    #[must_use]
    pub fn matches_nothing(&self) -> bool {
        self.types.as_ref().is_some_and(Vec::is_empty)
            || self.senders.as_ref().is_some_and(HashSet::is_empty)
            || self.rooms.only.as_ref().is_some_and(HashSet::is_empty)
    }

    /// Whether everything passes.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.rooms.only.is_none()
            && self.rooms.not.is_empty()
            && self.url.is_none()
            && self.relations.is_empty()
    }

    fn matches_type(&self, kind: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(kind));
        !any(&self.not_types) && self.types.as_deref().is_none_or(any)
    }

    fn matches_sender(&self, sender: Option<&UserId>) -> bool {
        let among = |set: &HashSet<OwnedUserId>| sender.is_some_and(|sender| set.contains(sender));
        !among(&self.not_senders) && self.senders.as_ref().is_none_or(among)
    }
}

impl RoomMatcher {
    /// The rooms that the `room` part of a filter chooses.
    #[must_use]
    pub fn of(filter: &RoomFilter) -> Self {
        Self { only: filter.rooms.as_deref().map(set), not: set(&filter.not_rooms) }
    }

    /// Whether this room is among them.
    #[must_use]
    pub fn matches(&self, room_id: &RoomId) -> bool {
        !self.not.contains(room_id) && self.only.as_ref().is_none_or(|rooms| rooms.contains(room_id))
    }
}

impl Pattern {
    fn matches(&self, kind: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == kind,
            Self::Star(pattern) => star_matches(pattern, kind),
        }
    }
}

/// Whether the content of an event has a `url`, which is what `contains_url` asks.
#[must_use]
pub fn has_url(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<IgnoredAny>,
    }

    let content = pdu.content().get();
    content.contains("\"url\"") && serde_json::from_str::<Content>(content).is_ok_and(|content| content.url.is_some())
}

fn patterns(types: &[String]) -> Vec<Pattern> {
    let pattern = |kind: &String| {
        if kind.contains('*') { Pattern::Star(kind.clone()) } else { Pattern::Exact(kind.clone()) }
    };
    types.iter().map(pattern).collect()
}

fn set<T: Clone + Eq + std::hash::Hash>(items: &[T]) -> HashSet<T> {
    items.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_rules;
    use proptest::prelude::*;
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::json;

    fn matches(filter: &serde_json::Value, kind: &str, sender: &str, content: &str) -> bool {
        let json = format!(
            "{{\"type\":\"{kind}\",\"sender\":\"{sender}\",\"room_id\":\"!r:a.example\",\"content\":{content},\
             \"depth\":1,\"origin_server_ts\":1}}"
        );
        let rules = room_rules(&RoomVersionId::V11).unwrap();
        let pdu = Pdu::parse_stored(owned_event_id!("$e"), json, &rules, false).unwrap();
        let filter: RoomEventFilter = serde_json::from_value(filter.clone()).unwrap();
        Matcher::of_room_events(&filter).matches_pdu(&pdu)
    }

    fn message(filter: &serde_json::Value) -> bool {
        matches(filter, "m.room.message", "@a:a.example", r#"{"body":"B"}"#)
    }

    #[test]
    fn an_empty_filter_lets_everything_through() {
        assert!(message(&json!({})));
        assert!(Matcher::of_room_events(&RoomEventFilter::default()).matches_everything());
    }

    #[test]
    fn types_choose_with_stars() {
        for (types, expected) in [
            (json!(["m.room.message"]), true),
            (json!(["m.room.*"]), true),
            (json!(["*"]), true),
            (json!(["m.*.message"]), true),
            (json!(["m.room.messag"]), false),
            (json!(["m.room.messag?"]), false),
            (json!([]), false),
        ] {
            assert_eq!(message(&json!({"types": types})), expected, "{types}");
            let excluded = message(&json!({"not_types": types}));
            assert_eq!(excluded, !expected, "not {types}");
        }
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        assert!(!message(&json!({"types": ["m.room.message"], "not_types": ["m.room.*"]})));
        assert!(!message(&json!({"senders": ["@a:a.example"], "not_senders": ["@a:a.example"]})));
        assert!(!message(&json!({"rooms": ["!r:a.example"], "not_rooms": ["!r:a.example"]})));
    }

    #[test]
    fn senders_and_rooms_choose() {
        assert!(message(&json!({"senders": ["@a:a.example"]})));
        assert!(!message(&json!({"senders": ["@b:a.example"]})));
        assert!(message(&json!({"rooms": ["!r:a.example"]})));
        assert!(!message(&json!({"rooms": ["!s:a.example"]})));
        assert!(!message(&json!({"not_rooms": ["!r:a.example"]})));
    }

    #[test]
    fn contains_url_looks_at_the_content_only() {
        let with = |filter: bool, content| {
            matches(&json!({"contains_url": filter}), "m.room.message", "@a:a.example", content)
        };
        assert!(with(true, r#"{"url":"mxc://a/b"}"#));
        assert!(!with(false, r#"{"url":"mxc://a/b"}"#));
        assert!(!with(true, r#"{"file":{"url":"mxc://a/b"}}"#));
        assert!(with(false, r#"{"body":"\"url\""}"#));
    }

    #[test]
    fn account_data_has_no_sender_to_choose() {
        let filter: Filter = serde_json::from_value(json!({"senders": ["@a:a.example"]})).unwrap();
        let facts = Facts { kind: "m.direct", sender: None, room_id: None, has_url: false };
        assert!(!Matcher::of_events(&filter).matches(&facts));
        assert!(Matcher::of_events(&Filter::default()).matches(&facts));
        assert!(Matcher::of_events(&Filter::ignore_all()).matches_nothing());
    }

    proptest! {
        #[test]
        fn any_types_can_be_matched(types in proptest::collection::vec(any::<String>(), 0..4), kind in "[a-z.]{0,20}") {
            let filter = json!({"types": types, "not_types": ["x"]});
            let expected = types.iter().any(|pattern| star_matches(pattern, &kind)) && kind != "x";
            prop_assert_eq!(matches(&filter, &kind, "@a:a.example", "{}"), expected);
        }
    }
}
