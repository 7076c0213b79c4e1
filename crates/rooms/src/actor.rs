//! The one writer of a room: a task with a bounded mailbox while the room is busy, nothing while it is not.

use crate::entering::StateEdit;
use crate::upgrade::Upgrade;
use crate::work::{Loaded, Work};
use crate::{RoomError, Rooms, Txn, WeakRooms};
use base::{EventNum, RoomNum};
use room_core::{Draft, Room};
use rules::{CheckedPdu, Pdu};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::CommitError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How many commands wait for one room; more are refused.
const MAILBOX_MAX: usize = 1024;
/// How many commands are decided in one run, and so share one commit.
const RUN_MAX: usize = 64;
/// How long a room without commands keeps its task.
const IDLE: Duration = Duration::from_secs(20);

/// What a room is told to do, and where the answer goes.
pub(crate) enum Command {
    /// Send an event.
    Send {
        draft: Draft,
        txn: Option<Txn>,
        /// What the draft was made for: refused as outdated if that has changed.
        basis: Option<Basis>,
        reply: Reply<OwnedEventId>,
    },
    /// Make an event, and don't send it.
    Prepare { draft: Draft, basis: Option<Basis>, reply: Reply<Arc<Pdu>> },
    /// Take in events of another server.
    Receive {
        events: Vec<CheckedPdu>,
        /// The states before those whose predecessors are not known.
        states: HashMap<OwnedEventId, Vec<OwnedEventId>>,
        reply: Reply<Received>,
    },
    /// Set entries of the state of a room in which this server has no members.
    SetState { edits: Vec<StateEdit>, reply: Reply<()> },
    /// Take in the event with which this server enters the room, after the state that was set.
    Enter { event: Option<Box<CheckedPdu>>, reply: Reply<OwnedEventId> },
    /// Change the membership of a user of this server in a room in which it has no members.
    OutOfBand { event: Option<Box<CheckedPdu>>, stripped_state: Option<String>, reply: Reply<OwnedEventId> },
    /// Take in events from before what is known of the room.
    Backfill {
        events: Vec<CheckedPdu>,
        /// The states before those whose predecessors are not known.
        states: HashMap<OwnedEventId, Vec<OwnedEventId>>,
        reply: Reply<Received>,
    },
    /// Take in events that others refer to.
    Outliers { events: Vec<CheckedPdu>, reply: Reply<Received> },
    /// Let a user forget the room.
    Forget { user: OwnedUserId, reply: Reply<()> },
    /// List the room in the published room directory, or take it out.
    Publish { published: bool, reply: Reply<()> },
    /// Remove events for good.
    Purge { events: Vec<EventNum>, reply: Reply<usize> },
    /// Replace the room by a new one.
    Upgrade { upgrade: Box<Upgrade>, reply: Reply<OwnedRoomId> },
}

/// The membership event of a user that a draft was made for; none if they had none.
pub(crate) struct Basis {
    pub user: OwnedUserId,
    pub event: Option<EventNum>,
}

/// What became of each event that was received, in their order.
pub(crate) type Received = Vec<Result<OwnedEventId, RoomError>>;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// What was decided about a command. It is told when the run is on disk, refusals too: they may stand on what
/// the run itself has changed.
enum Decided {
    Sent(Result<OwnedEventId, RoomError>),
    Received(Received),
    Forgotten(Result<(), RoomError>),
    Published,
    Purged(Result<usize, RoomError>),
    Upgraded(Result<OwnedRoomId, RoomError>),
    StateSet(Result<(), RoomError>),
    Prepared(Result<Arc<Pdu>, RoomError>),
}

/// Starts the task of a room.
pub(crate) fn start(rooms: &Rooms, num: RoomNum) -> mpsc::Sender<Command> {
    let (sender, receiver) = mpsc::channel(MAILBOX_MAX);
    tokio::spawn(Actor { rooms: rooms.downgrade(), num, loaded: None }.run(receiver));
    sender
}

/// It does not keep the rooms alive: their last handle holds the senders of all mailboxes, and ends all tasks.
struct Actor {
    rooms: WeakRooms,
    num: RoomNum,
    /// The room as the last commit left it; forgotten when a commit fails, so that memory never runs ahead
    /// of the disk.
    loaded: Option<Loaded>,
}

impl Actor {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Command>) {
        let mut run = Vec::new();
        loop {
            let received = timeout(IDLE, mailbox.recv_many(&mut run, RUN_MAX)).await;
            let Some(rooms) = self.rooms.upgrade() else { return };
            match received {
                Ok(0) => return,
                Ok(_) => self.decide(&rooms, run.drain(..)).await,
                // Commands are sent under the lock of the mailbox's entry: nobody can send to one that is gone.
                Err(_) => {
                    if rooms.mailboxes().remove_if(&self.num, |_, _| mailbox.is_empty()).is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// Decides about commands in turn, and commits them in as few batches as their size allows. If a batch
    /// cannot be written because of what is in it, each of its commands gets one of its own, so that none
    /// suffers for another.
    async fn decide(&mut self, rooms: &Rooms, run: impl Iterator<Item = Command>) {
        let mut run = run.peekable();
        while let Some(first) = run.next() {
            let mut batch = vec![first];
            let mut work = match self.begin(rooms) {
                Ok(work) => work,
                Err(error) => {
                    tracing::error!(room = %self.num, %error, "a room cannot be read");
                    batch.into_iter().chain(run).for_each(|command| command.fail(&error));
                    return;
                }
            };
            let mut decided: Vec<Decided> = batch.iter_mut().map(|command| perform(&mut work, command)).collect();
            // Other servers' events are committed by themselves: they can't be decided about a second time.
            while !batch.last().is_some_and(Command::is_foreign)
                && work.changes.bytes() < base::limits::BATCH_BYTES_SOFT_MAX
                && let Some(mut command) = run.next_if(|next| !next.is_foreign())
            {
                decided.push(perform(&mut work, &mut command));
                batch.push(command);
            }
            let is_alone = batch.len() == 1;
            let is_foreign = batch.last().is_some_and(Command::is_foreign);
            match self.finish(rooms, work).await {
                Ok(()) => batch.into_iter().zip(decided).for_each(|(command, decided)| command.answer(decided)),
                Err(RoomError::TooLarge(_) | RoomError::Unwritable) if !is_alone => {
                    self.decide_alone(rooms, batch).await;
                }
                // What one of them was decided on has changed: an account that has ended, for example.
                Err(RoomError::Outdated) if !is_foreign => {
                    self.decide_alone(rooms, batch).await;
                }
                Err(error) => batch.into_iter().for_each(|command| command.fail(&error)),
            }
        }
    }

    /// Gives each command a batch of its own.
    async fn decide_alone(&mut self, rooms: &Rooms, batch: Vec<Command>) {
        for mut command in batch {
            let outcome = match self.begin(rooms) {
                Ok(mut work) => {
                    let decided = perform(&mut work, &mut command);
                    self.finish(rooms, work).await.map(|()| decided)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(decided) => command.answer(decided),
                Err(error) => command.fail(&error),
            }
        }
    }

    fn begin(&mut self, rooms: &Rooms) -> Result<Work, RoomError> {
        let view = rooms.records().view();
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => {
                let head = view.room_head(self.num)?.ok_or(RoomError::NotFound("the room"))?;
                let rules = rules::room_rules(&head.version)
                    .ok_or_else(|| RoomError::UnsupportedVersion(head.version.to_string()))?;
                let room = Room::new(Some(head.room_id.clone()), head.version.clone(), rules);
                Loaded::read(rooms.shared(), &view, head, room)?
            }
        };
        let changes = rooms.records().changes(&view);
        Ok(Work::new(rooms.shared_arc(), self.num, loaded, changes))
    }

    /// Commits a run, and only then keeps what it made of the room.
    async fn finish(&mut self, rooms: &Rooms, mut work: Work) -> Result<(), RoomError> {
        work.finish()?;
        if work.changes.is_empty() {
            self.loaded = Some(work.loaded);
            return Ok(());
        }
        let changes = std::mem::replace(&mut work.changes, rooms.no_changes());
        let stamps = rooms.records().commit(changes).await.map_err(|error| match error {
            CommitError::Conflict => RoomError::Outdated,
            CommitError::TooLarge => RoomError::from(error),
            error => {
                tracing::error!(room = %self.num, %error, "a room's changes were not committed");
                RoomError::from(error)
            }
        })?;
        let guests_changed = work.guests_changed();
        self.loaded = Some(work.committed().publish(rooms.shared(), stamps));
        if guests_changed {
            tokio::spawn(rooms.clone().put_guests_out(self.num));
        }
        Ok(())
    }
}

/// Decides about a command.
fn perform(work: &mut Work, command: &mut Command) -> Decided {
    match command {
        Command::Send { draft, txn, basis, .. } => {
            Decided::Sent(work.draft(draft.clone(), txn.as_ref(), basis.as_ref()))
        }
        Command::Prepare { draft, basis, .. } => Decided::Prepared(work.prepare(draft.clone(), basis.as_ref())),
        Command::Receive { events, states, .. } => {
            Decided::Received(std::mem::take(events).into_iter().map(|event| work.event(event, states)).collect())
        }
        Command::SetState { edits, .. } => Decided::StateSet(work.set_state(edits)),
        Command::Enter { event, .. } => Decided::Sent(take(event).and_then(|event| work.enter(*event))),
        Command::OutOfBand { event, stripped_state, .. } => {
            let event = take(event);
            Decided::Sent(event.and_then(|event| work.out_of_band(*event, stripped_state.take())))
        }
        Command::Backfill { events, states, .. } => Decided::Received(work.backfill(std::mem::take(events), states)),
        Command::Outliers { events, .. } => {
            Decided::Received(std::mem::take(events).into_iter().map(|event| work.outlier(event)).collect())
        }
        Command::Forget { user, .. } => Decided::Forgotten(work.forget(user)),
        Command::Publish { published, .. } => {
            work.publish(*published);
            Decided::Published
        }
        Command::Purge { events, .. } => Decided::Purged(work.purge(events)),
        Command::Upgrade { upgrade, .. } => Decided::Upgraded(work.upgrade(upgrade)),
    }
}

/// What a command brings that can be decided about only once.
fn take<T>(event: &mut Option<T>) -> Result<T, RoomError> {
    event.take().ok_or(RoomError::Unwritable)
}

impl Command {
    /// Whether it brings events of other servers.
    fn is_foreign(&self) -> bool {
        matches!(
            self,
            Self::Receive { .. }
                | Self::Backfill { .. }
                | Self::Outliers { .. }
                | Self::SetState { .. }
                | Self::Enter { .. }
                | Self::OutOfBand { .. }
        )
    }

    fn answer(self, decided: Decided) {
        match (self, decided) {
            (
                Self::Send { reply, .. } | Self::Enter { reply, .. } | Self::OutOfBand { reply, .. },
                Decided::Sent(answer),
            ) => respond(reply, answer),
            (Self::Prepare { reply, .. }, Decided::Prepared(answer)) => respond(reply, answer),
            (
                Self::Receive { reply, .. } | Self::Backfill { reply, .. } | Self::Outliers { reply, .. },
                Decided::Received(answer),
            ) => respond(reply, Ok(answer)),
            (Self::Forget { reply, .. }, Decided::Forgotten(answer))
            | (Self::SetState { reply, .. }, Decided::StateSet(answer)) => respond(reply, answer),
            (Self::Publish { reply, .. }, Decided::Published) => respond(reply, Ok(())),
            (Self::Purge { reply, .. }, Decided::Purged(answer)) => respond(reply, answer),
            (Self::Upgrade { reply, .. }, Decided::Upgraded(answer)) => respond(reply, answer),
            (command, _) => command.fail(&RoomError::Unwritable),
        }
    }

    fn fail(self, error: &RoomError) {
        let error = match error {
            RoomError::Overloaded | RoomError::Outdated => RoomError::Overloaded,
            RoomError::TooLarge(reason) => RoomError::TooLarge(reason.clone()),
            error => RoomError::internal(error.to_string()),
        };
        match self {
            Self::Send { reply, .. } | Self::Enter { reply, .. } | Self::OutOfBand { reply, .. } => {
                respond(reply, Err(error));
            }
            Self::Receive { reply, .. } | Self::Backfill { reply, .. } | Self::Outliers { reply, .. } => {
                respond(reply, Err(error));
            }
            Self::Forget { reply, .. } | Self::Publish { reply, .. } | Self::SetState { reply, .. } => {
                respond(reply, Err(error));
            }
            Self::Purge { reply, .. } => respond(reply, Err(error)),
            Self::Upgrade { reply, .. } => respond(reply, Err(error)),
            Self::Prepare { reply, .. } => respond(reply, Err(error)),
        }
    }
}

/// Answers, unless the asker has gone: the decision stands all the same.
fn respond<T>(reply: Reply<T>, answer: Result<T, RoomError>) {
    let _gone = reply.send(answer);
}

impl Rooms {
    /// Hands a command to a room's task, which is started if need be.
    pub(crate) async fn tell<T>(
        &self,
        num: RoomNum,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        let mut command = command(reply);
        loop {
            let mailbox = self.mailboxes().entry(num).or_insert_with(|| start(self, num));
            match mailbox.try_send(command) {
                Ok(()) => break,
                Err(mpsc::error::TrySendError::Full(_)) => return Err(RoomError::Overloaded),
                // The task has panicked: the next one reads the room again.
                Err(mpsc::error::TrySendError::Closed(returned)) => command = returned,
            }
            drop(mailbox);
            self.mailboxes().remove_if(&num, |_, mailbox| mailbox.is_closed());
        }
        answer.await.map_err(|_| RoomError::internal("the room's task ended without an answer"))?
    }
}
