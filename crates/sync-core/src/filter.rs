//! A client's filter, made ready for a sync.

use crate::fields::Fields;
use crate::window;
use rules::filter::{Matcher, RelationFilter, RoomMatcher};
use ruma::api::client::filter::{EventFormat as WireFormat, FilterDefinition, LazyLoadOptions};
use serde::de::Error as _;

/// How members are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LazyMembers {
    /// All of them.
    #[default]
    Off,
    /// Those whom the client needs and was not sent yet.
    New,
    /// Those whom the client needs, even if they were sent before (`include_redundant_members`).
    Always,
}

/// The format of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFormat {
    /// As clients use them.
    #[default]
    Client,
    /// As servers exchange them.
    Federation,
}

/// What a client wants from a sync.
#[derive(Clone, Debug, Default)]
pub struct SyncFilter {
    /// The rooms at all.
    pub rooms: RoomMatcher,
    /// Whether rooms that the user has left are wanted by an initial sync.
    pub include_leave: bool,
    /// The events of the timeline.
    pub timeline: Matcher,
    /// How many events of each timeline.
    pub timeline_max: usize,
    /// The events of the state.
    pub state: Matcher,
    /// How members are sent.
    pub lazy: LazyMembers,
    /// What is not kept: typing and receipts.
    pub ephemeral: Matcher,
    /// Account data of rooms.
    pub room_account_data: Matcher,
    /// Account data of the user.
    pub account_data: Matcher,
    /// Presence.
    pub presence: Matcher,
    /// Whether what is unread is counted for each thread of a room.
    pub unread_threads: bool,
    /// The fields of events, if not all are wanted.
    pub fields: Option<Fields>,
    /// The format of events.
    pub format: EventFormat,
}

impl SyncFilter {
    /// What a client wants that has no filter.
    #[must_use]
    pub fn none() -> Self {
        Self { timeline_max: window::TIMELINE_DEFAULT, ..Self::default() }
    }

    /// Reads a filter from its JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON, or with what it says.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let mut filter = Self::new(&serde_json::from_str(json)?)?;
        filter.timeline = filter.timeline.with_relations(RelationFilter::of_timeline(json)?);
        Ok(filter)
    }

    /// Makes a filter ready.
    ///
    /// # Errors
    ///
    /// It asks for a format of events that there is not.
    pub fn new(filter: &FilterDefinition) -> Result<Self, serde_json::Error> {
        let room = &filter.room;
        let format = match &filter.event_format {
            WireFormat::Client => EventFormat::Client,
            WireFormat::Federation => EventFormat::Federation,
            other => return Err(serde_json::Error::custom(format!("event_format: there is no `{other}`"))),
        };
        Ok(Self {
            rooms: RoomMatcher::of(room),
            include_leave: room.include_leave,
            timeline: Matcher::of_room_events(&room.timeline),
            timeline_max: window::events_max(room.timeline.limit.map(u64::from)),
            state: Matcher::of_room_events(&room.state),
            lazy: match room.state.lazy_load_options {
                LazyLoadOptions::Disabled => LazyMembers::Off,
                LazyLoadOptions::Enabled { include_redundant_members: false } => LazyMembers::New,
                LazyLoadOptions::Enabled { include_redundant_members: true } => LazyMembers::Always,
            },
            ephemeral: Matcher::of_room_events(&room.ephemeral),
            room_account_data: Matcher::of_room_events(&room.account_data),
            account_data: Matcher::of_events(&filter.account_data),
            presence: Matcher::of_events(&filter.presence),
            unread_threads: room.timeline.unread_thread_notifications,
            fields: filter.event_fields.as_deref().map(Fields::new),
            format,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_wants_what_no_filter_wants() {
        let (empty, none) = (SyncFilter::parse("{}").unwrap(), SyncFilter::none());
        assert_eq!(empty.timeline_max, none.timeline_max);
        assert!(empty.timeline.matches_everything() && empty.state.matches_everything());
        assert_eq!((empty.lazy, empty.format, empty.fields), (LazyMembers::Off, EventFormat::Client, None));
    }

    #[test]
    fn a_filter_says_how_members_and_events_are_sent() {
        let lazy = |json: &str| SyncFilter::parse(json).unwrap().lazy;
        assert_eq!(lazy(r#"{"room":{"state":{"lazy_load_members":true}}}"#), LazyMembers::New);
        let always = r#"{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}"#;
        assert_eq!(lazy(always), LazyMembers::Always);
        let filter = r#"{"event_format":"federation","event_fields":["type"],"room":{"timeline":{"limit":3}}}"#;
        let filter = SyncFilter::parse(filter).unwrap();
        assert_eq!((filter.format, filter.timeline_max), (EventFormat::Federation, 3));
        assert_eq!(filter.fields.unwrap().select(r#"{"type":"a","x":1}"#), r#"{"type":"a"}"#);
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for bad in [
            "",
            "[]",
            r#"{"room":7}"#,
            r#"{"presence":"none"}"#,
            r#"{"event_format":"bogus"}"#,
            r#"{"event_fields":"type"}"#,
            r#"{"account_data":{"types":[1]}}"#,
            r#"{"room":{"rooms":["not a room"]}}"#,
            r#"{"room":{"timeline":{"senders":["not a user"]}}}"#,
            r#"{"room":{"timeline":{"limit":-1}}}"#,
            r#"{"room":{"state":{"lazy_load_members":"yes"}}}"#,
            r#"{"room":{"ephemeral":{"contains_url":1}}}"#,
            r#"{"room":{"include_leave":"maybe"}}"#,
        ] {
            assert!(SyncFilter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_says_which_presence_and_which_counts_are_wanted() {
        let filter = r#"{"presence":{"not_types":["*"]},"room":{"timeline":{"unread_thread_notifications":true}}}"#;
        let filter = SyncFilter::parse(filter).unwrap();
        let facts = rules::filter::Facts { kind: "m.presence", sender: None, room_id: None, has_url: false };
        assert!(filter.unread_threads && !filter.presence.matches(&facts));
    }
}
