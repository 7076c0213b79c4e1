//! Delayed events (MSC4140): scheduling them, and what their users do to them before they are sent.
//!
//! Sending one is sending an event as any other, with [`Txn::delayed`]: the room notes in the batch with the event
//! that the delayed one was sent, and refuses to send one that is not scheduled any more. So each is sent once,
//! whoever sends it and whenever the process ends. Who sends what is due is the caller's concern.

use crate::{RoomError, Rooms, Txn};
use base::{UnixMillis, random_string};
use records::{Changes, DelayedPlace, DelayedRecord, Fate, View};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use std::time::Duration;
use store::CommitError;

/// How long it is kept what became of a delayed event (MSC4140, "Retention of finalised delayed events").
const FINISHED_KEPT: Duration = Duration::from_hours(7 * 24);
/// Of how many events of a user it is kept at most.
pub(crate) const FINISHED_MAX: usize = 1_000;
/// How many letters an id has: whoever knows it may have the event sent.
const ID_LETTERS: usize = 43;
/// How often a change is tried that meets another one.
const TRIES_MAX: usize = 8;
/// The device and the endpoint that stand for the schedule: no client has them.
pub(crate) const DELAYED: &str = "\0delayed";

impl Txn {
    /// What makes the sending of a delayed event the same as an earlier one.
    #[must_use]
    pub fn delayed(id: &str) -> Self {
        Self { device_id: DELAYED.to_owned(), endpoint: DELAYED.to_owned(), txn_id: id.to_owned() }
    }

    /// The delayed event that is sent with it.
    pub(crate) fn delayed_id(&self) -> Option<&str> {
        (self.endpoint == DELAYED).then_some(&*self.txn_id)
    }
}

/// An event to be sent later.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Who sends it.
    pub user: OwnedUserId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// Its content, a JSON object.
    pub content: String,
    /// How long it waits.
    pub delay: Duration,
    /// What makes the request the same as an earlier one.
    pub txn: Option<Txn>,
    /// How many events of the user may wait at the same time.
    pub scheduled_max: usize,
}

/// What came of scheduling an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// It waits, under this id.
    Waits(String),
    /// As many of the user's events wait as may; the next one will be sent then.
    TooMany(UnixMillis),
}

/// What became of a change of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is as it should be, now or already.
    Done,
    /// It was over before, in another way.
    Over(Fate),
    /// There is no such event.
    Unknown,
}

impl Rooms {
    /// Schedules an event. The same request again answers the same id.
    ///
    /// # Errors
    ///
    /// [`RoomError::NotFound`] if there is no such room; [`RoomError::Forbidden`] if the user is not in it.
    pub async fn schedule(&self, schedule: &Schedule) -> Result<Scheduled, RoomError> {
        let Schedule { user, room_id, txn, .. } = schedule;
        let id = random_string(&*self.0.shared.random, ID_LETTERS);
        for _ in 0..TRIES_MAX {
            let view = self.0.records.view();
            if let Some(txn) = txn
                && let Some(id) = view.delayed_txn(txn.scope(user), &txn.txn_id)?
            {
                return Ok(Scheduled::Waits(id));
            }
            let reader = self.reader_by_id(&view, room_id)?.ok_or(RoomError::NotFound("the room"))?;
            if !reader.is_joined(user)? {
                return Err(RoomError::Forbidden("you are not in the room".to_owned()));
            }
            let waiting = view.delayed_of(user, true, schedule.scheduled_max)?;
            if waiting.len() >= schedule.scheduled_max {
                let next = waiting.first().map(|id| view.delayed(id)).transpose()?.flatten();
                return Ok(Scheduled::TooMany(next.map_or_else(|| self.now(), |record| record.send_at())));
            }
            let mut record = DelayedRecord {
                user: user.clone(),
                room_id: room_id.clone(),
                kind: schedule.kind.clone(),
                state_key: schedule.state_key.clone(),
                content: schedule.content.clone(),
                delay_ms: u64::try_from(schedule.delay.as_millis()).unwrap_or(u64::MAX),
                scheduled_at: self.now(),
                due_at: UnixMillis::default(),
                nth: 0,
                fate: Fate::Scheduled,
                txn: txn.as_ref().map(|txn| (txn.device_id.clone(), txn.endpoint.clone(), txn.txn_id.clone())),
            };
            record.due_at = record.send_at();
            let mut changes = self.0.records.changes(&view);
            record.nth = changes.ids().event()?.0;
            changes.expect_not_ended(user);
            changes.put_delayed(&id, &record)?;
            drop((reader, view));
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => return Ok(outcome.map(|_| Scheduled::Waits(id))?),
            }
        }
        Err(RoomError::Overloaded)
    }

    /// A delayed event.
    pub fn delayed(&self, id: &str) -> Result<Option<DelayedRecord>, RoomError> {
        Ok(self.0.records.view().delayed(id)?)
    }

    /// The delayed events of a user that wait, in the order in which they will be sent.
    pub fn delayed_of(&self, user: &UserId, events_max: usize) -> Result<Vec<(String, DelayedRecord)>, RoomError> {
        let view = self.0.records.view();
        let ids = view.delayed_of(user, true, events_max)?.into_iter();
        let read = |id: String| -> Result<_, RoomError> { Ok(view.delayed(&id)?.map(|record| (id, record))) };
        ids.filter_map(|id| read(id).transpose()).collect()
    }

    /// Begins the wait of a delayed event anew.
    pub async fn restart_delayed(&self, id: &str) -> Result<Changed, RoomError> {
        self.change_delayed(id, |record| match record.fate {
            Fate::Scheduled => {
                let record = DelayedRecord { scheduled_at: self.now(), ..record };
                Ok(DelayedRecord { due_at: record.send_at(), ..record })
            }
            fate => Err(Changed::Over(fate)),
        })
        .await
    }

    /// Cancels a delayed event. One that could not be sent will not be sent either.
    pub async fn cancel_delayed(&self, id: &str) -> Result<Changed, RoomError> {
        self.change_delayed(id, |record| match record.fate {
            Fate::Scheduled => Ok(self.finished(record, Fate::Cancelled { at: self.now() })),
            Fate::Cancelled { .. } | Fate::Failed { .. } => Err(Changed::Done),
            fate @ Fate::Sent { .. } => Err(Changed::Over(fate)),
        })
        .await
    }

    /// Notes that a delayed event could not be sent, and why: a JSON object.
    pub async fn fail_delayed(&self, id: &str, error: &str) -> Result<Changed, RoomError> {
        self.change_delayed(id, |record| match record.fate {
            Fate::Scheduled => Ok(self.finished(record, Fate::Failed { at: self.now(), error: error.to_owned() })),
            fate => Err(Changed::Over(fate)),
        })
        .await
    }

    /// Notes that the state that a delayed event would have set was set already, by this event.
    pub async fn pass_delayed(&self, id: &str, event_id: OwnedEventId) -> Result<Changed, RoomError> {
        self.change_delayed(id, |record| match record.fate {
            Fate::Scheduled => Ok(self.finished(record, Fate::Sent { at: self.now(), event_id: event_id.clone() })),
            fate => Err(Changed::Over(fate)),
        })
        .await
    }

    /// Looks after a delayed event again after a while.
    pub async fn put_off_delayed(&self, id: &str, by: Duration) -> Result<Changed, RoomError> {
        self.change_delayed(id, |record| match record.fate {
            Fate::Scheduled => Ok(DelayedRecord { due_at: self.now().after(by), ..record }),
            fate => Err(Changed::Over(fate)),
        })
        .await
    }

    /// Forgets what became of a delayed event, if that was kept for long enough, and what became of the oldest ones
    /// of a user who has too many.
    pub async fn forget_delayed(&self, id: &str) -> Result<(), RoomError> {
        let view = self.0.records.view();
        let Some(record) = view.delayed(id)?.filter(|record| record.fate != Fate::Scheduled) else { return Ok(()) };
        let mut changes = self.0.records.changes(&view);
        if record.due_at <= self.now() {
            changes.clear_delayed(id)?;
        }
        let finished = view.delayed_of(&record.user, false, FINISHED_MAX.saturating_mul(2))?;
        for id in finished.iter().take(finished.len().saturating_sub(FINISHED_MAX)) {
            changes.clear_delayed(id)?;
        }
        if !changes.is_empty() {
            // What was forgotten in between is.
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }

    /// Takes a delayed event that there is not any more out of the schedule.
    pub async fn forget_delayed_place(&self, place: &DelayedPlace) -> Result<(), RoomError> {
        let mut changes = self.no_changes();
        changes.clear_delayed_place(place);
        self.0.records.commit(changes).await?;
        Ok(())
    }

    async fn change_delayed(
        &self,
        id: &str,
        change: impl Fn(DelayedRecord) -> Result<DelayedRecord, Changed> + Send,
    ) -> Result<Changed, RoomError> {
        for _ in 0..TRIES_MAX {
            let view = self.0.records.view();
            let Some(record) = view.delayed(id)? else { return Ok(Changed::Unknown) };
            let record = match change(record) {
                Ok(record) => record,
                Err(changed) => return Ok(changed),
            };
            let mut changes = self.0.records.changes(&view);
            changes.put_delayed(id, &record)?;
            drop(view);
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => return Ok(outcome.map(|_| Changed::Done)?),
            }
        }
        Err(RoomError::Overloaded)
    }

    fn finished(&self, record: DelayedRecord, fate: Fate) -> DelayedRecord {
        finished(record, fate, self.now())
    }

    fn now(&self) -> UnixMillis {
        self.0.shared.clock.now()
    }
}

fn finished(record: DelayedRecord, fate: Fate, now: UnixMillis) -> DelayedRecord {
    DelayedRecord { fate, due_at: now.after(FINISHED_KEPT), ..record }
}

/// What the room makes of a request to send a delayed event: the event, if it was sent before; else it may be sent.
pub(crate) fn check(changes: &Changes, txn: &Txn) -> Result<Option<OwnedEventId>, RoomError> {
    let Some(id) = txn.delayed_id() else { return Ok(None) };
    match changes.delayed(id)?.map(|record| record.fate) {
        Some(Fate::Scheduled) => Ok(None),
        Some(Fate::Sent { event_id, .. }) => Ok(Some(event_id)),
        _ => Err(RoomError::Forbidden("the delayed event is not scheduled any more".to_owned())),
    }
}

/// Notes that a delayed event is sent by these changes.
pub(crate) fn note_sent(
    changes: &mut Changes,
    txn: &Txn,
    event_id: &OwnedEventId,
    now: UnixMillis,
) -> Result<(), RoomError> {
    let Some(id) = txn.delayed_id() else { return Ok(()) };
    if let Some(record) = changes.delayed(id)? {
        let fate = Fate::Sent { at: now, event_id: event_id.clone() };
        changes.put_delayed(id, &finished(record, fate, now))?;
    }
    Ok(())
}

/// The delayed events that are due, in the order in which they should be looked after, at most `events_max`, and
/// when the next one is due if none is.
pub fn due(
    view: &View,
    now: UnixMillis,
    events_max: usize,
) -> Result<(Vec<DelayedPlace>, Option<UnixMillis>), RoomError> {
    let mut first = view.delayed_first(events_max)?;
    let next = first.first().map(|place| place.due_at).filter(|due_at| *due_at > now);
    first.retain(|place| place.due_at <= now);
    Ok((first, next))
}
