//! `POST /search`

mod answer;
mod criteria;
mod token;

use super::access::{Access, Seen};
use super::error::not_in_room;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use ::search::{Group, Hit, Key, Request, Scope, Terms, Wanted};
use answer::{Answer, Categories};
use axum::Json;
use axum::extract::{Query, State as Within};
use base::RoomNum;
use criteria::{Asked, Criteria, GroupKey};
use records::{EventStatus, View};
use rules::IgnoredUsers;
use rules::filter::Matcher;
use rules::ignored::IGNORED_USER_LIST;
use ruma::UserId;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use token::{BatchToken, OfGroup};

/// How many hits more than the page still needs are asked for at once: some may be hidden from the searcher.
const HITS_AHEAD: usize = 32;
/// How many hits one request looks at, whatever of them it can show. The client goes on from there.
const LOOKED_AT_MAX: usize = 1_000;
/// How many hits that may be hidden from the searcher are looked at to count them.
const COUNTED_MAX: usize = 500;
/// How many rooms back a room's predecessors are searched with it.
const PREDECESSORS_MAX: usize = 8;

#[derive(Deserialize)]
pub(in crate::rooms) struct Parameters {
    next_batch: Option<String>,
}

/// Messages, names and topics with the words that are looked for, in the rooms that the user is in or was in and has
/// not forgotten, as far as they may see them (client-server API, "Server Side Search"). A room that is named by the
/// filter is searched with the rooms that it has replaced.
pub(in crate::rooms) async fn search(
    Within(state): Within<Arc<State>>,
    session: Session,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    Body(asked): Body<Asked>,
) -> Result<Json<Answer>, ApiError> {
    state.limit(Class::Other, &session)?;
    let Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let token = parameters.next_batch.as_deref().map(BatchToken::parse).transpose()?;
    let Some(criteria) = asked.search_categories.room_events else {
        return Ok(Json(Answer { search_categories: Categories { room_events: None } }));
    };
    criteria.check()?;
    state.search.catch_up().await;
    let mut finding = Finding::new(&state, &session, &criteria)?;
    let page = finding.page(token.as_ref()).await?;
    let found = finding.answer(&criteria, &page)?;
    Ok(Json(Answer { search_categories: Categories { room_events: Some(found) } }))
}

/// One search.
struct Finding<'a> {
    state: &'a State,
    session: &'a Session,
    view: View,
    request: Request,
    matcher: Matcher,
    limit: usize,
    /// The rooms that were looked at; none for those that the searcher may not read.
    rooms: HashMap<RoomNum, Option<Access<'a>>>,
}

/// An event that is shown.
struct Shown {
    hit: Hit,
    seen: Seen,
    /// The edit whose text has the words.
    edit: Option<Seen>,
}

/// What of the hits is shown.
struct Page {
    shown: Vec<Shown>,
    count: u64,
    next: Option<::search::Place>,
    of_group: Option<OfGroup>,
}

impl<'a> Finding<'a> {
    fn new(state: &'a State, session: &'a Session, criteria: &Criteria) -> Result<Self, ApiError> {
        let view = state.records.view();
        let mut scope = Scope::of(&view, &session.user_id)?;
        if let Some(rooms) = &criteria.filter.rooms {
            let rooms = with_predecessors(state, &view, rooms.iter().map(AsRef::as_ref), &scope)?;
            scope.retain(|room| rooms.contains(&room));
        }
        if !criteria.filter.not_rooms.is_empty() {
            let nums = criteria.filter.not_rooms.iter().map(|room_id| view.room_num(room_id));
            let unwanted: HashSet<RoomNum> = nums.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            scope.retain(|room| !unwanted.contains(&room));
        }
        let ignored = view.account_data(&session.user_id, None, IGNORED_USER_LIST)?;
        let ignored = IgnoredUsers::of_content(ignored.as_deref());
        let ignored = ignored.users().filter_map(|user| <&UserId>::try_from(user).ok());
        let mut wanted = Wanted::new(criteria.keys());
        wanted.has_url = criteria.has_url();
        if let Some(senders) = &criteria.filter.senders {
            wanted = wanted.sent_by(senders.iter().map(AsRef::as_ref));
        }
        let wanted = wanted.ignoring(ignored.filter(|user| *user != session.user_id));
        let request = Request {
            terms: Arc::new(Terms::of(&criteria.search_term)),
            scope: Arc::new(scope),
            wanted: Arc::new(wanted),
            ordering: criteria.ordering(),
            beyond: None,
            group: None,
            hits_max: 0,
            doubtful_max: COUNTED_MAX,
        };
        let (matcher, limit) = (criteria.matcher(), criteria.limit());
        Ok(Self { state, session, view, request, matcher, limit, rooms: HashMap::new() })
    }

    /// Looks for a page of events that the searcher may see.
    async fn page(&mut self, token: Option<&BatchToken>) -> Result<Page, ApiError> {
        let of_group = token.and_then(|token| token.group.clone());
        self.request.beyond = token.map(BatchToken::place);
        let mut page = Page { shown: Vec::new(), count: 0, next: None, of_group };
        match &page.of_group {
            None => {}
            Some(OfGroup { key: GroupKey::Room, value }) => {
                let num =
                    <&ruma::RoomId>::try_from(value.as_str()).ok().map(|id| self.view.room_num(id)).transpose()?;
                let Some(num) = num.flatten() else { return Ok(page) };
                self.request.group = Some(Group::room(num));
            }
            Some(OfGroup { key: GroupKey::Sender, value }) => {
                let Ok(sender) = <&UserId>::try_from(value.as_str()) else { return Ok(page) };
                self.request.group = Some(Group::sender(sender));
            }
        }
        if self.request.terms.is_empty() || self.request.scope.is_empty() {
            return Ok(page);
        }
        let mut looked_at = 0;
        loop {
            self.request.hits_max = self.limit - page.shown.len() + HITS_AHEAD;
            let found = self.state.search.hits(self.request.clone()).await?;
            if looked_at == 0 {
                page.count = found.certain;
                for hit in found.doubtful {
                    page.count += u64::from(self.look_at(hit)?.is_some());
                }
                // It is counted once.
                self.request.doubtful_max = 0;
            }
            let is_last = found.hits.len() < self.request.hits_max;
            for hit in found.hits {
                self.request.beyond = Some(hit.place);
                looked_at += 1;
                if let Some(shown) = self.look_at(hit)?
                    && page.of_group.as_ref().is_none_or(|group| group.has(&shown.seen))
                {
                    page.shown.push(shown);
                }
                if page.shown.len() >= self.limit || looked_at >= LOOKED_AT_MAX {
                    page.next = self.request.beyond;
                    return Ok(page);
                }
            }
            if is_last {
                return Ok(page);
            }
        }
    }

    /// A hit as the searcher may see it; none if they may not, or if it is not what they look for after all.
    fn look_at(&mut self, hit: Hit) -> Result<Option<Shown>, ApiError> {
        if !self.rooms.contains_key(&hit.room) {
            let access = self.access(hit.room)?;
            self.rooms.insert(hit.room, access);
        }
        let Some(Some(access)) = self.rooms.get(&hit.room) else { return Ok(None) };
        let reader = &access.reader;
        let see = |num| -> Result<Option<Seen>, ApiError> {
            let Some((_, record)) = self.view.event(num)? else { return Ok(None) };
            // The index may be behind, or belong to another time.
            if record.room != reader.num() || record.redacted_by.is_some() || record.status != EventStatus::Accepted {
                return Ok(None);
            }
            let Some(event) = reader.event(num)? else { return Ok(None) };
            Ok(access.visible(&[event])?.pop())
        };
        let Some(seen) = see(hit.event)? else { return Ok(None) };
        let edit = match hit.edit.map(see).transpose()? {
            // It was found by the text of an edit that is not for them.
            Some(None) => return Ok(None),
            edit => edit.flatten(),
        };
        let is_wanted = Key::of(&seen.event.pdu).is_some() && self.matcher.matches_pdu(&seen.event.pdu);
        Ok(is_wanted.then_some(Shown { hit, seen, edit }))
    }

    fn access(&self, room: RoomNum) -> Result<Option<Access<'a>>, ApiError> {
        let Some(head) = self.view.room_head(room)? else { return Ok(None) };
        match Access::of(self.state, self.session, &head.room_id) {
            Ok(access) => Ok(Some(access)),
            Err(error) if error.is_internal() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// A room that was looked at and that the searcher may read.
    fn room(&self, room: RoomNum) -> Result<&Access<'a>, ApiError> {
        self.rooms.get(&room).and_then(Option::as_ref).ok_or_else(not_in_room)
    }
}

/// The rooms with these ids, and those that they have replaced.
fn with_predecessors<'a>(
    state: &State,
    view: &View,
    room_ids: impl Iterator<Item = &'a ruma::RoomId>,
    scope: &Scope,
) -> Result<HashSet<RoomNum>, ApiError> {
    #[derive(Deserialize)]
    struct Create {
        predecessor: Option<Predecessor>,
    }
    #[derive(Deserialize)]
    struct Predecessor {
        room_id: ruma::OwnedRoomId,
    }

    let mut nums = HashSet::new();
    for room_id in room_ids {
        let mut next = view.room_num(room_id)?;
        for _ in 0..PREDECESSORS_MAX {
            // What the searcher was not in leads nowhere.
            let Some(num) = next.filter(|num| scope.has(*num) && nums.insert(*num)) else { break };
            let Some(reader) = state.rooms.reader(view, num)? else { break };
            let create = reader.state_event(reader.state(), "m.room.create", "")?;
            let create = create.and_then(|create| serde_json::from_str::<Create>(create.pdu.content().get()).ok());
            let Some(predecessor) = create.and_then(|create| create.predecessor) else { break };
            next = view.room_num(&predecessor.room_id)?;
        }
    }
    Ok(nums)
}

impl OfGroup {
    fn has(&self, seen: &Seen) -> bool {
        match self.key {
            GroupKey::Room => seen.event.pdu.room_id().as_str() == self.value,
            GroupKey::Sender => seen.event.pdu.sender().as_str() == self.value,
        }
    }

    fn of(key: GroupKey, seen: &Seen) -> Self {
        let value = match key {
            GroupKey::Room => seen.event.pdu.room_id().as_str(),
            GroupKey::Sender => seen.event.pdu.sender().as_str(),
        };
        Self { key, value: value.to_owned() }
    }
}
