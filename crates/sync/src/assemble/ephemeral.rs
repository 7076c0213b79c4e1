//! What is told of a room without being an event of it: who types, and what was read.

use super::Context;
use crate::SyncError;
use crate::json::{push_name, push_text, separate};
use base::{RoomNum, Stamp};
use records::{ReceiptKind, ReceiptRecord, RecordsError, View};
use rooms::RoomReader;
use rules::filter::Facts;
use ruma::{OwnedEventId, OwnedUserId, UserId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The most receipts of a room that one answer carries: the newest.
const RECEIPTS_MAX: usize = 2_000;

impl Context<'_> {
    /// The ephemeral events of a room: of what changed after the client's token, or for a room that is new to
    /// the client, everything there is.
    pub(super) fn ephemeral(
        &self,
        reader: &RoomReader,
        since: Option<Stamp>,
        look_for_receipts: bool,
    ) -> Result<Vec<String>, SyncError> {
        let mut events = Vec::new();
        let wants = |kind| {
            let facts = Facts { kind, sender: None, room_id: Some(reader.room_id()), has_url: false };
            self.filter.ephemeral.matches(&facts)
        };
        let volatile = since.and(self.since).map_or(0, |since| since.volatile);
        if let Some((_, users)) = self.inner.typing.users(reader.num()).filter(|(changed, _)| *changed > volatile)
            && (since.is_some() || !users.is_empty())
            && wants("m.typing")
        {
            events.push(typing(&users));
        }
        if look_for_receipts && wants("m.receipt") {
            events.extend(receipt_events(&self.view, reader.num(), self.user(), since.unwrap_or_default())?);
        }
        Ok(events.into_iter().map(|event| self.select_fields(event)).collect())
    }
}

/// The receipts of a room that moved after a stamp and that a user may see, as events.
pub fn receipt_events(view: &View, room: RoomNum, user: &UserId, after: Stamp) -> Result<Vec<String>, RecordsError> {
    let mut threads: BTreeMap<Option<String>, Vec<(OwnedUserId, ReceiptKind, ReceiptRecord)>> = BTreeMap::new();
    for (_, key, record) in view.receipts_after(room, user, after, RECEIPTS_MAX)? {
        threads.entry(key.thread).or_default().push((key.user, key.kind, record));
    }
    Ok(threads.iter().map(|(thread, receipts)| receipt(thread.as_deref(), receipts)).collect())
}

/// Who types, as an event.
pub fn typing(users: &[OwnedUserId]) -> String {
    let mut out = String::from("{\"type\":\"m.typing\",\"content\":{");
    push_name(&mut out, "user_ids");
    out.push('[');
    for user in users {
        separate(&mut out);
        push_text(&mut out, user.as_str());
    }
    out.push_str("]}}");
    out
}

/// The receipts of one thread: one event holds at most one receipt of a user for each event and type, so
/// receipts of different threads can't share it.
fn receipt(thread: Option<&str>, receipts: &[(OwnedUserId, ReceiptKind, ReceiptRecord)]) -> String {
    let mut content: BTreeMap<&OwnedEventId, BTreeMap<&str, Map<String, Value>>> = BTreeMap::new();
    for (user, kind, record) in receipts {
        let kind = match kind {
            ReceiptKind::Public => "m.read",
            ReceiptKind::Private => "m.read.private",
        };
        let mut receipt = json!({"ts": record.at});
        if let (Some(thread), Some(receipt)) = (thread, receipt.as_object_mut()) {
            receipt.insert("thread_id".to_owned(), json!(thread));
        }
        content.entry(&record.event_id).or_default().entry(kind).or_default().insert(user.to_string(), receipt);
    }
    json!({"type": "m.receipt", "content": content}).to_string()
}
