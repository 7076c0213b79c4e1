//! What a client searches for.

use crate::ApiError;
use ::search::{Key, Ordering};
use rules::filter::{Facts, Matcher};
use ruma::api::client::filter::{RoomEventFilter, UrlFilter};
use serde::{Deserialize, Serialize};

/// The longest text that is looked for, in bytes.
const TERM_BYTES_MAX: usize = 4 * 1024;
/// How many results a page has if the client does not say.
const LIMIT_DEFAULT: u64 = 10;
/// The most results of one page.
const LIMIT_MAX: u64 = 100;
/// How many rooms a filter may name.
const ROOMS_MAX: usize = 1_000;
/// How many events there are before and after a result if the client does not say.
const CONTEXT_DEFAULT: u64 = 5;
/// The most events before or after a result.
const CONTEXT_MAX: u64 = 20;
/// How many ways of grouping there may be in a request; there are two.
const GROUPS_MAX: usize = 8;

#[derive(Deserialize)]
pub(in crate::rooms) struct Asked {
    pub(super) search_categories: AskedCategories,
}

#[derive(Deserialize)]
pub(super) struct AskedCategories {
    pub room_events: Option<Criteria>,
}

/// What is looked for among events.
#[derive(Deserialize)]
pub(super) struct Criteria {
    pub search_term: String,
    keys: Option<Vec<KeyName>>,
    #[serde(default)]
    pub filter: RoomEventFilter,
    order_by: Option<OrderBy>,
    pub event_context: Option<AskedContext>,
    include_state: Option<bool>,
    groupings: Option<Groupings>,
}

#[derive(Clone, Copy, Deserialize)]
enum KeyName {
    #[serde(rename = "content.body")]
    Body,
    #[serde(rename = "content.name")]
    Name,
    #[serde(rename = "content.topic")]
    Topic,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderBy {
    Recent,
    Rank,
}

/// What is wanted of what was around a result.
#[derive(Deserialize)]
pub(super) struct AskedContext {
    before_limit: Option<u64>,
    after_limit: Option<u64>,
    pub include_profile: Option<bool>,
}

#[derive(Deserialize)]
struct Groupings {
    group_by: Option<Vec<Grouping>>,
}

#[derive(Deserialize)]
struct Grouping {
    key: GroupKey,
}

/// What the results of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum GroupKey {
    /// The room.
    #[serde(rename = "room_id")]
    Room,
    /// The sender.
    #[serde(rename = "sender")]
    Sender,
}

impl Criteria {
    pub fn check(&self) -> Result<(), ApiError> {
        let rooms = self.filter.rooms.as_ref().map_or(0, Vec::len).max(self.filter.not_rooms.len());
        if self.search_term.len() > TERM_BYTES_MAX {
            return Err(ApiError::invalid_param(format!("a search term has at most {TERM_BYTES_MAX} bytes")));
        }
        if rooms > ROOMS_MAX {
            return Err(ApiError::invalid_param(format!("a search is for at most {ROOMS_MAX} rooms")));
        }
        Ok(())
    }

    pub fn ordering(&self) -> Ordering {
        match self.order_by {
            Some(OrderBy::Recent) => Ordering::Recent,
            Some(OrderBy::Rank) | None => Ordering::Rank,
        }
    }

    pub fn limit(&self) -> usize {
        let limit = self.filter.limit.map_or(LIMIT_DEFAULT, u64::from).clamp(1, LIMIT_MAX);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// In which keys is searched: of those that the client names, the ones of types that the filter lets through.
    pub fn keys(&self) -> Vec<Key> {
        let named: Vec<Key> = match &self.keys {
            None => Key::ALL.to_vec(),
            Some(keys) => keys.iter().map(|key| key.key()).collect(),
        };
        let mut types = RoomEventFilter::default();
        types.types.clone_from(&self.filter.types);
        types.not_types.clone_from(&self.filter.not_types);
        let types = Matcher::of_room_events(&types);
        let matches =
            |key: &Key| types.matches(&Facts { kind: key.event_type(), sender: None, room_id: None, has_url: false });
        Key::ALL.into_iter().filter(|key| named.contains(key) && matches(key)).collect()
    }

    pub fn has_url(&self) -> Option<bool> {
        self.filter.url_filter.map(|filter| matches!(filter, UrlFilter::EventsWithUrl))
    }

    /// Which events the filter lets through, whatever room they are in.
    pub fn matcher(&self) -> Matcher {
        let mut filter = self.filter.clone();
        filter.rooms = None;
        filter.not_rooms.clear();
        Matcher::of_room_events(&filter)
    }

    pub fn includes_state(&self) -> bool {
        self.include_state.unwrap_or_default()
    }

    /// How the results are grouped.
    pub fn groups(&self) -> Vec<GroupKey> {
        let groups = self.groupings.as_ref().and_then(|groupings| groupings.group_by.as_ref());
        let mut keys: Vec<_> = groups.into_iter().flatten().take(GROUPS_MAX).map(|group| group.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl KeyName {
    fn key(self) -> Key {
        match self {
            Self::Body => Key::Body,
            Self::Name => Key::Name,
            Self::Topic => Key::Topic,
        }
    }
}

impl AskedContext {
    pub fn before(&self) -> usize {
        at_most(self.before_limit)
    }

    pub fn after(&self) -> usize {
        at_most(self.after_limit)
    }
}

fn at_most(limit: Option<u64>) -> usize {
    usize::try_from(limit.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_MAX)).unwrap_or(usize::MAX)
}
