//! What is told of a room (MSC4186, "RoomResult").

use super::SlidingForm;
use super::answer::{Combined, Look, is_behind, timeline_number};
use super::required::{Places, differences, wanted_beyond};
use crate::SyncError;
use crate::assemble::{Seen, Sight, parts, says_join};
use crate::changed::News;
use crate::counts::Counts;
use crate::json::{push_events_array, push_name, push_number, push_text, separate};
use base::{EventNum, Order, RoomNum, Stamp};
use records::state_map::{Difference, StateRoot};
use records::{Membership, MembershipRecord};
use rooms::{RoomReader, StoredEvent};
use ruma::events::TimelineEventType;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::Direction;
use sync_core::Window;
use sync_core::sliding::{Match, Sent, Wanted};

const MEMBER: &str = "m.room.member";
/// The events that count as activity which a user wants to see a room move up for (MSC4186, "`RoomResult`").
const BUMPS: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];
/// How many events before those that are told are searched for the last such activity. Before them, the room
/// counts as active when the last one searched came.
const BUMPS_SEARCHED_MAX: usize = 100;

/// A room that a rule wants, and what the connection was told of it.
pub(super) struct Place<'m, 'a> {
    pub room: RoomNum,
    /// Since when the user is to it what they are.
    pub at: Stamp,
    pub record: MembershipRecord,
    pub found: &'m Match<'a>,
    pub combined: Combined,
    pub sent: Option<Sent>,
    /// Up to when the client knows it; none if it does not.
    pub known: Option<Stamp>,
    pub news: News,
}

/// What is told of a room, before it is written down.
#[derive(Default)]
pub(super) struct RoomResult {
    pub is_initial: bool,
    pub is_expanded: bool,
    pub window: Option<Window<Seen>>,
    pub required: Vec<Arc<StoredEvent>>,
    /// State that was removed: types and state keys.
    pub removed: Vec<(String, String)>,
    /// What changed of the room's name and its avatar: the field, and the text if there still is one.
    pub texts: Vec<(&'static str, Option<String>)>,
    pub heroes: Vec<Hero>,
    pub counts: Option<(u64, u64)>,
    pub is_dm: Option<bool>,
    pub bump_stamp: Option<Stamp>,
    pub stripped: Option<String>,
    /// What the user has not read, if that changed.
    pub unread: Option<Counts>,
    /// What the user is to the room, if the client does not know it.
    pub membership: Option<Membership>,
}

/// State to tell: events, and the types and state keys of what was removed.
type Required = (Vec<Arc<StoredEvent>>, Vec<(String, String)>);

/// A member who names a room.
pub(super) struct Hero {
    user: OwnedUserId,
    displayname: Option<String>,
    avatar_url: Option<String>,
}

impl<'a> Look<'a> {
    /// Tells what is new of a room, and remembers what the client will then know.
    pub fn tell(&mut self, reader: &RoomReader, place: &Place<'_, 'a>) -> Result<(), SyncError> {
        self.context.set_timeline_max(place.combined.limit);
        let mut sent = place.sent.clone().unwrap_or_else(|| Sent {
            up_to: None,
            wanted: place.combined.number,
            timeline: 0,
            is_dm: false,
            account_data: false,
            receipts: false,
            members: Vec::new(),
        });
        let told = match place.record.membership {
            Membership::Join => self.joined(reader, place, &mut sent)?,
            Membership::Invite | Membership::Knock => Some(self.outside(place)),
            Membership::Leave | Membership::Ban => self.left(reader, place, &mut sent)?,
        };
        let Some(told) = told else { return Ok(()) };
        let is_joined = place.record.membership == Membership::Join;
        self.extend(reader, place, &told, &mut sent, is_joined)?;
        sent.up_to = None;
        sent.wanted = place.combined.number;
        if let Some(is_dm) = told.is_dm {
            sent.is_dm = is_dm;
        }
        self.draft.tell(self.connection, place.room, sent);
        if !told.is_empty() {
            push_name(&mut self.told.rooms, reader.room_id().as_str());
            let mut out = String::from("{");
            self.push(&mut out, reader, place, &told)?;
            out.push('}');
            self.told.rooms.push_str(&out);
        }
        Ok(())
    }

    fn joined(
        &mut self,
        reader: &RoomReader,
        place: &Place<'_, 'a>,
        sent: &mut Sent,
    ) -> Result<Option<RoomResult>, SyncError> {
        let known = match place.known {
            Some(known) if self.was_joined(reader, place, known)? => Some(known),
            _ => None,
        };
        let is_initial = known.is_none();
        let is_expanded = !is_initial && timeline_number(place.combined.limit) > sent.timeline;
        let looks = is_initial || place.news.events || place.news.members || is_behind(known, self.since);
        let window = match known {
            Some(known) if !is_expanded && looks => {
                let sight = if place.at <= known { Sight::All } else { Sight::Visible };
                Some(self.context.window(reader, Some(known), self.context.end(), sight)?)
            }
            Some(_) if !is_expanded => None,
            _ => Some(self.context.window(reader, None, self.context.end(), Sight::Visible)?),
        };
        let gap = has_gap(window.as_ref(), known);
        remember_timeline(sent, window.as_ref(), place.combined.limit, is_initial || is_expanded);
        let to = reader.state();
        let changes = match known {
            Some(known) if looks => {
                let from = state_known(reader, window.as_ref().filter(|_| !gap && !is_expanded), known)?;
                with_redacted(reader, window.as_ref(), to, differences(reader, from, to)?)?
            }
            _ => Vec::new(),
        };
        let scope = Scope { at: to, changes: &changes, window: window.as_ref(), is_initial };
        let (required, removed) = self.required(reader, place, &scope, sent)?;

        let changed = |kind: &str| changes.iter().any(|change| change.kind == kind);
        let members_changed = is_initial || changed(MEMBER);
        let is_dm = self.direct.contains(&place.room);
        let mut told = RoomResult {
            is_initial,
            is_expanded,
            required,
            removed,
            counts: members_changed.then(|| (reader.head().joined, reader.head().invited)),
            is_dm: (is_dm != place.sent.as_ref().is_some_and(|sent| sent.is_dm) || is_initial).then_some(is_dm),
            membership: is_initial.then_some(Membership::Join),
            ..RoomResult::default()
        };
        if is_initial || changed("m.room.name") {
            told.texts.push(("name", text_of_state(reader, to, "m.room.name", "name")?));
        }
        if is_initial || changed("m.room.avatar") {
            told.texts.push(("avatar", text_of_state(reader, to, "m.room.avatar", "url")?));
        }
        if members_changed || changed("m.room.name") || changed("m.room.canonical_alias") {
            told.heroes = self.heroes(reader, to)?;
        }
        told.bump_stamp = self.bump_stamp(reader, window.as_ref(), is_initial || gap)?;
        told.window = window;
        if self.request.form == SlidingForm::Unstable && (looks || place.news.receipts) {
            // The accepted form leaves the counts to clients, who can decrypt what they count.
            let counts = self.context.counts(reader)?;
            told.unread = known.is_none_or(|known| counts.since > known).then(|| counts.total());
        }
        Ok(Some(told))
    }

    /// What those get of a room who are invited or knock: the state that came with it.
    fn outside(&self, place: &Place<'_, 'a>) -> RoomResult {
        let is_new = place.known.is_none_or(|known| place.at > known);
        let is_dm = self.direct.contains(&place.room);
        let mut told = RoomResult::default();
        if is_new {
            told.is_initial = true;
            told.stripped = Some(place.record.stripped_state.clone().unwrap_or_else(|| "[]".to_owned()));
            told.bump_stamp = Some(place.at);
            told.membership = Some(place.record.membership);
            told.counts = None;
        }
        let was_dm = place.sent.as_ref().is_some_and(|sent| sent.is_dm);
        told.is_dm = (is_new || was_dm != is_dm).then_some(is_dm);
        told
    }

    /// Whether the user was joined at a stamp.
    pub fn was_joined(&self, reader: &RoomReader, place: &Place<'_, 'a>, at: Stamp) -> Result<bool, SyncError> {
        if place.at <= at {
            return Ok(place.record.membership == Membership::Join);
        }
        let state = reader.state_at(at.into())?;
        let member = reader.state_event(state, MEMBER, self.request.user_id.as_str())?;
        Ok(member.is_some_and(|member| says_join(&member.pdu)))
    }

    /// The state to tell: what is wanted and changed, what is newly wanted, and the members that the timeline
    /// needs (MSC4186, "Changes to `required_state`", "Lazy loaded memberships").
    pub fn required(
        &self,
        reader: &RoomReader,
        place: &Place<'_, 'a>,
        scope: &Scope<'_>,
        sent: &mut Sent,
    ) -> Result<Required, SyncError> {
        let wanted = &*place.combined.wanted;
        let known = match &place.sent {
            Some(_) if scope.is_initial => Wanted::default(),
            Some(before) => self.connection.wanted(before.wanted).cloned().unwrap_or_default(),
            None => Wanted::default(),
        };
        let is_same = !scope.is_initial && place.sent.as_ref().is_some_and(|sent| sent.wanted == place.combined.number);
        let mut places = if is_same { Places::new() } else { wanted_beyond(reader, scope.at, wanted, &known)? };
        for change in scope.changes {
            if wanted.matches(&change.kind, &change.state_key) {
                places.insert((change.kind.clone(), change.state_key.clone()), change.after);
            }
        }
        if wanted.is_lazy() {
            if scope.is_initial || scope.is_limited() {
                sent.members.clear();
            }
            let begins = !is_same && !known.is_lazy() && !scope.is_initial;
            for (user, member) in self.members(reader, scope, begins, sent.timeline)? {
                if sent.members.contains(&member) {
                    continue;
                }
                sent.add_member(member);
                places.entry((MEMBER.to_owned(), user)).or_insert(Some(member));
            }
        } else {
            sent.members.clear();
        }
        let nums: BTreeSet<EventNum> = places.values().flatten().copied().collect();
        let nums: Vec<EventNum> = nums.into_iter().collect();
        let removed = places.into_iter().filter(|(_, event)| event.is_none()).map(|(place, _)| place).collect();
        Ok((reader.events(&nums)?, removed))
    }

    /// The membership events that a client needs who loads them lazily.
    fn members(
        &self,
        reader: &RoomReader,
        scope: &Scope<'_>,
        begins: bool,
        timeline: u32,
    ) -> Result<Vec<(String, EventNum)>, SyncError> {
        let mut needed: BTreeSet<String> = scope.window.map(users_of).unwrap_or_default();
        if begins {
            // The senders of what the client has already.
            let limit = usize::try_from(timeline).unwrap_or(usize::MAX).min(sync_core::window::TIMELINE_MAX);
            let page = reader.timeline(Order(i64::MIN), self.context.end(), Direction::Backward, limit)?;
            let visible = reader.visible(&self.request.user_id, &page)?;
            let seen = page.iter().zip(visible).filter(|(_, seen)| seen.is_some());
            needed.extend(seen.map(|(event, _)| event.pdu.sender().to_string()));
        }
        let keys: Vec<_> = needed.iter().map(|user| (MEMBER, user.as_str())).collect();
        let found = scope.at.get_many(reader.view(), &keys)?;
        let mut members: Vec<(String, EventNum)> =
            needed.iter().zip(found).filter_map(|(user, event)| Some((user.clone(), event?))).collect();
        if !scope.is_limited() {
            // All changes of members are told as long as the client misses nothing, so that it may keep a list.
            let changes = scope.changes.iter().filter(|change| change.kind == MEMBER);
            members.extend(changes.filter_map(|change| Some((change.state_key.clone(), change.after?))));
        }
        Ok(members)
    }

    fn heroes(&self, reader: &RoomReader, at: StateRoot) -> Result<Vec<Hero>, SyncError> {
        #[derive(Deserialize)]
        struct Profile {
            displayname: Option<String>,
            avatar_url: Option<String>,
        }
        let users = self.context.summary(reader)?.heroes;
        let mut heroes = Vec::with_capacity(users.len());
        for user in users {
            let member = reader.state_event(at, MEMBER, user.as_str())?;
            let profile = member.and_then(|member| serde_json::from_str::<Profile>(member.pdu.content().get()).ok());
            let (displayname, avatar_url) =
                profile.map_or((None, None), |profile| (profile.displayname, profile.avatar_url));
            heroes.push(Hero { user, displayname, avatar_url });
        }
        Ok(heroes)
    }

    /// When the room was active last, if that has changed with the window.
    fn bump_stamp(
        &self,
        reader: &RoomReader,
        window: Option<&Window<Seen>>,
        searches: bool,
    ) -> Result<Option<Stamp>, SyncError> {
        let bumps = |event: &StoredEvent| BUMPS.contains(&event.pdu.kind_str());
        let stamp = |order: Order| Stamp(u64::try_from(order.0).unwrap_or_default());
        let seen = window.into_iter().flat_map(|window| window.events.iter().rev());
        if let Some(last) = seen.map(|seen| &seen.event).find(|event| bumps(event)) {
            return Ok(Some(stamp(last.order)));
        }
        if !searches {
            return Ok(None);
        }
        let mut up_to = window.map_or_else(|| self.context.end(), |window| window.start);
        let mut searched = 0;
        while searched < BUMPS_SEARCHED_MAX {
            let page = reader.timeline(Order(i64::MIN), up_to, Direction::Backward, BUMPS_SEARCHED_MAX / 4)?;
            if let Some(last) = page.iter().find(|event| bumps(event)) {
                return Ok(Some(stamp(last.order)));
            }
            let Some(last) = page.last() else { break };
            up_to = Order(last.order.0.saturating_sub(1));
            searched += page.len();
        }
        Ok(Some(stamp(up_to)))
    }

    /// Writes down what is told of a room.
    fn push(
        &self,
        out: &mut String,
        reader: &RoomReader,
        place: &Place<'_, 'a>,
        told: &RoomResult,
    ) -> Result<(), SyncError> {
        let form = self.request.form;
        if told.is_initial {
            push_name(out, "initial");
            out.push_str("true");
        }
        if let Some(stamp) = told.bump_stamp {
            push_name(out, "bump_stamp");
            push_number(out, stamp.0);
        }
        if form == SlidingForm::Stable {
            if let Some(membership) = told.membership {
                push_name(out, "membership");
                push_text(out, name_of(membership));
            }
            if !place.found.lists.is_empty() {
                push_name(out, "lists");
                out.push('[');
                for name in &place.found.lists {
                    separate(out);
                    push_text(out, name);
                }
                out.push(']');
            }
        }
        for (name, text) in &told.texts {
            match text {
                Some(text) => {
                    push_name(out, name);
                    push_text(out, text);
                }
                // To a client that begins, what is not there is none.
                None if !told.is_initial => {
                    push_name(out, name);
                    out.push_str("null");
                }
                None => {}
            }
        }
        if let Some(is_dm) = told.is_dm.filter(|is_dm| *is_dm || !told.is_initial) {
            push_name(out, "is_dm");
            out.push_str(if is_dm { "true" } else { "false" });
        }
        push_heroes(out, &told.heroes);
        if let Some((joined, invited)) = told.counts {
            push_name(out, "joined_count");
            push_number(out, joined);
            push_name(out, "invited_count");
            push_number(out, invited);
        }
        if let Some(unread) = told.unread {
            push_name(out, "notification_count");
            push_number(out, unread.notifications);
            push_name(out, "highlight_count");
            push_number(out, unread.highlights);
        }
        if let Some(stripped) = &told.stripped {
            push_name(out, form.name("invite_state", "stripped_state"));
            out.push_str(stripped);
        }
        if told.is_expanded && told.window.is_some() {
            push_name(out, form.name("unstable_expanded_timeline", "expanded_timeline"));
            out.push_str("true");
        }
        self.push_timeline(out, reader, told)?;
        self.push_required(out, reader, told)
    }

    fn push_timeline(&self, out: &mut String, reader: &RoomReader, told: &RoomResult) -> Result<(), SyncError> {
        let Some(window) = &told.window else { return Ok(()) };
        if window.events.is_empty() && !window.limited && !told.is_initial {
            return Ok(());
        }
        let mut events = Vec::with_capacity(window.events.len());
        for seen in &window.events {
            events.push(match window.limited {
                true => self.context.event_with_relations(reader, &seen.event, &seen.membership)?,
                false => self.context.event(reader, &seen.event, Some(&seen.membership))?,
            });
        }
        push_events_array(out, "timeline", &events);
        push_name(out, "prev_batch");
        push_text(out, &sync_core::PageToken(window.start).to_string());
        push_name(out, "limited");
        out.push_str(if window.limited { "true" } else { "false" });
        let is_live = |seen: &&Seen| self.since.is_some_and(|since| seen.event.order > Order::from(since.stamp));
        push_name(out, "num_live");
        push_number(out, u64::try_from(window.events.iter().filter(is_live).count()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn push_required(&self, out: &mut String, reader: &RoomReader, told: &RoomResult) -> Result<(), SyncError> {
        let mut events = Vec::with_capacity(told.required.len());
        for event in &told.required {
            events.push(self.context.event(reader, event, None)?);
        }
        if self.request.form == SlidingForm::Stable {
            for (kind, state_key) in &told.removed {
                let mut stub = String::from("{");
                push_name(&mut stub, "type");
                push_text(&mut stub, kind);
                push_name(&mut stub, "state_key");
                push_text(&mut stub, state_key);
                stub.push('}');
                events.push(stub);
            }
        }
        if !events.is_empty() {
            push_events_array(out, "required_state", &events);
        }
        Ok(())
    }
}

/// Where the state that is told comes from.
pub(super) struct Scope<'s> {
    /// The state as it is told.
    pub at: StateRoot,
    /// What changed up to it.
    pub changes: &'s [Difference],
    pub window: Option<&'s Window<Seen>>,
    pub is_initial: bool,
}

impl Scope<'_> {
    /// Whether the client drops what it knows of members, because it may miss changes of them (MSC4186, "Lazy
    /// loaded memberships").
    fn is_limited(&self) -> bool {
        self.window.is_some_and(|window| window.limited)
    }
}

impl RoomResult {
    /// Whether the client knows it all.
    pub fn is_empty(&self) -> bool {
        let has_timeline = self.window.as_ref().is_some_and(|window| !window.events.is_empty() || window.limited);
        !self.is_initial
            && !self.is_expanded
            && !has_timeline
            && self.required.is_empty()
            && self.removed.is_empty()
            && self.texts.is_empty()
            && self.heroes.is_empty()
            && self.counts.is_none()
            && self.is_dm.is_none()
            && self.stripped.is_none()
            && self.unread.is_none()
            && self.membership.is_none()
    }
}

/// The state that the client knows: that before the first event of a timeline which goes on where the client's
/// ended.
fn state_known(reader: &RoomReader, goes_on: Option<&Window<Seen>>, known: Stamp) -> Result<StateRoot, SyncError> {
    match goes_on.filter(|window| !window.skipped && !parts(window)).and_then(|window| window.events.first()) {
        Some(first) => Ok(first.event.record.state_before),
        None => Ok(reader.state_at(known.into())?),
    }
}

/// The differences, and with them the state whose event was redacted by one of a window: it is the same event, and
/// says something else now.
fn with_redacted(
    reader: &RoomReader,
    window: Option<&Window<Seen>>,
    to: StateRoot,
    mut changes: Vec<Difference>,
) -> Result<Vec<Difference>, SyncError> {
    let events = window.into_iter().flat_map(|window| &window.events);
    for target in events.filter_map(|seen| seen.event.pdu.redacts()) {
        let Some(target) = reader.event_by_id(target)? else { continue };
        let (kind, num) = (target.pdu.kind_str(), target.num);
        let Some(state_key) = target.pdu.state_key() else { continue };
        let is_told = changes.iter().any(|change| change.kind == kind && change.state_key == state_key);
        if !is_told && to.get(reader.view(), kind, state_key)? == Some(num) {
            let (kind, state_key) = (kind.to_owned(), state_key.to_owned());
            changes.push(Difference { kind, state_key, before: Some(num), after: Some(num) });
        }
    }
    Ok(changes)
}

/// Whether the client misses events between what it knows and a window.
pub(super) fn has_gap(window: Option<&Window<Seen>>, known: Option<Stamp>) -> bool {
    let Some((window, known)) = window.zip(known) else { return false };
    window.limited && window.start > Order::from(known)
}

/// Remembers how much of the timeline the client will have without gaps.
pub(super) fn remember_timeline(sent: &mut Sent, window: Option<&Window<Seen>>, limit: usize, is_whole: bool) {
    let Some(window) = window else { return };
    if window.limited {
        sent.timeline = timeline_number(limit);
    } else if is_whole {
        sent.timeline = Sent::WHOLE_TIMELINE;
    }
}

/// Those whom the events of a window are by or about.
fn users_of(window: &Window<Seen>) -> BTreeSet<String> {
    let mut users = BTreeSet::new();
    for seen in &window.events {
        users.insert(seen.event.pdu.sender().to_string());
        if *seen.event.pdu.kind() == TimelineEventType::RoomMember {
            users.extend(seen.event.pdu.state_key().map(ToOwned::to_owned));
        }
    }
    users
}

/// A text in the content of a state event; none if it is not there or empty.
pub(super) fn text_of_state(
    reader: &RoomReader,
    at: StateRoot,
    kind: &str,
    field: &str,
) -> Result<Option<String>, SyncError> {
    let Some(event) = reader.state_event(at, kind, "")? else { return Ok(None) };
    let content = serde_json::from_str::<serde_json::Value>(event.pdu.content().get()).unwrap_or_default();
    Ok(content.get(field).and_then(|text| text.as_str()).filter(|text| !text.is_empty()).map(ToOwned::to_owned))
}

fn push_heroes(out: &mut String, heroes: &[Hero]) {
    if heroes.is_empty() {
        return;
    }
    push_name(out, "heroes");
    out.push('[');
    for hero in heroes {
        separate(out);
        out.push('{');
        push_name(out, "user_id");
        push_text(out, <OwnedUserId as AsRef<UserId>>::as_ref(&hero.user).as_str());
        for (name, text) in [("displayname", &hero.displayname), ("avatar_url", &hero.avatar_url)] {
            if let Some(text) = text {
                push_name(out, name);
                push_text(out, text);
            }
        }
        out.push('}');
    }
    out.push(']');
}

fn name_of(membership: Membership) -> &'static str {
    match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Leave => "leave",
        Membership::Ban => "ban",
    }
}
