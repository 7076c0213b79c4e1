//! What is told beside rooms: account data (MSC3959), receipts (MSC3960), who types (MSC3961), the keys of devices
//! (MSC3884), messages to devices (MSC3885), which threads the user subscribes to (MSC4308).
//!
//! Room by room, an extension tells of the rooms that it is asked for and that are in view. What happens in a
//! room out of view is told when it comes back.

use super::SlidingRequest;
use super::answer::{Look, is_behind};
use super::room::{Place, RoomResult};
use crate::SyncError;
use crate::active::Active;
use crate::assemble::{device_lists_json, typing_event};
use crate::changed::News;
use crate::device_lists::DeviceNews;
use crate::json::{push_events_array, push_name, push_text};
use crate::thread_subscriptions::subscriptions_page;
use crate::to_device::{TO_DEVICE_PAGE_MAX, to_device_page};
use base::{RoomNum, Stamp};
use records::{ReceiptKey, ReceiptKind, ReceiptRecord};
use rooms::RoomReader;
use ruma::OwnedEventId;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use sync_core::sliding::{Match, Sent};

/// The most receipts of a room that one answer carries: the newest.
const RECEIPTS_MAX: usize = 2_000;
/// How many of the newest receipts of a room are searched for those of a timeline that is told anew.
const RECEIPTS_SEARCHED_MAX: usize = 500;

/// What is told beside rooms, as the content of JSON objects.
#[derive(Debug, Default)]
pub struct Told {
    global: Vec<String>,
    account_data: String,
    receipts: String,
    typing: String,
    /// Sections of other kinds: whether each is worth answering for, its name and its JSON.
    others: Vec<(bool, &'static str, String)>,
}

impl Told {
    /// Whether there is nothing worth answering for.
    pub fn is_empty(&self) -> bool {
        let Self { global, account_data, receipts, typing, others } = self;
        let has_others = others.iter().any(|(counts, _, _)| *counts);
        global.is_empty() && account_data.is_empty() && receipts.is_empty() && typing.is_empty() && !has_others
    }

    /// The content of the `extensions` object.
    pub fn content(&self) -> String {
        let mut out = String::from("{");
        if !self.global.is_empty() || !self.account_data.is_empty() {
            push_name(&mut out, "account_data");
            out.push('{');
            if !self.global.is_empty() {
                push_events_array(&mut out, "global", &self.global);
            }
            push_rooms(&mut out, &self.account_data);
            out.push('}');
        }
        for (name, rooms) in [("receipts", &self.receipts), ("typing", &self.typing)] {
            if !rooms.is_empty() {
                push_name(&mut out, name);
                out.push('{');
                push_rooms(&mut out, rooms);
                out.push('}');
            }
        }
        for (_, name, json) in &self.others {
            push_name(&mut out, name);
            out.push_str(json);
        }
        out.remove(0);
        out
    }
}

fn push_rooms(out: &mut String, rooms: &str) {
    if !rooms.is_empty() {
        push_name(out, "rooms");
        out.push('{');
        out.push_str(rooms);
        out.push('}');
    }
}

impl<'a> Look<'a> {
    /// Whether a room's account data is wanted.
    pub fn wants_account_data(&self, found: &Match<'_>) -> bool {
        self.request.rules.extensions.account_data.as_ref().is_some_and(|scope| scope.has(found))
    }

    /// Whether a room's receipts are wanted.
    pub fn wants_receipts(&self, found: &Match<'_>) -> bool {
        self.request.rules.extensions.receipts.as_ref().is_some_and(|scope| scope.has(found))
    }

    /// The user's rooms in which others type than did when the client last looked.
    pub fn typed(&self, active: &Active) -> Vec<RoomNum> {
        match self.since {
            Some(since) if self.request.rules.extensions.typing.is_some() => {
                let rooms = self.inner.typing.changed_after(since.volatile);
                rooms.into_iter().filter(|room| active.is_in(*room)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Tells what the extensions have of a room.
    pub fn extend(
        &mut self,
        reader: &RoomReader,
        place: &Place<'_, 'a>,
        told: &RoomResult,
        sent: &mut Sent,
        is_joined: bool,
    ) -> Result<(), SyncError> {
        // For a room that is told anew, and what was not told before, everything is.
        let known = place.known.filter(|_| !told.is_initial);
        let wants_account_data = self.wants_account_data(place.found);
        if wants_account_data {
            self.room_account_data(reader, place.room, known.filter(|_| sent.account_data))?;
        }
        let wants_receipts = self.wants_receipts(place.found);
        if wants_receipts && is_joined {
            let known = known.filter(|_| sent.receipts);
            if known.is_none() || place.news.receipts || is_behind(known, self.since) {
                self.room_receipts(reader, known, told)?;
            }
        }
        (sent.account_data, sent.receipts) = (wants_account_data, wants_receipts);
        let typing = self.request.rules.extensions.typing.as_ref();
        if is_joined && typing.is_some_and(|scope| scope.has(place.found)) {
            self.room_typing(reader, known);
        }
        Ok(())
    }

    fn room_account_data(&mut self, reader: &RoomReader, room: RoomNum, known: Option<Stamp>) -> Result<(), SyncError> {
        let data = match known {
            // What changed since the client's position is at hand.
            Some(known) if !is_behind(Some(known), self.since) => self.stored.remove(&room).unwrap_or_default(),
            known => {
                let mut data = self.context.view().account_data_of(&self.request.user_id, Some(reader.room_id()))?;
                data.retain(|datum| known.map_or(!datum.is_deleted(), |known| datum.stamp > known));
                data
            }
        };
        if !data.is_empty() {
            let events: Vec<String> = data.iter().map(crate::assemble::account_data_event).collect();
            push_events_array(&mut self.told.extensions.account_data, reader.room_id().as_str(), &events);
        }
        Ok(())
    }

    /// The receipts of a room that moved; of a room that is told anew, those on events of its timeline, and the
    /// user's own (MSC3960).
    fn room_receipts(&mut self, reader: &RoomReader, known: Option<Stamp>, told: &RoomResult) -> Result<(), SyncError> {
        let (user, view) = (&self.request.user_id, self.context.view());
        let receipts = match known {
            Some(known) => view.receipts_after(reader.num(), user, known, RECEIPTS_MAX)?,
            None => {
                let events: HashSet<&OwnedEventId> = told
                    .window
                    .iter()
                    .flat_map(|window| &window.events)
                    .map(|seen| seen.event.pdu.event_id())
                    .collect();
                let mut receipts = view.receipts_after(reader.num(), user, Stamp(0), RECEIPTS_SEARCHED_MAX)?;
                receipts.retain(|(_, key, record)| key.user == *user || events.contains(&record.event_id));
                if receipts.len() < RECEIPTS_SEARCHED_MAX {
                    let own = view.receipts_of(reader.num(), user)?;
                    let known: BTreeSet<ReceiptKey> = receipts.iter().map(|(_, key, _)| key.clone()).collect();
                    receipts.extend(own.into_iter().filter(|(_, key, _)| !known.contains(key)));
                }
                receipts
            }
        };
        if !receipts.is_empty() {
            push_name(&mut self.told.extensions.receipts, reader.room_id().as_str());
            self.told.extensions.receipts.push_str(&receipt_event(receipts));
        }
        Ok(())
    }

    /// Who types in a room, if that changed; of a room that comes into view, if anybody does.
    fn room_typing(&mut self, reader: &RoomReader, known: Option<Stamp>) {
        let Some((changed, users)) = self.inner.typing.users(reader.num()) else { return };
        let in_view = known.is_some() && !is_behind(known, self.since);
        let is_new = in_view && self.since.is_some_and(|since| changed > since.volatile);
        if is_new || (!in_view && !users.is_empty()) {
            push_name(&mut self.told.extensions.typing, reader.room_id().as_str());
            self.told.extensions.typing.push_str(&typing_event(&users));
        }
    }

    /// Tells what is of no room.
    pub fn beside_rooms(
        &mut self,
        news: Option<&BTreeMap<RoomNum, News>>,
        devices: &DeviceNews,
        is_own: bool,
    ) -> Result<(), SyncError> {
        let extensions = &self.request.rules.extensions;
        if extensions.e2ee {
            self.keys(news, (devices, is_own))?;
        }
        self.draft.begun.e2ee = extensions.e2ee;
        if extensions.to_device {
            self.messages()?;
        }
        if extensions.account_data.is_some() {
            let after = self.since.filter(|_| self.draft.begun.account_data).map(|since| since.stamp);
            self.told.extensions.global = self.context.global_account_data_after(after)?;
        }
        self.draft.begun.account_data = extensions.account_data.is_some();
        if let Some(threads_max) = extensions.thread_subscriptions {
            self.thread_subscriptions(threads_max, is_own)?;
        }
        self.draft.begun.thread_subscriptions = extensions.thread_subscriptions.is_some();
        Ok(())
    }
}

impl Look<'_> {
    /// What concerns the keys of devices (MSC3884): whose devices changed, which is worth answering for, and what
    /// is left of the device's own keys, which is told with any answer.
    fn keys(&mut self, news: Option<&BTreeMap<RoomNum, News>>, devices: (&DeviceNews, bool)) -> Result<(), SyncError> {
        let (view, user) = (self.context.view(), &*self.request.user_id);
        let mut out = String::from("{");
        let mut has_news = false;
        // A client that begins looks at the devices of everybody anyway.
        if let Some(since) = self.since.filter(|_| self.draft.begun.e2ee) {
            let rooms: Vec<RoomNum> = match news {
                Some(news) => news.iter().filter(|(_, news)| news.members).map(|(room, _)| *room).collect(),
                None => view.memberships(user)?.into_iter().map(|(room, _, _)| room).collect(),
            };
            let lists = self.inner.device_lists_since(view, user, since.stamp, devices, rooms)?;
            if !lists.is_empty() {
                has_news = true;
                push_name(&mut out, "device_lists");
                out.push_str(&device_lists_json(&lists));
            }
        }
        for (name, json) in self.inner.device_keys(view, user, &self.request.device_id)? {
            push_name(&mut out, name);
            out.push_str(&json);
        }
        out.push('}');
        self.told.extensions.others.push((has_news, "e2ee", out));
        Ok(())
    }

    /// What changed of the threads that the user subscribes to: the newest changes, and where the others are (MSC4308).
    fn thread_subscriptions(&mut self, threads_max: usize, is_own: bool) -> Result<(), SyncError> {
        let since = self.since.filter(|_| self.draft.begun.thread_subscriptions);
        if since.is_some() && !is_own {
            return Ok(());
        }
        let (after, up_to) = (since.map_or(Stamp(0), |since| since.stamp), self.told.token.stamp);
        let page = subscriptions_page(self.context.view(), &self.request.user_id, after, up_to, threads_max)?;
        if !page.is_empty() {
            let name = "io.element.msc4308.thread_subscriptions";
            self.told.extensions.others.push((true, name, page.to_json("prev_batch").to_string()));
        }
        Ok(())
    }

    /// The messages to the device after the client's own token for them (MSC3885).
    fn messages(&mut self) -> Result<(), SyncError> {
        let SlidingRequest { user_id, device_id, to_device, .. } = self.request;
        let (view, up_to) = (self.context.view(), self.told.token.stamp);
        let after = to_device.since()?.filter(|since| *since <= up_to).unwrap_or_default();
        let page =
            to_device_page(view, user_id, device_id, after, up_to, to_device.limit.unwrap_or(TO_DEVICE_PAGE_MAX))?;
        let mut out = String::from("{");
        push_name(&mut out, "next_batch");
        push_text(&mut out, &page.next.to_string());
        if !page.events.is_empty() {
            push_events_array(&mut out, "events", &page.events);
        }
        out.push('}');
        self.told.extensions.others.push((!page.events.is_empty(), "to_device", out));
        Ok(())
    }
}

/// One event with all of a room's receipts. A user's receipt for the whole room beats one of theirs for a thread
/// on the same event: there is place for one.
fn receipt_event(mut receipts: Vec<(Stamp, ReceiptKey, ReceiptRecord)>) -> String {
    receipts.sort_by_key(|(_, key, _)| key.thread.is_none());
    let mut content: BTreeMap<OwnedEventId, BTreeMap<&str, Map<String, Value>>> = BTreeMap::new();
    for (_, key, record) in receipts {
        let kind = match key.kind {
            ReceiptKind::Public => "m.read",
            ReceiptKind::Private => "m.read.private",
        };
        let receipt = match key.thread {
            Some(thread) => json!({"ts": record.at, "thread_id": thread}),
            None => json!({"ts": record.at}),
        };
        content.entry(record.event_id).or_default().entry(kind).or_default().insert(key.user.to_string(), receipt);
    }
    json!({"type": "m.receipt", "content": content}).to_string()
}
