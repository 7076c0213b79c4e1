//! What administrators have asked for that takes long: it goes on after a restart, and its outcome can be looked up.

use crate::codec::RecordsError;
use crate::tables::JOB;
use crate::{Changes, View};
use base::{Order, RoomNum, UnixMillis};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::KeyReader;

/// The most jobs that are kept, finished ones included.
pub const JOBS_MAX: usize = 10_000;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What is to be done.
    pub job: Job,
    /// Who asked for it.
    pub by: OwnedUserId,
    /// When.
    pub asked_at: UnixMillis,
    /// How it stands.
    pub status: JobStatus,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    /// It is under way, or waits for its turn.
    Open,
    /// It is done.
    Complete {
        /// Since when.
        at: UnixMillis,
    },
    /// It could not be done.
    Failed {
        /// Since when.
        at: UnixMillis,
        /// Why.
        why: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Put everybody out of a room, and maybe remove it.
    DeleteRoom(RoomDeletion),
    /// Remove what was said in a room up to a place.
    PurgeHistory {
        /// The room.
        room_id: OwnedRoomId,
        /// The last place.
        up_to: Order,
        /// Whether what users of this server said goes too.
        local_events: bool,
    },
    /// Redact what a user has said.
    RedactUser(UserRedaction),
}

/// The end of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomDeletion {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its number, if it is known here.
    pub room: Option<RoomNum>,
    /// Whether its data is removed.
    pub purge: bool,
    /// Whether its data is removed though somebody could not be put out.
    pub force: bool,
    /// The room to which users of this server are taken, if there is to be one: who creates it, its name, and what is
    /// said in it.
    pub new_room: Option<(OwnedUserId, String, String)>,
    /// That room, once it is made.
    pub new_room_id: Option<OwnedRoomId>,
    /// Who was put out, the first of them.
    pub kicked: Vec<OwnedUserId>,
    /// Who could not be put out, the first of them.
    pub failed_to_kick: Vec<OwnedUserId>,
    /// The aliases that the room had here.
    pub aliases: Vec<String>,
    /// Whether nobody of this server is in it any more.
    pub is_empty: bool,
}

/// Redacting what a user has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRedaction {
    /// The user.
    pub user: OwnedUserId,
    /// In which rooms; those that are done are taken out from the end.
    pub rooms: Vec<OwnedRoomId>,
    /// Why.
    pub reason: Option<String>,
    /// How many events of each room at most, the newest first.
    pub limit: u64,
    /// Whether the administrator redacts, and not the user themselves.
    pub as_admin: bool,
    /// Which events could not be redacted and why, the first of them.
    pub failed: Vec<(String, String)>,
}

fn job_key(id: &str) -> Vec<u8> {
    JOB.key().text(id).build()
}

impl View {
    /// A job.
    pub fn job(&self, id: &str) -> Result<Option<JobRecord>, RecordsError> {
        self.get(JOB, &job_key(id))
    }

    /// All jobs with their ids, at most [`JOBS_MAX`].
    pub fn jobs(&self) -> Result<Vec<(String, JobRecord)>, RecordsError> {
        let rows = self.scan(JOB, JOB.key().prefix_range(), Direction::Forward, JOBS_MAX)?;
        rows.iter()
            .map(|(key, value)| {
                let id = KeyReader::new(key).text().ok_or_else(|| JOB.corrupt())?.to_owned();
                Ok((id, JOB.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Writes a job.
    pub fn put_job(&mut self, id: &str, record: &JobRecord) {
        self.put(JOB, job_key(id), record);
    }

    /// Forgets a job.
    pub fn clear_job(&mut self, id: &str) {
        self.clear(JOB, job_key(id));
    }
}
