//! The event stream of the first version of the API, which clients that peek still use (client-server API,
//! `GET /events` and "Room Previews").
//!
//! Beside the events of the user's rooms it tells who types there, what was read, and who is there, each named with the
//! room that it is about. Who looks at a room without being in it is told its events only. All else is told by sync.

use crate::active::Active;
use crate::assemble::{presence_event, receipt_events, typing_event};
use crate::changed::{Changed, News};
use crate::json::{push_name, push_text, separate};
use crate::presence::Presence;
use crate::wait::Entered;
use crate::{Inner, SyncError, SyncToken, Syncs};
use base::{EventNum, Order, RoomNum, Stamp};
use records::{Membership, View};
use rooms::{Ignored, Recipient, RoomReader};
use rules::client_event::Format;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};
use std::sync::Arc;
use std::time::Duration;
use store::Direction;
use tokio::time::Instant;

/// The most events of one answer. What is beyond is told by the next.
const EVENTS_MAX: usize = 100;

/// What a client asks of the event stream.
#[derive(Clone, Debug)]
pub struct EventsRequest {
    /// The user.
    pub user_id: OwnedUserId,
    /// Their device.
    pub device_id: OwnedDeviceId,
    /// What the client has seen; from now on without.
    pub from: Option<SyncToken>,
    /// Only this room, of which the user need not be a member: what they may see of it is told.
    pub room_id: Option<OwnedRoomId>,
    /// How long to wait for something to tell; bounded by [`crate::Config::timeout_max`].
    pub timeout: Duration,
}

/// A look at the stream.
struct Page {
    /// The JSON of the events.
    chunk: String,
    /// Up to where it goes.
    end: SyncToken,
}

impl Syncs {
    /// The events that came into the user's rooms, or into one room, after the client's token, as the JSON of the
    /// response; waits if there are none yet.
    ///
    /// # Errors
    ///
    /// [`SyncError::Forbidden`] if the user may not see the room; [`SyncError::Overloaded`];
    /// [`SyncError::Internal`].
    pub async fn events(&self, request: EventsRequest) -> Result<String, SyncError> {
        let inner = &self.0;
        let request = Arc::new(request);
        let newest = inner.records.view().stamp();
        let from = inner.usable(request.from, newest);
        let from = from.unwrap_or_else(|| SyncToken::new(newest, inner.volatile_count()));
        let deadline = Instant::now() + request.timeout.min(inner.config.timeout_max);
        let mut ended = inner.ending.subscribe();
        let entered = self.listen(&request)?;
        let mut after = from;
        loop {
            let notified = entered.active.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let page = inner.look_in_turn(&request, &entered.active, after).await?;
            if !page.chunk.is_empty() {
                return Ok(answer(from, &page));
            }
            after = page.end;
            if !entered.woken(notified, after, deadline, &mut ended).await {
                return Ok(answer(from, &page));
            }
        }
    }

    /// Hears of what happens: in the user's rooms, or in a room that they look at without being in it.
    fn listen(&self, request: &EventsRequest) -> Result<Entered, SyncError> {
        let inner = &self.0;
        let view = inner.records.view();
        if let Some(room_id) = &request.room_id {
            let room = view.room_num(room_id)?.ok_or(NOT_YOURS)?;
            let membership = view.membership(&request.user_id, room)?.map(|(_, record)| record.membership);
            if membership != Some(Membership::Join) {
                let active = inner.active.peek(&request.user_id, room);
                return Ok(Entered { inner: inner.clone(), active, peeked: Some(room) });
            }
        }
        let active = inner.active.enter(&request.user_id, inner.clock.now(), || inner.records.view())?;
        Ok(Entered { inner: inner.clone(), active: active.ok_or(SyncError::Overloaded)?, peeked: None })
    }
}

/// What is answered to who may not see a room, whether there is one or not.
const NOT_YOURS: SyncError = SyncError::Forbidden("you are not in this room");

impl Inner {
    /// Looks at the stream; one who was away for long takes a turn, as with sync.
    async fn look_in_turn(
        self: &Arc<Self>,
        request: &Arc<EventsRequest>,
        active: &Arc<Active>,
        after: SyncToken,
    ) -> Result<Page, SyncError> {
        let behind = self.records.view().stamp().0.saturating_sub(after.stamp.0);
        if request.room_id.is_some() || usize::try_from(behind).is_ok_and(|behind| behind < self.log_read_max) {
            return self.look(request, active, after);
        }
        let permit = self.long.clone().acquire_owned().await.map_err(SyncError::internal)?;
        let (inner, request, active) = (self.clone(), request.clone(), active.clone());
        let work = tokio::task::spawn_blocking(move || {
            let page = inner.look(&request, &active, after);
            drop(permit);
            page
        });
        work.await.map_err(SyncError::internal)?
    }

    fn look(&self, request: &EventsRequest, active: &Active, from: SyncToken) -> Result<Page, SyncError> {
        // What changes in between is told twice instead of never.
        let volatile = self.volatile_count();
        let view = self.records.view();
        let after = from.stamp;
        let (rooms, read) = match &request.room_id {
            Some(room_id) => (vec![self.peeked(&view, request, room_id)?], Vec::new()),
            None => self.streamed(&view, request, active, after)?,
        };
        let mut end = view.stamp();
        let mut entries: Vec<(Order, usize, EventNum)> = Vec::new();
        for (index, room) in rooms.iter().enumerate() {
            let page =
                view.timeline(room.reader.num(), after.into(), end.into(), Direction::Forward, EVENTS_MAX + 1)?;
            let page = page.into_iter().filter(|entry| room.only.is_none_or(|only| only == entry.event));
            entries.extend(page.map(|entry| (entry.order, index, entry.event)));
        }
        entries.sort_unstable();
        if let Some((first_left_out, ..)) = entries.get(EVENTS_MAX) {
            end = Stamp(first_left_out.0.saturating_sub(1).unsigned_abs());
            entries.truncate(EVENTS_MAX);
        }
        let ignored = Ignored::of(&view, &request.user_id)?;
        let mut chunk = String::new();
        for (_, index, num) in entries {
            let Some(room) = rooms.get(index) else { continue };
            let Some(event) = room.reader.event(num)? else { continue };
            let membership = room.reader.visible(&request.user_id, std::slice::from_ref(&event))?.pop().flatten();
            let is_hidden = event.pdu.state_key().is_none() && ignored.has(event.pdu.sender());
            if (membership.is_none() && room.only.is_none()) || is_hidden {
                continue;
            }
            let device_id = Some(&*request.device_id);
            let recipient = Recipient { user_id: &request.user_id, device_id, now: self.clock.now() };
            let event = room.reader.client_event(&event, recipient, membership.as_ref(), Format::WithRoomId)?;
            separate(&mut chunk);
            chunk.push_str(event.get());
        }
        if request.room_id.is_none() {
            for reader in read {
                for event in receipt_events(&view, reader.num(), &request.user_id, after)? {
                    push_of_room(&mut chunk, &reader, &event);
                }
            }
            self.look_beside_events(&view, request, active, from.volatile, &mut chunk)?;
        }
        Ok(Page { chunk, end: SyncToken::new(end, volatile) })
    }

    /// Tells who types in the user's rooms, and who is there, if that changed.
    fn look_beside_events(
        &self,
        view: &View,
        request: &EventsRequest,
        active: &Active,
        volatile: u64,
        chunk: &mut String,
    ) -> Result<(), SyncError> {
        for room in self.typing.changed_after(volatile).into_iter().filter(|room| active.is_in(*room)) {
            if let (Some((_, users)), Some(reader)) = (self.typing.users(room), self.rooms.reader(view, room)?) {
                push_of_room(chunk, &reader, &typing_event(&users));
            }
        }
        if self.config.presence {
            // Who can't be told changes may be told more than changed.
            let changed = match active.presence_after(volatile) {
                Some(changed) => changed,
                None => self.present_in(view, active.rooms(), &request.user_id)?.into_iter().collect(),
            };
            for event in self.presence_events(view, &request.user_id, &changed)? {
                separate(chunk);
                chunk.push_str(&event);
            }
        }
        Ok(())
    }

    /// What these users are, as events for one who may be told; not those whom they ignore.
    fn presence_events(&self, view: &View, asker: &UserId, users: &[OwnedUserId]) -> Result<Vec<String>, SyncError> {
        let (ignored, now) = (Ignored::of(view, asker)?, self.clock.now());
        let presences = self.presence.users();
        let told = users.iter().filter(|user| !ignored.has(user)).map(|user| {
            let presence = presences.show(user, now);
            let presence = presence.unwrap_or_else(|| Presence::offline(records::PresenceRecord::default(), now));
            presence_event(user, &presence)
        });
        Ok(told.collect())
    }

    /// The room that a user looks at.
    fn peeked(&self, view: &View, request: &EventsRequest, room_id: &ruma::RoomId) -> Result<Streamed, SyncError> {
        let reader = self.rooms.reader_by_id(view, room_id)?.ok_or(NOT_YOURS)?;
        if !reader.is_joined(&request.user_id)? && !reader.is_world_readable()? {
            return Err(NOT_YOURS);
        }
        Ok(Streamed { reader, only: None })
    }

    /// The rooms of a user in which something may have happened: those that they are in, and those of which all
    /// that they are told is what became of their membership. And the rooms in which something may have been read.
    fn streamed(
        &self,
        view: &View,
        request: &EventsRequest,
        active: &Active,
        after: Stamp,
    ) -> Result<(Vec<Streamed>, Vec<RoomReader>), SyncError> {
        let user = &request.user_id;
        let rooms: Vec<(RoomNum, News)> = match self.changed(view, user, active, after)? {
            Changed::Anywhere => view.memberships(user)?.into_iter().map(|(room, ..)| (room, News::ANY)).collect(),
            Changed::Here { rooms, .. } => rooms.into_iter().collect(),
        };
        let (mut streamed, mut read) = (Vec::new(), Vec::new());
        for (room, news) in rooms {
            let Some((at, record)) = view.membership(user, room)? else { continue };
            let is_joined = record.membership == Membership::Join;
            if is_joined && news.receipts {
                read.extend(self.rooms.reader(view, room)?);
            }
            let last = view.timeline_last(room, view.stamp().into())?;
            let is_new = if is_joined { last.is_some_and(|last| last.order > after.into()) } else { at > after };
            if is_new && let Some(reader) = self.rooms.reader(view, room)? {
                streamed.push(Streamed { reader, only: (!is_joined).then_some(record.event) });
            }
        }
        Ok((streamed, read))
    }
}

impl Syncs {
    /// Who is there of those who share rooms with a user, as events.
    ///
    /// # Errors
    ///
    /// [`SyncError::Overloaded`]; [`SyncError::Internal`].
    pub fn present_events(&self, user: &UserId) -> Result<Vec<String>, SyncError> {
        let inner = &self.0;
        if !inner.config.presence {
            return Ok(Vec::new());
        }
        let active = inner.active.enter(user, inner.clock.now(), || inner.records.view())?;
        let entered = Entered { inner: inner.clone(), active: active.ok_or(SyncError::Overloaded)?, peeked: None };
        let view = inner.records.view();
        let present = inner.present_in(&view, entered.active.rooms(), user)?;
        inner.presence_events(&view, user, &present.into_iter().collect::<Vec<_>>())
    }
}

/// Adds an event that is not of a room's timeline, with the room that it is about.
fn push_of_room(chunk: &mut String, reader: &RoomReader, event: &str) {
    separate(chunk);
    let mut named = String::from("{");
    push_name(&mut named, "room_id");
    push_text(&mut named, reader.room_id().as_str());
    chunk.push_str(&named);
    chunk.push(',');
    chunk.push_str(event.get(1..).unwrap_or_default());
}

/// A room whose events are streamed.
struct Streamed {
    reader: RoomReader,
    /// The only event of it that is.
    only: Option<EventNum>,
}

fn answer(from: SyncToken, page: &Page) -> String {
    let mut out = String::from("{");
    push_name(&mut out, "start");
    push_text(&mut out, &from.to_string());
    push_name(&mut out, "end");
    push_text(&mut out, &page.end.to_string());
    push_name(&mut out, "chunk");
    out.push('[');
    out.push_str(&page.chunk);
    out.push_str("]}");
    out
}
