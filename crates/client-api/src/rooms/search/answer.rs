//! What a client is told of a search.

use super::criteria::{AskedContext, Criteria};
use super::token::{BatchToken, OfGroup};
use super::{Finding, Page, Shown};
use crate::ApiError;
use crate::rooms::access::{Access, Seen};
use crate::rooms::timeline;
use base::{Order, RoomNum};
use rooms::Piece;
use rules::filter::Matcher;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use store::Direction;
use sync_core::PageToken;

/// How many words are told to be marked in the results.
const HIGHLIGHTS_MAX: usize = 50;
/// Of a room with more members, the state that comes with results has those only who sent them.
const MEMBERS_MAX: u64 = 1_000;

#[derive(Serialize)]
pub(in crate::rooms) struct Answer {
    pub(super) search_categories: Categories,
}

#[derive(Serialize)]
pub(super) struct Categories {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_events: Option<Found>,
}

#[derive(Serialize)]
pub(super) struct Found {
    count: u64,
    highlights: BTreeSet<String>,
    results: Vec<FoundEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<&'static str, BTreeMap<String, FoundGroup>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

#[derive(Serialize)]
struct FoundEvent {
    rank: f32,
    result: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

#[derive(Serialize)]
struct Context {
    start: String,
    end: String,
    events_before: Vec<Box<RawValue>>,
    events_after: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_info: Option<BTreeMap<OwnedUserId, Profile>>,
}

/// How somebody was called in a room.
#[derive(Default, Serialize, Deserialize)]
struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

#[derive(Serialize)]
struct FoundGroup {
    order: usize,
    results: Vec<OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

impl Finding<'_> {
    /// Puts a page into words.
    pub(super) fn answer(&self, criteria: &Criteria, page: &Page) -> Result<Found, ApiError> {
        let (mut results, mut highlights) = (Vec::with_capacity(page.shown.len()), BTreeSet::new());
        for shown in &page.shown {
            let access = self.room(shown.hit.room)?;
            self.highlight(shown, &mut highlights);
            results.push(FoundEvent {
                rank: shown.hit.rank,
                result: access.client_event(&shown.seen)?,
                context: criteria.event_context.as_ref().map(|wanted| context(access, shown, wanted)).transpose()?,
            });
        }
        let next = |group: Option<OfGroup>| page.next.map(|next| BatchToken::new(next, group).text()).transpose();
        let mut groups: BTreeMap<&'static str, BTreeMap<String, FoundGroup>> = BTreeMap::new();
        for key in criteria.groups() {
            let name = match key {
                super::GroupKey::Room => "room_id",
                super::GroupKey::Sender => "sender",
            };
            let groups = groups.entry(name).or_default();
            for shown in &page.shown {
                let of = OfGroup::of(key, &shown.seen);
                let order = groups.len() + 1;
                if !groups.contains_key(&of.value) {
                    let group = FoundGroup { order, results: Vec::new(), next_batch: next(Some(of.clone()))? };
                    groups.insert(of.value.clone(), group);
                }
                if let Some(group) = groups.get_mut(&of.value) {
                    group.results.push(shown.seen.event.pdu.event_id().clone());
                }
            }
        }
        let state = criteria.includes_state().then(|| self.state_of(&page.shown)).transpose()?;
        let next_batch = next(page.of_group.clone())?;
        Ok(Found { count: page.count, highlights, results, state, groups, next_batch })
    }

    fn highlight(&self, shown: &Shown, highlights: &mut BTreeSet<String>) {
        let event = &shown.seen.event.pdu;
        let text = match &shown.edit {
            Some(edit) => ::search::edited_text(event, &edit.event.pdu),
            None => ::search::text_of(event),
        };
        if let Some(text) = text {
            self.request.terms.highlights(&text.text, highlights, HIGHLIGHTS_MAX);
        }
    }

    /// The state of the rooms of the results, as the searcher may know it.
    fn state_of(&self, shown: &[Shown]) -> Result<BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>, ApiError> {
        let mut rooms: BTreeMap<RoomNum, Vec<&Seen>> = BTreeMap::new();
        for shown in shown {
            rooms.entry(shown.hit.room).or_default().push(&shown.seen);
        }
        let mut states = BTreeMap::new();
        for (room, seen) in rooms {
            let access = self.room(room)?;
            let state = access.room_state();
            let events = if access.reader.head().joined > MEMBERS_MAX {
                let mut events = timeline::state_without_members(access, state)?;
                events.extend(timeline::senders(access, state, seen)?);
                events
            } else {
                access.reader.state_events(state)?
            };
            states.insert(access.reader.room_id().to_owned(), access.client_state(&events)?);
        }
        Ok(states)
    }
}

/// What was around a result.
fn context(access: &Access<'_>, shown: &Shown, wanted: &AskedContext) -> Result<Context, ApiError> {
    let order = shown.seen.event.order;
    let everything = Matcher::default();
    let before =
        Piece { after: Order(i64::MIN), up_to: Order(order.0.saturating_sub(1)), direction: Direction::Backward };
    let after = Piece { after: order, up_to: access.up_to(), direction: Direction::Forward };
    let events = |piece: Piece, events_max: usize| match events_max {
        0 => Ok(Vec::new()),
        events_max => timeline::page(access, &everything, piece, events_max).map(|page| page.seen),
    };
    let (before, after) = (events(before, wanted.before())?, events(after, wanted.after())?);
    let first = before.last().unwrap_or(&shown.seen).event.order;
    let last = &after.last().unwrap_or(&shown.seen).event;
    let all = || before.iter().chain([&shown.seen]).chain(&after);
    let profile_info = if wanted.include_profile.unwrap_or_default() {
        let members = timeline::senders(access, last.record.state_after, all())?;
        let profile = |member: &std::sync::Arc<rooms::StoredEvent>| -> Result<_, ApiError> {
            let user = member.pdu.state_key().and_then(|user| OwnedUserId::try_from(user).ok());
            let profile = serde_json::from_str::<Profile>(access.content(member)?.get()).unwrap_or_default();
            Ok(user.map(|user| (user, profile)))
        };
        let profiles = members.iter().map(profile).filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Some(profiles)
    } else {
        None
    };
    Ok(Context {
        start: PageToken(Order(first.0.saturating_sub(1))).to_string(),
        end: PageToken(last.order).to_string(),
        events_before: access.client_events(&before)?,
        events_after: access.client_events(&after)?,
        profile_info,
    })
}
