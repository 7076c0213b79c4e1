//! Which threads users have subscribed to (MSC4306), and when that changed (MSC4308).
//!
//! A thread that a user has unsubscribed from keeps its row: it says since when no client of theirs may subscribe to
//! it again by itself, and tells the user's other devices of the change.

use crate::codec::{self, RecordsError};
use crate::tables::{THREAD_SUBSCRIPTION, THREAD_SUBSCRIPTION_BY_STAMP, THREAD_SUBSCRIPTION_COUNT};
use crate::{Changes, LogEntry, View};
use base::Stamp;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// What a user wants of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThreadSubscription {
    /// They want to know what is said in it, as they said themselves.
    Manual,
    /// Their client has subscribed for them.
    Automatic,
    /// They have unsubscribed.
    Unsubscribed,
}

impl ThreadSubscription {
    /// Whether the thread is subscribed to.
    #[must_use]
    pub fn is_subscribed(self) -> bool {
        self != Self::Unsubscribed
    }
}

/// A change of a thread's subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribedThread {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The thread's root.
    pub root: OwnedEventId,
    /// What the user wants of it now.
    pub subscription: ThreadSubscription,
    /// Since when.
    pub stamp: Stamp,
}

fn subscription_key(user: &UserId, room: &RoomId, root: &EventId) -> Vec<u8> {
    THREAD_SUBSCRIPTION.key().text(user.as_str()).text(room.as_str()).text(root.as_str()).build()
}

fn by_stamp_key(user: &UserId) -> KeyBuilder {
    THREAD_SUBSCRIPTION_BY_STAMP.key().text(user.as_str())
}

fn count_key(user: &UserId) -> Vec<u8> {
    THREAD_SUBSCRIPTION_COUNT.key().text(user.as_str()).build()
}

impl View {
    /// What a user wants of a thread, and since when; none if they have never said.
    pub fn thread_subscription(
        &self,
        user: &UserId,
        room: &RoomId,
        root: &EventId,
    ) -> Result<Option<(Stamp, ThreadSubscription)>, RecordsError> {
        self.get_stamped(THREAD_SUBSCRIPTION, &subscription_key(user, room, root))
    }

    /// Of how many threads it is known what a user wants of them, and when that last changed.
    pub fn thread_subscription_count(&self, user: &UserId) -> Result<Option<(Stamp, u64)>, RecordsError> {
        self.get_stamped(THREAD_SUBSCRIPTION_COUNT, &count_key(user))
    }

    /// The threads whose subscription changed last after one stamp and up to another, the newest change first, at
    /// most `threads_max`.
    pub fn thread_subscriptions(
        &self,
        user: &UserId,
        after: Stamp,
        up_to: Stamp,
        threads_max: usize,
    ) -> Result<Vec<SubscribedThread>, RecordsError> {
        let range =
            (by_stamp_key(user).number(after.next().0).build(), by_stamp_key(user).number(up_to.next().0).build());
        let rows = self.scan(THREAD_SUBSCRIPTION_BY_STAMP, range, Direction::Backward, threads_max)?;
        rows.iter()
            .map(|(key, value)| {
                let corrupt = || THREAD_SUBSCRIPTION_BY_STAMP.corrupt();
                let mut reader = KeyReader::new(key);
                let stamp = reader.text().and_then(|_| reader.number()).ok_or_else(corrupt)?;
                let (room_id, root, subscription) = THREAD_SUBSCRIPTION_BY_STAMP.decode(value)?;
                Ok(SubscribedThread { room_id, root, subscription, stamp: Stamp(stamp) })
            })
            .collect()
    }
}

impl Changes {
    /// Writes what a user wants of a thread, on condition that all that they want of threads is still as the view
    /// shows it, and logs it. Takes a stamp. Answers of how many threads it is known now, which is for the caller to
    /// limit.
    pub fn put_thread_subscription(
        &mut self,
        user: &UserId,
        room: &RoomId,
        root: &EventId,
        subscription: ThreadSubscription,
    ) -> Result<u64, RecordsError> {
        self.expect_unchanged(THREAD_SUBSCRIPTION_COUNT, count_key(user))?;
        let (_, mut count) = self.view().thread_subscription_count(user)?.unwrap_or_default();
        match self.view().thread_subscription(user, room, root)? {
            Some((stamp, _)) => self.clear(THREAD_SUBSCRIPTION_BY_STAMP, by_stamp_key(user).number(stamp.0).build()),
            None => count = count.saturating_add(1),
        }
        let nth = self.stamp();
        self.put_stamped(THREAD_SUBSCRIPTION, subscription_key(user, room, root), nth, &subscription);
        self.put_stamped(THREAD_SUBSCRIPTION_COUNT, count_key(user), nth, &count);
        let by_stamp = by_stamp_key(user);
        let at = u32::try_from(by_stamp.len()).unwrap_or(u32::MAX);
        let by_stamp = Stamped { bytes: by_stamp.number(0).build(), holes: vec![Hole { at, nth }] };
        let value = codec::encode(&(room, root, subscription));
        self.put_raw(THREAD_SUBSCRIPTION_BY_STAMP, by_stamp, value.into());
        self.log(nth, &LogEntry::ThreadSubscription { user: user.to_owned() });
        Ok(count)
    }

    /// Removes all that a user wanted of threads.
    pub(crate) fn clear_thread_subscriptions(&mut self, user: &UserId) {
        self.clear_range(THREAD_SUBSCRIPTION, THREAD_SUBSCRIPTION.key().text(user.as_str()).prefix_range());
        self.clear_range(THREAD_SUBSCRIPTION_BY_STAMP, by_stamp_key(user).prefix_range());
        self.clear(THREAD_SUBSCRIPTION_COUNT, count_key(user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{event_id, room_id, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn of_each_thread_the_last_change_is_listed_the_newest_first() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (user, room) = (user_id!("@a:b"), room_id!("!r:b"));
        let mut stamps = Vec::new();
        for (root, subscription) in [
            (event_id!("$1"), ThreadSubscription::Manual),
            (event_id!("$2"), ThreadSubscription::Automatic),
            (event_id!("$1"), ThreadSubscription::Unsubscribed),
        ] {
            let mut changes = records.changes(&records.view());
            changes.put_thread_subscription(user, room, root, subscription).unwrap();
            stamps.push(records.commit(changes).await.unwrap().last);
        }
        let view = records.view();
        let listed = |after: Stamp, up_to: Stamp, threads_max| -> Vec<(String, ThreadSubscription)> {
            let threads = view.thread_subscriptions(user, after, up_to, threads_max).unwrap();
            threads.into_iter().map(|thread| (thread.root.to_string(), thread.subscription)).collect()
        };
        let (one, two) = ("$1".to_owned(), "$2".to_owned());
        let all = [(one, ThreadSubscription::Unsubscribed), (two, ThreadSubscription::Automatic)];
        assert_eq!(listed(Stamp(0), view.stamp(), 9), all);
        assert_eq!(listed(Stamp(0), view.stamp(), 1), all[..1]);
        assert_eq!(listed(Stamp(0), stamps[1], 9), all[1..]);
        assert_eq!(listed(stamps[1], view.stamp(), 9), all[..1]);
        assert_eq!(view.thread_subscription_count(user).unwrap(), Some((stamps[2], 2)));
        let mut changes = records.changes(&view);
        changes.clear_stored(user);
        records.commit(changes).await.unwrap();
        assert!(records.view().thread_subscriptions(user, Stamp(0), Stamp(99), 9).unwrap().is_empty());
        assert_eq!(records.view().thread_subscription(user, room, event_id!("$1")).unwrap(), None);
    }
}
