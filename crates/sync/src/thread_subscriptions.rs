//! Which threads users subscribe to (MSC4306), and how their clients learn of it (MSC4308).

use crate::receipts::thread_of;
use crate::{SyncError, Syncs};
use base::{Order, Stamp};
use records::{SubscribedThread, ThreadSubscription, View};
use rooms::{RoomReader, StoredEvent};
use ruma::UserId;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::CommitError;
use sync_core::PageToken;

/// The most changes of subscriptions that one answer tells, and how many if the client does not say.
pub const THREAD_SUBSCRIPTIONS_MAX: usize = 100;
/// Of how many threads it is kept what a user wants of them: those that they have unsubscribed from count too.
pub const THREADS_MAX: u64 = 50_000;
/// How often a write is tried that meets another one of the same user.
const TRIES_MAX: usize = 8;

/// Why a thread is not subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The event that gave the client cause is not in the thread.
    #[error("the event is not in this thread")]
    NotInThread,
    /// The user has unsubscribed after the event that gave the client cause.
    #[error("you have unsubscribed from this thread after that event")]
    Unsubscribed,
    /// The user has too many subscriptions.
    #[error("there are too many subscriptions to threads")]
    TooMany,
    /// As with any write.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Changes of subscriptions, the newest first.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionsPage {
    threads: Vec<SubscribedThread>,
    /// Where the older ones are; none if there are no others.
    rest: Option<PageToken>,
}

impl SubscriptionsPage {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// The page as clients get it, with the token for the rest under this name.
    #[must_use]
    pub fn to_json(&self, rest_name: &str) -> Value {
        let mut shown = Map::new();
        for SubscribedThread { room_id, root, subscription, stamp } in &self.threads {
            let (section, told) = match subscription {
                ThreadSubscription::Unsubscribed => ("unsubscribed", json!({"bump_stamp": stamp})),
                subscribed => {
                    let automatic = *subscribed == ThreadSubscription::Automatic;
                    ("subscribed", json!({"automatic": automatic, "bump_stamp": stamp}))
                }
            };
            let rooms = shown.entry(section).or_insert_with(|| json!({}));
            let threads = rooms.as_object_mut().map(|rooms| rooms.entry(room_id.as_str()).or_insert_with(|| json!({})));
            if let Some(Value::Object(threads)) = threads {
                threads.insert(root.to_string(), told);
            }
        }
        if let Some(rest) = self.rest {
            shown.insert(rest_name.to_owned(), json!(rest.to_string()));
        }
        Value::Object(shown)
    }
}

/// The changes after one stamp and up to another.
pub(crate) fn subscriptions_page(
    view: &View,
    user: &UserId,
    after: Stamp,
    up_to: Stamp,
    threads_max: usize,
) -> Result<SubscriptionsPage, SyncError> {
    let mut threads = view.thread_subscriptions(user, after, up_to, threads_max.saturating_add(1))?;
    let has_more = threads.len() > threads_max;
    threads.truncate(threads_max);
    let last = threads.last().filter(|_| has_more);
    let rest = last.map(|last| PageToken(Order::from(Stamp(last.stamp.0.saturating_sub(1)))));
    Ok(SubscriptionsPage { threads, rest })
}

impl Syncs {
    /// Subscribes a user to the thread of a root that they may see: by their own will, or, with the event that gave
    /// their client cause, automatically. One's own will is not changed by a client.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]
    pub async fn subscribe_to_thread(
        &self,
        user: &UserId,
        reader: &RoomReader,
        root: &StoredEvent,
        cause: Option<&Arc<StoredEvent>>,
    ) -> Result<(), SubscribeError> {
        let root_id = root.pdu.event_id();
        if let Some(cause) = cause
            && thread_of(reader, cause)?.as_ref() != Some(root_id)
        {
            return Err(SubscribeError::NotInThread);
        }
        let wanted = if cause.is_some() { ThreadSubscription::Automatic } else { ThreadSubscription::Manual };
        self.change_thread_subscription(user, reader, root, |known| match (known, cause) {
            (Some((at, ThreadSubscription::Unsubscribed)), Some(cause)) if cause.order <= Order::from(at) => {
                Err(SubscribeError::Unsubscribed)
            }
            (Some((_, known)), _) if known == wanted => Ok(None),
            (Some((_, ThreadSubscription::Manual)), Some(_)) => Ok(None),
            _ => Ok(Some(wanted)),
        })
        .await
    }

    /// Unsubscribes a user from a thread; nothing happens if they have not subscribed.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]
    pub async fn unsubscribe_from_thread(
        &self,
        user: &UserId,
        reader: &RoomReader,
        root: &StoredEvent,
    ) -> Result<(), SubscribeError> {
        self.change_thread_subscription(user, reader, root, |known| {
            let is_subscribed = known.is_some_and(|(_, known)| known.is_subscribed());
            Ok(is_subscribed.then_some(ThreadSubscription::Unsubscribed))
        })
        .await
    }

    async fn change_thread_subscription(
        &self,
        user: &UserId,
        reader: &RoomReader,
        root: &StoredEvent,
        change: impl Fn(Option<(Stamp, ThreadSubscription)>) -> Result<Option<ThreadSubscription>, SubscribeError> + Send,
    ) -> Result<(), SubscribeError> {
        let (room_id, root_id) = (reader.room_id(), root.pdu.event_id());
        for _ in 0..TRIES_MAX {
            let view = self.0.records.view();
            let known = view.thread_subscription(user, room_id, root_id).map_err(SyncError::from)?;
            let Some(wanted) = change(known)? else { return Ok(()) };
            let mut changes = self.0.records.changes(&view);
            changes.expect_not_ended(user);
            let count = changes.put_thread_subscription(user, room_id, root_id, wanted).map_err(SyncError::from)?;
            if known.is_none() && count > THREADS_MAX {
                return Err(SubscribeError::TooMany);
            }
            drop(view);
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => return Ok(outcome.map(drop).map_err(SyncError::from)?),
            }
        }
        Err(SyncError::Overloaded.into())
    }

    /// What a user wants of a thread; none if it is not subscribed to.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`]
    pub fn thread_subscription(
        &self,
        user: &UserId,
        reader: &RoomReader,
        root: &StoredEvent,
    ) -> Result<Option<ThreadSubscription>, SyncError> {
        let known = reader.view().thread_subscription(user, reader.room_id(), root.pdu.event_id())?;
        Ok(known.map(|(_, known)| known).filter(|known| known.is_subscribed()))
    }

    /// A page of the changes of a user's subscriptions, backwards from one place to another (MSC4308).
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`]
    pub fn thread_subscriptions(
        &self,
        user: &UserId,
        from: Option<PageToken>,
        to: Option<PageToken>,
        threads_max: usize,
    ) -> Result<SubscriptionsPage, SyncError> {
        let view = self.0.records.view();
        let stamp = |PageToken(order): PageToken| Stamp(u64::try_from(order.0).unwrap_or_default());
        let up_to = from.map_or(view.stamp(), stamp).min(view.stamp());
        subscriptions_page(&view, user, to.map_or(Stamp(0), stamp), up_to, threads_max)
    }
}
