//! What the bodies of both forms have in common.

use crate::ApiError;
use ::sync::{PresenceState, THREAD_SUBSCRIPTIONS_MAX};
use ruma::OwnedRoomId;
use serde::Deserialize;
use sync_core::sliding::{self, ListFilter, Scope};

/// What the client wants to be seen as: online, unless it says otherwise. An unknown value is refused.
pub(super) fn presence(text: Option<&str>) -> Result<PresenceState, ApiError> {
    match text {
        None | Some("online") => Ok(PresenceState::Online),
        Some("unavailable") => Ok(PresenceState::Unavailable),
        Some("offline") => Ok(PresenceState::Offline),
        Some(_) => Err(ApiError::invalid_param("set_presence: no such presence")),
    }
}

/// `SlidingRoomFilter`; the unstable form calls one field otherwise.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    is_dm: Option<bool>,
    spaces: Option<Vec<OwnedRoomId>>,
    is_encrypted: Option<bool>,
    #[serde(alias = "is_invite")]
    is_invited: Option<bool>,
    room_types: Option<Vec<Option<String>>>,
    not_room_types: Option<Vec<Option<String>>>,
    tags: Option<Vec<String>>,
    not_tags: Option<Vec<String>>,
}

impl From<Filter> for ListFilter {
    fn from(filter: Filter) -> Self {
        Self {
            is_dm: filter.is_dm,
            spaces: filter.spaces,
            is_encrypted: filter.is_encrypted,
            is_invited: filter.is_invited,
            room_types: filter.room_types,
            not_room_types: filter.not_room_types.unwrap_or_default(),
            tags: filter.tags,
            not_tags: filter.not_tags.unwrap_or_default(),
        }
    }
}

/// The extensions. Those that this server does not have are ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Extensions {
    pub(super) to_device: Option<ToDevice>,
    e2ee: Option<Switch>,
    account_data: Option<Scoped>,
    receipts: Option<Scoped>,
    typing: Option<Scoped>,
    #[serde(rename = "io.element.msc4308.thread_subscriptions")]
    thread_subscriptions: Option<Limited>,
}

/// `e2ee` (MSC3884).
#[derive(Debug, Deserialize)]
pub(super) struct Switch {
    enabled: Option<bool>,
}

/// `to_device` (MSC3885).
#[derive(Debug, Deserialize)]
pub(super) struct ToDevice {
    enabled: Option<bool>,
    pub(super) limit: Option<u64>,
    pub(super) since: Option<String>,
}

/// `io.element.msc4308.thread_subscriptions` (MSC4308).
#[derive(Debug, Deserialize)]
pub(super) struct Limited {
    enabled: Option<bool>,
    limit: Option<u64>,
}

/// An extension for some rooms (MSC3959, MSC3960, MSC3961).
#[derive(Debug, Deserialize)]
pub(super) struct Scoped {
    enabled: Option<bool>,
    lists: Option<Vec<String>>,
    rooms: Option<Vec<String>>,
}

impl From<&Extensions> for sliding::Extensions {
    fn from(extensions: &Extensions) -> Self {
        let is = |enabled: Option<bool>| enabled == Some(true);
        Self {
            account_data: scope(extensions.account_data.as_ref()),
            receipts: scope(extensions.receipts.as_ref()),
            typing: scope(extensions.typing.as_ref()),
            e2ee: extensions.e2ee.as_ref().is_some_and(|switch| is(switch.enabled)),
            to_device: extensions.to_device.as_ref().is_some_and(|to_device| is(to_device.enabled)),
            thread_subscriptions: extensions.thread_subscriptions.as_ref().filter(|wanted| is(wanted.enabled)).map(
                |wanted| {
                    let limit = wanted.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
                    limit.unwrap_or(THREAD_SUBSCRIPTIONS_MAX).clamp(1, THREAD_SUBSCRIPTIONS_MAX)
                },
            ),
        }
    }
}

/// The rooms that an extension is for: an asterisk stands for all lists, and for all subscribed rooms.
fn scope(scoped: Option<&Scoped>) -> Option<Scope> {
    let scoped = scoped.filter(|scoped| scoped.enabled == Some(true))?;
    let some = |names: &Option<Vec<String>>| names.clone().filter(|names| !names.iter().any(|name| name == "*"));
    let rooms = some(&scoped.rooms);
    Some(Scope {
        lists: some(&scoped.lists),
        rooms: rooms.map(|rooms| rooms.into_iter().filter_map(|room| OwnedRoomId::try_from(room).ok()).collect()),
    })
}
