//! The threads of a room (client-server API, "Threading").

use crate::{RoomError, RoomReader, StoredEvent};
use base::Order;
use rules::redaction;
use rules::relation::can_be_root;
use ruma::{EventId, UserId};
use std::sync::Arc;

/// A thread in the list of a room's threads.
#[derive(Clone, Debug)]
pub struct ThreadRow {
    /// Where its last event is.
    pub latest: Order,
    /// Its root; none if that is not known here, or cannot be a root.
    pub root: Option<Arc<StoredEvent>>,
}

impl RoomReader {
    /// The threads whose last event is at `up_to` or before, the latest first, at most `threads_max`.
    pub fn threads(&self, up_to: Order, threads_max: usize) -> Result<Vec<ThreadRow>, RoomError> {
        let rows = self.view.threads(self.num, up_to, threads_max)?;
        let mut threads = Vec::with_capacity(rows.len());
        for (latest, root) in rows {
            let root = self.event_by_id(&root)?.filter(|root| can_be_root(&root.pdu));
            threads.push(ThreadRow { latest, root });
        }
        Ok(threads)
    }

    /// In which of these threads a user takes part: they have sent the root, or another event of the thread.
    pub fn took_part(&self, roots: &[&StoredEvent], user: &UserId) -> Result<Vec<bool>, RoomError> {
        let ids: Vec<&EventId> = roots.iter().map(|root| &**root.pdu.event_id()).collect();
        let replies = self.view.replies_of(self.num, &ids, user)?;
        Ok(roots.iter().zip(replies).map(|(root, replies)| replies > 0 || root.pdu.sender() == user).collect())
    }

    /// An event as a redaction would leave it.
    pub fn redacted(&self, event: &StoredEvent) -> Result<StoredEvent, RoomError> {
        let pdu = redaction::redact(&event.pdu, &self.rules).map_err(RoomError::internal)?;
        Ok(StoredEvent::new(event.num, event.order, event.record.clone(), Arc::new(pdu)))
    }
}
