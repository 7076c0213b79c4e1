//! What a client is told: one view, put together once.

mod account_data;
mod device_keys;
mod device_lists;
mod ephemeral;
mod event;
mod joined;
mod left;
mod presence;
mod state;
mod summary;
mod timeline;
mod to_device;
mod unread;

pub(crate) use account_data::account_data_event;
pub(crate) use device_lists::device_lists_json;
pub(crate) use ephemeral::{receipt_events, typing as typing_event};
pub(crate) use event::says_join;
pub(crate) use presence::event as presence_event;
pub(crate) use state::parts;
pub(crate) use timeline::{Seen, Sight};

use crate::active::Active;
use crate::changed::{Changed, News};
use crate::counts::Reading;
use crate::device_lists::DeviceNews;
use crate::json::{push_events, push_name};
use crate::to_device::{TO_DEVICE_PAGE_MAX, ToDevicePage, to_device_page};
use crate::{FilterChoice, Inner, SyncError, SyncRequest, SyncToken};
use account_data::AccountData;
use base::{Order, RoomNum, Stamp, UnixMillis};
use bytes::Bytes;
use records::{Membership, MembershipRecord, View};
use rooms::RoomReader;
use rules::ignored::IGNORED_USER_LIST;
use rules::invites::InvitePermission;
use rules::{IgnoredUsers, InviteVerdict};
use ruma::UserId;
use std::cell::OnceCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use sync_core::{LazyMembers, SentMembers, SyncFilter};

/// What there is to tell.
#[derive(Clone)]
pub struct Answer {
    /// Up to where it goes.
    pub token: SyncToken,
    /// The JSON of the response; none if nothing happened.
    pub body: Option<Bytes>,
}

/// What one answer is put together from.
pub(crate) struct Context<'a> {
    inner: &'a Inner,
    request: &'a SyncRequest,
    view: View,
    filter: SyncFilter,
    /// What was seen; none for an initial sync.
    since: Option<SyncToken>,
    /// Whether something may have happened that concerns the user and is of no room.
    own: bool,
    /// What the client has confirmed that it has seen.
    confirmed: Option<Stamp>,
    /// The messages to the device.
    to_device: ToDevicePage,
    /// Whose devices changed.
    devices: DeviceNews,
    /// The token of this answer.
    token: SyncToken,
    now: UnixMillis,
    /// Whom the user ignores.
    ignored: IgnoredUsers,
    /// Who may invite the user, once it was needed.
    invites: OnceCell<InvitePermission>,
    /// What the counts of what the user has not read depend on, once it was needed.
    reading: OnceCell<Reading>,
    /// Which members the device was sent, if it loads them lazily.
    sent: Option<Arc<Mutex<SentMembers>>>,
}

/// A room that something may have happened in.
struct Candidate {
    room: RoomNum,
    news: News,
    at: Stamp,
    record: MembershipRecord,
}

/// The sections of rooms, each a JSON object's content.
#[derive(Default)]
struct Sections {
    join: String,
    invite: String,
    knock: String,
    leave: String,
}

/// A field of a JSON object, and the JSON that it has.
type Field = (&'static str, String);

impl Inner {
    /// What every response has; as it is, the response of a sync in whose time nothing happened.
    pub fn nothing(&self, view: &View, request: &SyncRequest, token: SyncToken) -> Result<String, SyncError> {
        let mut out = format!("{{\"next_batch\":\"{token}\"");
        push_fields(&mut out, self.device_keys(view, &request.user_id, &request.device_id)?);
        out.push('}');
        Ok(out)
    }

    /// What happened after `since`, however long it takes to find that out.
    pub fn assemble(
        &self,
        request: &SyncRequest,
        active: &Active,
        since: Option<SyncToken>,
    ) -> Result<Answer, SyncError> {
        let answer = self.assemble_within(request, active, since, true)?;
        answer.ok_or_else(|| SyncError::internal("a sync was given up that may take long"))
    }

    /// What happened after `since`; `None` if all rooms of the user have to be looked at to find that out, which
    /// [`Inner::assemble`] does.
    pub fn assemble_if_short(
        &self,
        request: &SyncRequest,
        active: &Active,
        since: Option<SyncToken>,
    ) -> Result<Option<Answer>, SyncError> {
        self.assemble_within(request, active, since, false)
    }

    fn assemble_within(
        &self,
        request: &SyncRequest,
        active: &Active,
        since: Option<SyncToken>,
        may_be_long: bool,
    ) -> Result<Option<Answer>, SyncError> {
        // The count of what is volatile is taken before the rest: what changes in between is told twice
        // instead of never.
        let volatile = self.volatile_count();
        let view = self.records.view();
        let since = self.usable(since, view.stamp());
        let token = SyncToken::new(view.stamp(), volatile);
        let changed = match since {
            Some(since) if !request.full_state => self.changed(&view, &request.user_id, active, since.stamp)?,
            _ => Changed::Anywhere,
        };
        if !may_be_long && changed == Changed::Anywhere {
            return Ok(None);
        }
        self.assembled.fetch_add(1, Ordering::Relaxed);
        let typing = match since {
            Some(since) => self.typing.changed_after(since.volatile),
            None => Vec::new(),
        };
        // More messages may wait for the device than its last sync told.
        let waits = since.is_some_and(|since| since.to_device < since.stamp);
        let is_seen = since.is_none_or(|since| active.has_presence(since.volatile));
        if typing.is_empty() && !waits && !is_seen && changed.is_nothing() {
            return Ok(Some(Answer { token, body: None }));
        }
        let to_device = if waits || !matches!(changed, Changed::Here { own: false, .. }) {
            let after = since.map_or(Stamp(0), |since| since.to_device);
            let (user, device) = (&request.user_id, &request.device_id);
            to_device_page(&view, user, device, after, token.stamp, TO_DEVICE_PAGE_MAX)?
        } else {
            ToDevicePage::none(token.stamp)
        };
        let token = SyncToken { to_device: to_device.next, ..token };
        let filter = filter_of(&view, &request.user_id, request.filter.as_ref())?;
        let ignored = view.account_data(&request.user_id, None, IGNORED_USER_LIST)?;
        let context = Context {
            inner: self,
            request,
            confirmed: request.since.map(|since| since.stamp),
            sent: (filter.lazy == LazyMembers::New).then(|| self.sent_members(request)),
            view,
            filter,
            since,
            to_device,
            devices: match &changed {
                Changed::Anywhere => DeviceNews::Anybody,
                Changed::Here { devices, .. } => devices.clone(),
            },
            own: matches!(changed, Changed::Anywhere | Changed::Here { own: true, .. }),
            token,
            now: self.clock.now(),
            ignored: IgnoredUsers::of_content(ignored.as_deref()),
            invites: OnceCell::new(),
            reading: OnceCell::new(),
        };
        if since.is_none()
            && let Some(sent) = &context.sent
        {
            sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        }
        let body = context.response(active, changed, typing)?.map(Bytes::from);
        Ok(Some(Answer { token, body }))
    }

    fn sent_members(&self, request: &SyncRequest) -> Arc<Mutex<SentMembers>> {
        let key = (request.user_id.clone(), request.device_id.clone());
        let Ok(sent) = self.sent.get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        sent
    }
}

impl<'a> Context<'a> {
    /// What an answer of a sliding sync is put together from. Of the filter only the length of timelines counts,
    /// which differs from room to room.
    pub(crate) fn for_sliding(
        inner: &'a Inner,
        request: &'a SyncRequest,
        view: View,
        (since, token): (Option<SyncToken>, SyncToken),
        own: bool,
    ) -> Result<Self, SyncError> {
        let ignored = view.account_data(&request.user_id, None, IGNORED_USER_LIST)?;
        Ok(Self {
            inner,
            request,
            view,
            filter: SyncFilter::none(),
            since,
            own,
            confirmed: since.map(|since| since.stamp),
            token,
            now: inner.clock.now(),
            sent: None,
            ignored: IgnoredUsers::of_content(ignored.as_deref()),
            invites: OnceCell::new(),
            to_device: ToDevicePage::none(token.stamp),
            devices: DeviceNews::default(),
            reading: OnceCell::new(),
        })
    }

    /// Whether a room is kept from the user, because somebody invites them to it whom they ignore, or by whom they
    /// don't want to be invited.
    pub(crate) fn hides(&self, record: &MembershipRecord) -> bool {
        record.membership == Membership::Invite
            && (self.ignored.contains(&record.sender) || self.invites().verdict(&record.sender) != InviteVerdict::Allow)
    }

    /// Who may invite the user. What can't be read keeps nothing from them.
    fn invites(&self) -> &InvitePermission {
        self.invites.get_or_init(|| rooms::invite_permission(&self.view, &self.request.user_id).unwrap_or_default())
    }

    /// How many events a timeline has from here on.
    pub(crate) fn set_timeline_max(&mut self, events_max: usize) {
        self.filter.timeline_max = events_max.min(sync_core::window::TIMELINE_MAX);
    }

    /// What is there.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }
}

impl Context<'_> {
    fn user(&self) -> &UserId {
        &self.request.user_id
    }

    /// Up to where the answer goes in every timeline.
    pub(crate) fn end(&self) -> Order {
        self.token.stamp.into()
    }

    fn since_stamp(&self) -> Option<Stamp> {
        self.since.map(|since| since.stamp)
    }

    fn response(&self, active: &Active, changed: Changed, typing: Vec<RoomNum>) -> Result<Option<String>, SyncError> {
        let account_data = self.account_data()?;
        let candidates = self.candidates(active, changed, typing, &account_data)?;
        let mut sections = Sections::default();
        for candidate in &candidates {
            self.room(candidate, &account_data, &mut sections)?;
        }
        let global = self.global_account_data(&account_data)?;
        let beside = self.beside_rooms(active, &candidates)?;
        let sections = [
            ("join", sections.join),
            ("invite", sections.invite),
            ("knock", sections.knock),
            ("leave", sections.leave),
        ];
        let has_rooms = sections.iter().any(|(_, section)| !section.is_empty());
        let is_empty = !has_rooms && global.is_empty() && beside.is_empty();
        if is_empty && self.since.is_some() && !self.request.full_state {
            return Ok(None);
        }
        let mut body = self.inner.nothing(&self.view, self.request, self.token)?;
        body.pop();
        if has_rooms {
            push_name(&mut body, "rooms");
            body.push('{');
            for (name, section) in sections.iter().filter(|(_, section)| !section.is_empty()) {
                push_name(&mut body, name);
                body.push('{');
                body.push_str(section);
                body.push('}');
            }
            body.push('}');
        }
        if !global.is_empty() {
            push_events(&mut body, "account_data", global.iter().map(String::as_str));
        }
        push_fields(&mut body, beside);
        body.push('}');
        Ok(Some(body))
    }

    /// The sections beside those of the rooms and the account data, of which there is something to tell.
    fn beside_rooms(&self, active: &Active, candidates: &[Candidate]) -> Result<Vec<Field>, SyncError> {
        let sections = [
            ("presence", self.presence(active, candidates)?),
            ("to_device", self.to_device()),
            ("device_lists", self.device_lists(candidates)?),
        ];
        Ok(sections.into_iter().filter_map(|(name, json)| Some((name, json?))).collect())
    }

    /// The rooms to look at, with what the user is to each.
    fn candidates(
        &self,
        active: &Active,
        changed: Changed,
        typing: Vec<RoomNum>,
        account_data: &AccountData,
    ) -> Result<Vec<Candidate>, SyncError> {
        let mut rooms = match changed {
            Changed::Anywhere => {
                let memberships = self.view.memberships(self.user())?.into_iter();
                let candidate = |(room, at, record)| Candidate { room, news: News::ANY, at, record };
                return Ok(memberships.map(candidate).collect());
            }
            Changed::Here { rooms, .. } => rooms,
        };
        for room in typing.into_iter().filter(|room| active.is_in(*room)) {
            rooms.entry(room).or_default();
        }
        for room_id in account_data.rooms() {
            if let Some(room) = self.view.room_num(room_id)? {
                rooms.entry(room).or_default();
            }
        }
        let mut candidates = Vec::with_capacity(rooms.len());
        for (room, news) in rooms {
            if let Some((at, record)) = self.view.membership(self.user(), room)? {
                candidates.push(Candidate { room, news, at, record });
            }
        }
        Ok(candidates)
    }

    fn room(
        &self,
        candidate: &Candidate,
        account_data: &AccountData,
        sections: &mut Sections,
    ) -> Result<(), SyncError> {
        let is_new = self.since_stamp().is_none_or(|since| candidate.at > since);
        let membership = candidate.record.membership;
        let is_wanted = match membership {
            Membership::Join => true,
            Membership::Invite | Membership::Knock => is_new || self.request.full_state,
            Membership::Leave | Membership::Ban => is_new || self.is_archived(candidate),
        };
        if !is_wanted || self.hides(&candidate.record) {
            return Ok(());
        }
        let Some(reader) = self.inner.rooms.reader(&self.view, candidate.room)? else { return Ok(()) };
        if !self.filter.rooms.matches(reader.room_id()) {
            return Ok(());
        }
        let (section, content) = match membership {
            Membership::Join => (&mut sections.join, self.joined(&reader, candidate, account_data)?),
            Membership::Invite => (&mut sections.invite, Some(outside("invite_state", &candidate.record))),
            Membership::Knock => (&mut sections.knock, Some(outside("knock_state", &candidate.record))),
            Membership::Leave | Membership::Ban => (&mut sections.leave, self.left(&reader, candidate, account_data)?),
        };
        if let Some(content) = content {
            push_name(section, reader.room_id().as_str());
            section.push_str(&content);
        }
        Ok(())
    }

    /// Whether the user was joined at a stamp.
    fn was_joined(&self, reader: &RoomReader, candidate: &Candidate, at: Stamp) -> Result<bool, SyncError> {
        if candidate.at <= at {
            return Ok(candidate.record.membership == Membership::Join);
        }
        let state = reader.state_at(at.into())?;
        let member = reader.state_event(state, "m.room.member", self.user().as_str())?;
        Ok(member.is_some_and(|member| event::says_join(&member.pdu)))
    }
}

fn push_fields(out: &mut String, fields: impl IntoIterator<Item = Field>) {
    for (name, json) in fields {
        push_name(out, name);
        out.push_str(&json);
    }
}

/// What somebody gets of a room who is invited or knocks.
fn outside(name: &str, record: &MembershipRecord) -> String {
    let state = record.stripped_state.as_deref().unwrap_or("[]");
    format!("{{\"{name}\":{{\"events\":{state}}}}}")
}

/// The filter that a request means.
fn filter_of(view: &View, user: &UserId, choice: Option<&FilterChoice>) -> Result<SyncFilter, SyncError> {
    let parse = |json: &str| SyncFilter::parse(json).map_err(|error| SyncError::BadFilter(error.to_string()));
    match choice {
        None => Ok(SyncFilter::none()),
        Some(FilterChoice::Inline(json)) => parse(json),
        Some(FilterChoice::Stored(id)) => parse(&view.filter(user, id)?.ok_or(SyncError::NoSuchFilter)?),
    }
}
