//! Bundled aggregations: what an event is served with of the events that relate to it (client-server API,
//! "Aggregations of child events").
//!
//! For an event that nothing relates to this is one read of a key that there is not, and none at all until something
//! in the room is related anew. What is counted is what the recipient may see and whom they don't ignore.

use crate::{Ignored, Recipient, RoomError, RoomReader, StoredEvent};
use base::Order;
use records::{RelatedRecord, RelationKind, RelationRecord};
use rules::client_event::Format;
use rules::relation::{REPLACE, Relation, can_be_root};
use rules::visibility::HistoryVisibility;
use ruma::events::room::member::MembershipState;
use ruma::{OwnedEventId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use store::Direction;

/// How many edits are looked at to find one that the recipient may see.
const EDITS_MAX: usize = 16;
/// How many events of a thread are looked at, from its end, to find one that the recipient may see.
const LATEST_MAX: usize = 128;
/// How many of them are read at once.
const LATEST_PAGE: usize = 8;
/// How many events of a thread are counted, from its end, for those who may not see all of it.
const COUNTED_MAX: usize = 512;
/// How many senders of a thread are looked at to find those who are ignored.
const REPLIERS_MAX: usize = 2_048;
/// How many references are told: the last ones. All are found through the relations API.
const REFERENCES_MAX: usize = 256;
/// All places of a timeline.
const EVERYWHERE: (Order, Order) = (Order(i64::MIN), Order(i64::MAX));

/// What is bundled with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// Everything.
    All,
    /// Everything but a thread: for an event that is bundled itself, as the last one of a thread.
    WithoutThread,
    /// Nothing.
    Nothing,
}

#[derive(Serialize)]
struct Bundled {
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<Box<RawValue>>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<References>,
}

#[derive(Serialize)]
struct Thread {
    latest_event: Box<RawValue>,
    count: u64,
    current_user_participated: bool,
}

#[derive(Serialize)]
struct References {
    chunk: Vec<Reference>,
}

#[derive(Serialize)]
struct Reference {
    event_id: OwnedEventId,
}

impl RoomReader {
    /// Whom a user ignores. Read once for the user who is asked about first.
    pub fn ignored(&self, user: &UserId) -> Result<Arc<Ignored>, RoomError> {
        if let Some((_, ignored)) = self.ignored.get().filter(|(whose, _)| whose == user) {
            return Ok(ignored.clone());
        }
        let ignored = Arc::new(Ignored::of(&self.view, user)?);
        // Another user was asked about before: theirs stays.
        let _taken = self.ignored.set((user.to_owned(), ignored.clone()));
        Ok(ignored)
    }

    /// The `m.relations` of an event, as JSON.
    pub(crate) fn bundled(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        format: Format,
        bundle: Bundle,
    ) -> Result<Option<Box<RawValue>>, RoomError> {
        // State events get none ("Aggregations of child events").
        if bundle == Bundle::Nothing || event.pdu.state_key().is_some() {
            return Ok(None);
        }
        if event.is_unrelated_at(self.head.relations) {
            return Ok(None);
        }
        let Some((_, related)) = self.view.related(self.num, event.pdu.event_id())? else {
            event.set_unrelated_at(self.head.relations);
            return Ok(None);
        };
        let ignored = self.ignored(recipient.user_id)?;
        let thread = match bundle {
            Bundle::All => self.thread(event, recipient, format, &related, &ignored)?,
            Bundle::WithoutThread | Bundle::Nothing => None,
        };
        let bundled = Bundled {
            replace: self.replacement(event, recipient, format, &related, &ignored)?,
            thread,
            reference: self.references(event, recipient.user_id, &related, &ignored)?,
        };
        if bundled.replace.is_none() && bundled.thread.is_none() && bundled.reference.is_none() {
            return Ok(None);
        }
        serde_json::value::to_raw_value(&bundled).map(Some).map_err(RoomError::internal)
    }

    /// The newest valid edit of an event. None of one that was redacted, nor of what is an edit itself.
    fn replacement(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        format: Format,
        related: &RelatedRecord,
        ignored: &Ignored,
    ) -> Result<Option<Box<RawValue>>, RoomError> {
        let is_edit = || Relation::of(&event.pdu).is_some_and(|relation| relation.rel_type == REPLACE);
        let sender = event.pdu.sender();
        if related.replace == 0 || event.record.redacted_by.is_some() || ignored.has(sender) || is_edit() {
            return Ok(None);
        }
        let edits = self.view.edits(self.num, event.pdu.event_id(), sender, event.pdu.kind_str(), EDITS_MAX)?;
        let edits = self.events(&edits)?;
        let visible = self.visible(recipient.user_id, &edits)?;
        let newest = edits.iter().zip(visible).find_map(|(edit, membership)| Some((edit, membership?)));
        let Some((edit, membership)) = newest else { return Ok(None) };
        self.worded(edit, recipient, Some(&membership), format, Bundle::Nothing).map(Some)
    }

    /// The events that refer to an event, oldest first.
    fn references(
        &self,
        event: &StoredEvent,
        user: &UserId,
        related: &RelatedRecord,
        ignored: &Ignored,
    ) -> Result<Option<References>, RoomError> {
        if related.reference == 0 {
            return Ok(None);
        }
        let target = event.pdu.event_id();
        let kind = RelationKind::Reference;
        let rows = self.view.relations(self.num, target, kind, EVERYWHERE, Direction::Backward, REFERENCES_MAX)?;
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).filter(|row| !ignored.has(&row.sender)).collect();
        if !self.sees_all_from(user, event)? {
            rows = self.visible_rows(user, rows)?.into_iter().map(|(row, _, _)| row).collect();
        }
        rows.reverse();
        let chunk: Vec<_> = rows.into_iter().map(|row| Reference { event_id: row.event_id }).collect();
        Ok((!chunk.is_empty()).then_some(References { chunk }))
    }

    /// The thread of which an event is the root.
    fn thread(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        format: Format,
        related: &RelatedRecord,
        ignored: &Ignored,
    ) -> Result<Option<Thread>, RoomError> {
        if related.thread == 0 || !can_be_root(&event.pdu) {
            return Ok(None);
        }
        let user = recipient.user_id;
        let Some((latest, membership)) = self.latest_of_thread(event, user, ignored)? else { return Ok(None) };
        let root = event.pdu.event_id();
        let count = if self.sees_all_from(user, event)? {
            related.thread.saturating_sub(self.count_of_ignored(event, ignored)?)
        } else {
            let kind = RelationKind::Thread;
            let rows = self.view.relations(self.num, root, kind, EVERYWHERE, Direction::Backward, COUNTED_MAX)?;
            let rows = rows.into_iter().map(|(_, row)| row).filter(|row| !ignored.has(&row.sender)).collect();
            u64::try_from(self.visible_rows(user, rows)?.len()).unwrap_or(u64::MAX)
        };
        let participated =
            event.pdu.sender() == user || self.view.replies_of(self.num, &[root], user)?.iter().any(|count| *count > 0);
        Ok(Some(Thread {
            latest_event: self.worded(&latest, recipient, Some(&membership), format, Bundle::WithoutThread)?,
            count,
            current_user_participated: participated,
        }))
    }

    /// The last event of a thread that a user may see and whose sender they don't ignore, and what they were to
    /// the room then.
    pub fn latest_of_thread(
        &self,
        root: &StoredEvent,
        user: &UserId,
        ignored: &Ignored,
    ) -> Result<Option<(Arc<StoredEvent>, MembershipState)>, RoomError> {
        let target = root.pdu.event_id();
        let (mut up_to, mut looked_at) = (Order(i64::MAX), 0);
        while looked_at < LATEST_MAX {
            let range = (Order(i64::MIN), up_to);
            let kind = RelationKind::Thread;
            let rows = self.view.relations(self.num, target, kind, range, Direction::Backward, LATEST_PAGE)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            up_to = Order(last.0.saturating_sub(1));
            looked_at += rows.len();
            let is_end = rows.len() < LATEST_PAGE;
            let rows = rows.into_iter().map(|(_, row)| row).filter(|row| !ignored.has(&row.sender)).collect();
            if let Some((_, event, membership)) = self.visible_rows(user, rows)?.into_iter().next() {
                return Ok(Some((event, membership)));
            }
            if is_end {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn count_of_ignored(&self, root: &StoredEvent, ignored: &Ignored) -> Result<u64, RoomError> {
        if ignored.is_empty() {
            return Ok(0);
        }
        let repliers = self.view.repliers(self.num, root.pdu.event_id(), REPLIERS_MAX)?;
        Ok(repliers.iter().filter(|(sender, _)| ignored.has(sender)).map(|(_, count)| count).sum())
    }

    /// Those of these relations that a user may see, with the events and what the user was to the room at each.
    fn visible_rows(
        &self,
        user: &UserId,
        rows: Vec<RelationRecord>,
    ) -> Result<Vec<(RelationRecord, Arc<StoredEvent>, MembershipState)>, RoomError> {
        let nums: Vec<_> = rows.iter().map(|row| row.event).collect();
        let events = self.events(&nums)?;
        let visible = self.visible(user, &events)?;
        let mut seen = events.into_iter().zip(visible).filter_map(|(event, membership)| Some((event, membership?)));
        let mut next = seen.next();
        let mut found = Vec::new();
        for row in rows {
            if next.as_ref().is_some_and(|(event, _)| event.num == row.event)
                && let Some((event, membership)) = next.take()
            {
                found.push((row, event, membership));
                next = seen.next();
            }
        }
        Ok(found)
    }

    /// Whether a user sees all that came after an event, as far as this can be told without looking at each: they
    /// have been a member since, or the history has been as visible since as it is now.
    fn sees_all_from(&self, user: &UserId, event: &StoredEvent) -> Result<bool, RoomError> {
        const KIND: &str = "m.room.history_visibility";
        let is_joined = match self.membership(user)? {
            Some((since, record)) if record.membership == records::Membership::Join => {
                if event.order >= Order::from(since) {
                    return Ok(true);
                }
                true
            }
            _ => false,
        };
        let now = self.head.state.get(&self.view, KIND, "")?;
        if event.record.state_after.get(&self.view, KIND, "")? != now {
            return Ok(false);
        }
        let now = now.map(|num| self.event(num)).transpose()?.flatten();
        Ok(match HistoryVisibility::of_content(now.as_ref().map(|event| event.pdu.content())) {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Shared => is_joined,
            _ => false,
        })
    }
}
