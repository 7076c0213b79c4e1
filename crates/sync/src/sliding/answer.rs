//! One look at what is new on a connection.

use super::catalog::{Catalog, direct_rooms};
use super::connections::{Live, Scanned};
use super::lists::{Changes, Lists};
use super::room::Place;
use super::{Run, SlidingRequest};
use crate::assemble::Context;
use crate::changed::{Changed, News};
use crate::device_lists::DeviceNews;
use crate::json::{push_name, push_number, push_text};
use crate::{Inner, StateChoice, SyncError, SyncRequest, SyncToken};
use base::{RoomNum, Stamp};
use records::{AccountDatum, View};
use ruma::RoomId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use sync_core::sliding::{Connection, Draft, Match, Rules, Sent, Wanted};

/// How many rooms are put together without a turn among the syncs that take long.
const ROOMS_AT_ONCE: usize = 40;

/// How many rooms that come into view one answer tells; more come with the next one. That bounds what is written
/// for it: some 100 bytes a room.
const ROOMS_MAX: usize = 10_000;

/// What a look came to.
pub enum Outcome {
    /// This.
    Told(Told),
    /// Another request has taken the connection over.
    Superseded,
    /// It takes long, and needs leave to.
    Long,
}

/// What there is to tell.
#[derive(Debug, Default)]
pub struct Told {
    /// Up to when.
    pub token: SyncToken,
    /// The content of the `lists` object.
    lists: String,
    /// The content of the `rooms` object.
    pub rooms: String,
    /// What is told beside rooms.
    pub extensions: super::extensions::Told,
}

impl Told {
    /// Whether there is nothing worth answering for.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.extensions.is_empty()
    }

    /// The response that tells it.
    pub fn response(&self, position: &str, txn_id: Option<&str>) -> String {
        let mut out = String::with_capacity(self.rooms.len() + 512);
        out.push('{');
        push_name(&mut out, "pos");
        push_text(&mut out, position);
        if let Some(txn_id) = txn_id {
            push_name(&mut out, "txn_id");
            push_text(&mut out, txn_id);
        }
        for (name, content) in [("lists", &self.lists), ("rooms", &self.rooms)] {
            push_object(&mut out, name, content);
        }
        push_object(&mut out, "extensions", &self.extensions.content());
        out.push('}');
        out
    }
}

fn push_object(out: &mut String, name: &str, content: &str) {
    push_name(out, name);
    out.push('{');
    out.push_str(content);
    out.push('}');
}

/// What one look is made of.
pub(super) struct Look<'a> {
    pub inner: &'a Inner,
    pub request: &'a SlidingRequest,
    pub context: Context<'a>,
    pub since: Option<SyncToken>,
    pub connection: &'a mut Connection,
    pub draft: &'a mut Draft,
    pub direct: &'a HashSet<RoomNum>,
    /// The account data of rooms that changed, by room.
    pub stored: HashMap<RoomNum, Vec<AccountDatum>>,
    /// The rules that rooms match, combined.
    combined: HashMap<Match<'a>, Combined>,
    pub told: Told,
}

/// What the rules that match a room ask for together.
#[derive(Clone, Debug)]
pub(super) struct Combined {
    pub limit: usize,
    pub wanted: std::sync::Arc<Wanted>,
    /// The number under which the connection remembers what is wanted.
    pub number: u16,
}

impl Run {
    /// Looks at what is new, and drafts what the connection is told.
    pub fn look(&mut self, may_be_long: bool) -> Result<Outcome, SyncError> {
        let slot = self.slot.clone();
        slot.with(self.turn, |live| self.look_at(live, may_be_long)).unwrap_or(Ok(Outcome::Superseded))
    }

    fn look_at(&mut self, live: &mut Live, may_be_long: bool) -> Result<Outcome, SyncError> {
        let (inner, request) = (self.inner.clone(), self.request.clone());
        let (user, rules) = (&*request.user_id, &request.rules);
        // The count of what is volatile is taken before the rest: what changes in between is told twice
        // instead of never.
        let volatile = inner.volatile_count();
        let view = inner.records.view();
        let token = SyncToken::new(view.stamp(), volatile);
        let since = self.since;
        let changed = match since {
            Some(since) => inner.changed(&view, user, &self.active, since.stamp)?,
            None => Changed::Anywhere,
        };
        let sorts = changed == Changed::Anywhere || live.lists.as_ref().is_none_or(|lists| lists.lacks(&rules.lists));
        let looks_everywhere = changed == Changed::Anywhere && since.is_some() && rules.extensions.e2ee;
        if !may_be_long && (looks_everywhere || (sorts && !rules.lists.is_empty())) {
            return Ok(Outcome::Long);
        }
        let (news, is_own, devices) = match changed {
            Changed::Anywhere => (None, true, DeviceNews::Anybody),
            Changed::Here { rooms, own, devices } => (Some(rooms), own, devices),
        };
        let stored = match since {
            Some(since) if is_own => view.account_data_since(user, since.stamp, view.stamp())?,
            _ => Vec::new(),
        };
        let is_direct = |datum: &AccountDatum| datum.room_id.is_none() && datum.kind == "m.direct";
        let mut other_direct = news.is_none() || stored.iter().any(is_direct);
        let direct = match live.direct.take() {
            Some(direct) if !other_direct => direct,
            before => {
                let direct = direct_rooms(&view, user)?;
                other_direct = before.as_ref() != Some(&direct);
                direct
            }
        };
        let stored_rooms = rooms_of(&view, stored)?;

        // What failed half-way is sorted anew.
        let lists = live.lists.take().filter(|_| news.is_some());
        let context_request = context_request(&request);
        let context = Context::for_sliding(&inner, &context_request, view.clone(), (since, token), is_own)?;
        let catalog = Catalog { context: &context, inner: &inner, view: &view, user, direct: &direct };
        let moves = news.iter().flatten().filter(|(_, news)| news.events).map(|(room, _)| *room);
        let moves: BTreeSet<RoomNum> = moves.chain(stored_rooms.keys().copied()).collect();
        let is_told = |room: RoomNum| self.draft.sent(&live.connection, room).is_some();
        let changes = Changes { rooms: moves.into_iter().collect(), direct: other_direct, is_told: &is_told };
        let mut lists = lists.unwrap_or_default();
        let came = lists.refresh(&catalog, &rules.lists, &changes)?;

        let subscribed = subscribed(&view, rules)?;
        let is_full = came || !live.scanned.take().is_some_and(|scanned| scanned.is_of(self.version, since, rules));
        let mut look = Look {
            inner: &inner,
            request: &request,
            context,
            since,
            connection: &mut live.connection,
            draft: &mut self.draft,
            direct: &direct,
            stored: stored_rooms,
            combined: HashMap::new(),
            told: Told { token, ..Told::default() },
        };
        let typed = look.typed(&self.active);
        let mut found = if is_full { look.unseen(&lists, &subscribed) } else { BTreeMap::new() };
        let is_whole = found.len() <= ROOMS_MAX;
        if !is_whole {
            found = found.into_iter().take(ROOMS_MAX).collect();
        }
        look.add_changed(&mut found, news.as_ref(), &typed, other_direct, |room| Match {
            lists: lists.of_room(room, &rules.lists),
            subscribed: subscribed.get(&room).copied(),
        });
        if !may_be_long && found.len() > ROOMS_AT_ONCE {
            (live.direct, live.lists) = (Some(direct), Some(lists));
            return Ok(Outcome::Long);
        }
        for (room, found) in found {
            let news = news.as_ref().map_or(News::ANY, |news| news.get(&room).copied().unwrap_or_default());
            look.room(room, &found, news)?;
        }
        look.beside_rooms(news.as_ref(), &devices, is_own)?;
        let mut told = look.told;
        for name in rules.lists.keys() {
            push_name(&mut told.lists, name);
            told.lists.push_str("{\"count\":");
            push_number(&mut told.lists, u64::try_from(lists.count(name)).unwrap_or(u64::MAX));
            told.lists.push('}');
        }
        live.lists = (!rules.lists.is_empty()).then_some(lists);
        live.direct = Some(direct);
        live.scanned = is_whole.then_some(Scanned { version: self.version, token, rules: request });
        self.since = Some(token);
        Ok(Outcome::Told(told))
    }
}

impl<'a> Look<'a> {
    /// What the rules that match a room ask for together.
    pub fn combined(&mut self, found: &Match<'a>) -> Combined {
        if let Some(combined) = self.combined.get(found) {
            return combined.clone();
        }
        let (limit, wanted) = self.request.rules.combined(found);
        let number = self.draft.keep_wanted(self.connection, &wanted);
        let combined = Combined { limit, wanted: std::sync::Arc::new(wanted), number };
        self.combined.insert(found.clone(), combined.clone());
        combined
    }

    /// What the connection was told of a room.
    pub fn sent(&self, room: RoomNum) -> Option<&Sent> {
        self.draft.sent(self.connection, room)
    }

    /// The rooms in windows and subscriptions of which the client was not told all that it asks for.
    fn unseen(&mut self, lists: &Lists, subscribed: &HashMap<RoomNum, &'a RoomId>) -> BTreeMap<RoomNum, Match<'a>> {
        let mut rooms = lists.windows(&self.request.rules.lists);
        for (room, room_id) in subscribed {
            rooms.entry(*room).or_default().subscribed = Some(room_id);
        }
        rooms.retain(|room, found| {
            let combined = self.combined(found);
            let Some(sent) = self.sent(*room) else { return true };
            sent.up_to.is_some()
                || sent.wanted != combined.number
                || sent.timeline < timeline_number(combined.limit)
                || sent.is_dm != self.direct.contains(room)
                || sent.account_data != self.wants_account_data(found)
                || sent.receipts != self.wants_receipts(found)
        });
        rooms
    }

    /// Adds the rooms in which something happened, and notes of those that no rule wants up to when they were
    /// told.
    fn add_changed(
        &mut self,
        found: &mut BTreeMap<RoomNum, Match<'a>>,
        news: Option<&BTreeMap<RoomNum, News>>,
        typed: &[RoomNum],
        other_direct: bool,
        rules_of: impl Fn(RoomNum) -> Match<'a>,
    ) {
        let Some(since) = self.since else { return };
        let changed: BTreeSet<RoomNum> = match news {
            Some(news) => {
                let rooms = news.iter().filter(|(_, news)| news.events || news.receipts).map(|(room, _)| room);
                rooms.chain(self.stored.keys()).copied().collect()
            }
            // Too much has happened to know where.
            None => self.connection.rooms().map(|(room, _)| room).collect(),
        };
        for room in changed {
            if found.contains_key(&room) {
                continue;
            }
            let rules = rules_of(room);
            if !rules.is_none() {
                found.insert(room, rules);
            } else if let Some(sent) = self.sent(room).filter(|sent| sent.up_to.is_none()) {
                let sent = Sent { up_to: Some(since.stamp), ..sent.clone() };
                self.draft.tell(self.connection, room, sent);
            }
        }
        let mut others = typed.to_vec();
        if other_direct {
            let told = self.connection.rooms();
            let changed = told.filter(|(room, sent)| sent.is_dm != self.direct.contains(room));
            others.extend(changed.map(|(room, _)| room));
        }
        for room in others {
            let rules = rules_of(room);
            if !rules.is_none() {
                found.entry(room).or_insert(rules);
            }
        }
    }

    /// Tells what is new of a room.
    fn room(&mut self, room: RoomNum, found: &Match<'a>, news: News) -> Result<(), SyncError> {
        let Some((at, record)) = self.context.view().membership(&self.request.user_id, room)? else { return Ok(()) };
        let view = self.context.view().clone();
        if self.context.hides(&record) {
            return Ok(());
        }
        let Some(reader) = self.inner.rooms.reader(&view, room)? else { return Ok(()) };
        let sent = self.sent(room).cloned();
        // A room that is not told up to somewhere else is told up to the client's position.
        let known = sent.as_ref().zip(self.since).map(|(sent, since)| sent.up_to.unwrap_or(since.stamp));
        let combined = self.combined(found);
        let place = Place { room, at, record, found, combined, sent, known, news };
        self.tell(&reader, &place)
    }
}

/// The number that stands for how many events a timeline was told with.
pub(super) fn timeline_number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(Sent::WHOLE_TIMELINE).min(Sent::WHOLE_TIMELINE - 1)
}

fn rooms_of(view: &View, stored: Vec<AccountDatum>) -> Result<HashMap<RoomNum, Vec<AccountDatum>>, SyncError> {
    let mut rooms: HashMap<RoomNum, Vec<AccountDatum>> = HashMap::new();
    for datum in stored {
        let Some(room_id) = &datum.room_id else { continue };
        if let Some(room) = view.room_num(room_id)? {
            rooms.entry(room).or_default().push(datum);
        }
    }
    Ok(rooms)
}

fn subscribed<'a>(view: &View, rules: &'a Rules) -> Result<HashMap<RoomNum, &'a RoomId>, SyncError> {
    let mut rooms = HashMap::with_capacity(rules.subscriptions.len());
    for room_id in rules.subscriptions.keys() {
        rooms.extend(view.room_num(room_id)?.map(|room| (room, &**room_id)));
    }
    Ok(rooms)
}

/// The request as what it shares with `GET /sync` knows it.
fn context_request(request: &SlidingRequest) -> SyncRequest {
    SyncRequest {
        user_id: request.user_id.clone(),
        device_id: request.device_id.clone(),
        since: None,
        filter: None,
        full_state: false,
        state: StateChoice::After,
        timeout: Duration::ZERO,
    }
}

/// A room that is told up to a stamp.
pub(super) fn is_behind(known: Option<Stamp>, since: Option<SyncToken>) -> bool {
    known.zip(since).is_some_and(|(known, since)| known < since.stamp)
}
