//! The task that sends what is due, and sending one delayed event.

use crate::limits::Class;
use crate::rooms::error::as_outsider;
use crate::rooms::{redact, state};
use crate::{ApiError, State, suspension};
use base::UnixMillis;
use records::{DelayedRecord, Fate};
use rooms::{Draft, RoomError, Txn, delayed_due};
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinSet;

/// How many delayed events are looked after at once.
const AT_ONCE: usize = 64;
/// How long the task sleeps at most: the clock may be set while it does.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// When an event is tried again that the server could not send.
const RETRY: Duration = Duration::from_secs(10);
/// How long after it was due an event is tried again.
const TRIED_FOR: Duration = Duration::from_hours(24);

/// Starts the task that sends what is due, until the state is dropped.
pub(crate) fn start(state: &Arc<State>) {
    tokio::spawn(run(Arc::downgrade(state)));
}

async fn run(state: Weak<State>) {
    let Some(changed) = state.upgrade().map(|state| state.delayed.changed.clone()) else { return };
    while let Some(upgraded) = state.upgrade() {
        let sleep = match send_due(&upgraded).await {
            Ok(Some(next)) => next.since(upgraded.clock.now()).min(SLEEP_MAX),
            Ok(None) => SLEEP_MAX,
            Err(error) => {
                tracing::error!(%error, "delayed events can't be read, and wait");
                RETRY
            }
        };
        drop(upgraded);
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Sends all that is due, in the order of time in each room. Answers when the next event is due.
pub(super) async fn send_due(state: &Arc<State>) -> Result<Option<UnixMillis>, RoomError> {
    loop {
        let (due, next) = delayed_due(&state.records.view(), state.clock.now(), AT_ONCE)?;
        if due.is_empty() {
            return Ok(next);
        }
        let mut rooms: HashMap<OwnedRoomId, Vec<String>> = HashMap::new();
        for place in due {
            match state.rooms.delayed(&place.id)? {
                Some(record) => rooms.entry(record.room_id).or_default().push(place.id),
                None => state.rooms.forget_delayed_place(&place).await?,
            }
        }
        let mut tasks = JoinSet::new();
        for (_, ids) in rooms {
            let state = state.clone();
            tasks.spawn(async move {
                for id in ids {
                    look_after(&state, &id).await?;
                }
                Ok::<_, RoomError>(())
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.map_err(|error| RoomError::Internal(error.into()))??;
        }
    }
}

/// Sends an event that is due, or forgets it.
async fn look_after(state: &Arc<State>, id: &str) -> Result<(), RoomError> {
    let Some(record) = state.rooms.delayed(id)? else { return Ok(()) };
    if record.fate != Fate::Scheduled {
        return state.rooms.forget_delayed(id).await;
    }
    let now = state.clock.now();
    if record.due_at > now {
        return Ok(());
    }
    let class = match &record.state_key {
        Some(_) => state::class(&record.kind, &record.content),
        None => Class::Message,
    };
    let sent = match state.limits.user(class, &record.user) {
        Ok(()) => deliver(state, id, &record).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(_) => {}
        Err(error) if error.is_internal() && now.since(record.send_at()) < TRIED_FOR => {
            state.rooms.put_off_delayed(id, RETRY).await?;
            return Ok(());
        }
        Err(error) => drop(state.rooms.fail_delayed(id, &error.body().to_string()).await?),
    }
    state.rooms.forget_delayed(id).await
}

/// Sends a delayed event, once whoever asks for it: what comes later is answered the same event.
pub(super) async fn deliver(state: &Arc<State>, id: &str, record: &DelayedRecord) -> Result<OwnedEventId, ApiError> {
    let txn = Txn::delayed(id);
    let DelayedRecord { user, room_id, kind, .. } = record;
    let sanctions = state.accounts.user(user)?.map(|account| account.sanctions).unwrap_or_default();
    // What they could not say now, they don't say now.
    if sanctions.locked || (sanctions.suspended && (kind != redact::KIND || record.state_key.is_some())) {
        return Err(suspension::refused());
    }
    let content = RawValue::from_string(record.content.clone()).map_err(|error| ApiError::internal(&error))?;
    if let Some(state_key) = record.state_key.clone() {
        let event_id = state::apply(state, user, room_id, (kind.clone(), state_key), content, Some(txn)).await?;
        // State that was set already may have made no event.
        state.rooms.pass_delayed(id, event_id.clone()).await?;
        return Ok(event_id);
    }
    let draft = match kind.as_str() {
        redact::KIND => redact::draft(state, user, room_id, &content)?,
        _ => Draft::message(user.clone(), kind.clone(), content),
    };
    state.rooms.send(room_id, draft, Some(txn)).await.map_err(as_outsider)
}
