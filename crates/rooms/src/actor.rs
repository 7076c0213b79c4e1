//! The one writer of a room: a task with a bounded mailbox while the room is busy, nothing while it is not.

use crate::work::{Loaded, Work};
use crate::{RoomError, Rooms, Txn};
use base::RoomNum;
use records::Changes;
use room_core::{Draft, Room};
use rules::CheckedPdu;
use ruma::{OwnedEventId, OwnedUserId};
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
    Send { draft: Draft, txn: Option<Txn>, reply: Reply<OwnedEventId> },
    /// Take in events of another server.
    Receive { events: Vec<CheckedPdu>, reply: Reply<Received> },
    /// Let a user forget the room.
    Forget { user: OwnedUserId, reply: Reply<()> },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// What became of each event that was received, in their order.
pub(crate) type Received = Vec<Result<OwnedEventId, RoomError>>;

/// An answer that waits for the commit.
enum Answer {
    Received(Received, Reply<Received>),
    Sent(OwnedEventId, Reply<OwnedEventId>),
    Forgotten(Reply<()>),
}

/// Starts the task of a room.
pub(crate) fn start(rooms: Rooms, num: RoomNum) -> mpsc::Sender<Command> {
    let (sender, receiver) = mpsc::channel(MAILBOX_MAX);
    tokio::spawn(Actor { rooms, num, loaded: None }.run(receiver));
    sender
}

struct Actor {
    rooms: Rooms,
    num: RoomNum,
    /// The room as the last commit left it; forgotten when a commit fails, so that memory never runs ahead
    /// of the disk.
    loaded: Option<Loaded>,
}

impl Actor {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Command>) {
        let mut run = Vec::new();
        loop {
            match timeout(IDLE, mailbox.recv_many(&mut run, RUN_MAX)).await {
                Ok(0) => return,
                Ok(_) => self.decide(run.drain(..)).await,
                // Commands are sent under the lock of the mailbox's entry: nobody can send to one that is gone.
                Err(_) => {
                    let idle = self.rooms.mailboxes().remove_if(&self.num, |_, _| mailbox.is_empty());
                    if idle.is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// Decides about commands in turn, and commits them in as few batches as their size allows.
    async fn decide(&mut self, run: impl Iterator<Item = Command>) {
        let mut run = run.peekable();
        while run.peek().is_some() {
            let mut work = match self.begin() {
                Ok(work) => work,
                Err(error) => {
                    tracing::error!(room = %self.num, %error, "a room cannot be read");
                    run.for_each(|command| command.fail(RoomError::internal(error.to_string())));
                    return;
                }
            };
            let mut answers = Vec::new();
            while work.changes.bytes() < base::limits::BATCH_BYTES_SOFT_MAX
                && let Some(command) = run.next()
            {
                answers.extend(perform(&mut work, command));
            }
            let finished = work.finish();
            if work.changes.is_empty() {
                self.loaded = Some(work.loaded);
                answers.into_iter().for_each(Answer::succeed);
                continue;
            }
            let changes = std::mem::replace(&mut work.changes, self.rooms.no_changes());
            let committed = work.committed();
            let outcome = match finished {
                Ok(()) => self.commit(changes).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(stamps) => {
                    self.loaded = Some(committed.publish(self.rooms.shared(), stamps));
                    answers.into_iter().for_each(Answer::succeed);
                }
                Err(error) => {
                    for answer in answers {
                        answer.fail(&error);
                    }
                }
            }
        }
    }

    fn begin(&mut self) -> Result<Work, RoomError> {
        let view = self.rooms.records().view();
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => {
                let head = view.room_head(self.num)?.ok_or(RoomError::NotFound("the room"))?;
                let rules = rules::room_rules(&head.version)
                    .ok_or_else(|| RoomError::UnsupportedVersion(head.version.to_string()))?;
                let room = Room::new(Some(head.room_id.clone()), head.version.clone(), rules);
                Loaded::read(self.rooms.shared(), &view, head, room)?
            }
        };
        let changes = self.rooms.records().changes(&view);
        Ok(Work::new(self.rooms.shared_arc(), self.num, loaded, changes))
    }

    async fn commit(&self, changes: Changes) -> Result<store::Stamps, RoomError> {
        self.rooms.records().commit(changes).await.map_err(|error| {
            if !matches!(error, CommitError::Conflict) {
                tracing::error!(room = %self.num, %error, "a room's changes were not committed");
            }
            error.into()
        })
    }
}

/// Does what a command says. An answer that must wait for the commit is returned, a refusal is sent.
fn perform(work: &mut Work, command: Command) -> Option<Answer> {
    match command {
        Command::Send { draft, txn, reply } => match work.draft(draft, txn.as_ref()) {
            Ok(event_id) => Some(Answer::Sent(event_id, reply)),
            Err(error) => {
                respond(reply, Err(error));
                None
            }
        },
        Command::Receive { events, reply } => {
            let received = events.into_iter().map(|event| work.event(event)).collect();
            Some(Answer::Received(received, reply))
        }
        Command::Forget { user, reply } => match work.forget(&user) {
            Ok(()) => Some(Answer::Forgotten(reply)),
            Err(error) => {
                respond(reply, Err(error));
                None
            }
        },
    }
}

impl Answer {
    fn succeed(self) {
        match self {
            Self::Sent(event_id, reply) => respond(reply, Ok(event_id)),
            Self::Received(received, reply) => respond(reply, Ok(received)),
            Self::Forgotten(reply) => respond(reply, Ok(())),
        }
    }

    fn fail(self, error: &RoomError) {
        let error = match error {
            RoomError::Overloaded => RoomError::Overloaded,
            RoomError::TooLarge(reason) => RoomError::TooLarge(reason.clone()),
            error => RoomError::internal(error.to_string()),
        };
        match self {
            Self::Sent(_, reply) => respond(reply, Err(error)),
            Self::Received(_, reply) => respond(reply, Err(error)),
            Self::Forgotten(reply) => respond(reply, Err(error)),
        }
    }
}

impl Command {
    fn fail(self, error: RoomError) {
        match self {
            Self::Send { reply, .. } => respond(reply, Err(error)),
            Self::Receive { reply, .. } => respond(reply, Err(error)),
            Self::Forget { reply, .. } => respond(reply, Err(error)),
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
            let mailbox = self.mailboxes().entry(num).or_insert_with(|| start(self.clone(), num));
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
