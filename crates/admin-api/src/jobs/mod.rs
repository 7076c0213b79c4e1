//! What takes long: it is written down first, then done one after the other in the background, and goes on where it was
//! after a restart. How it stands and what came of it can be looked up for a week.

mod delete_room;
mod redact_user;

use crate::State;
use base::random_string;
use face::ApiError;
use records::{JOBS_MAX, Job, JobRecord, JobStatus};
use ruma::UserId;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// The length of a job's id.
const ID_LENGTH: usize = 16;
/// How long finished jobs can be looked up.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// When a job is tried again that met something that may pass.
const RETRY: Duration = Duration::from_secs(30);
/// How often it is.
const ATTEMPTS_MAX: usize = 5;

/// Wakes what works on the jobs.
pub struct Jobs {
    wake: mpsc::Sender<()>,
    woken: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (wake, woken) = mpsc::channel(1);
        Self { wake, woken: Mutex::new(Some(woken)) }
    }
}

impl State {
    /// Starts what works on the jobs; it ends with the state.
    pub(crate) fn start_jobs(self: &Arc<Self>) {
        let woken = self.jobs.woken.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(woken) = woken {
            tokio::spawn(work(Arc::downgrade(self), woken));
        }
    }

    /// Writes a job down, which is done soon. Answers its id.
    pub(crate) async fn begin_job(&self, by: &UserId, job: Job) -> Result<String, ApiError> {
        if self.records.view().jobs()?.len() >= JOBS_MAX {
            return Err(ApiError::unknown("too much is under way"));
        }
        let id = random_string(&*self.random, ID_LENGTH);
        let record = JobRecord { job, by: by.to_owned(), asked_at: self.clock.now(), status: JobStatus::Open };
        self.put_job(&id, &record).await?;
        // One that is not taken yet is enough.
        let _full = self.jobs.wake.try_send(());
        Ok(id)
    }

    async fn put_job(&self, id: &str, record: &JobRecord) -> Result<(), ApiError> {
        let mut changes = self.records.changes(&self.records.view());
        changes.put_job(id, record);
        self.records.commit(changes).await.map_err(|error| ApiError::internal(&error))?;
        Ok(())
    }

    /// Forgets jobs that were finished long ago, and answers which are open.
    async fn open_jobs(&self) -> Result<Vec<(String, JobRecord)>, ApiError> {
        let now = self.clock.now();
        let view = self.records.view();
        let mut changes = self.records.changes(&view);
        let mut open = Vec::new();
        for (id, record) in view.jobs()? {
            match record.status {
                JobStatus::Open => open.push((id, record)),
                JobStatus::Complete { at } | JobStatus::Failed { at, .. } if now.since(at) > KEPT => {
                    changes.clear_job(&id);
                }
                JobStatus::Complete { .. } | JobStatus::Failed { .. } => {}
            }
        }
        if !changes.is_empty() {
            self.records.commit(changes).await.map_err(|error| ApiError::internal(&error))?;
        }
        open.sort_by_key(|(_, record)| record.asked_at);
        Ok(open)
    }

    /// Does a job, and writes down what came of it.
    async fn finish_job(self: &Arc<Self>, id: &str, mut record: JobRecord) -> Result<(), ApiError> {
        let mut attempt = 1;
        let outcome = loop {
            match self.perform(id, &mut record).await {
                Err(error) if error.is_internal() && attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    tokio::time::sleep(RETRY).await;
                }
                outcome => break outcome,
            }
        };
        let at = self.clock.now();
        record.status = match outcome {
            Ok(()) => JobStatus::Complete { at },
            Err(error) => JobStatus::Failed { at, why: error.message().to_owned() },
        };
        tracing::info!(job = id, status = ?record.status, "a job of an administrator is over");
        self.put_job(id, &record).await
    }

    async fn perform(self: &Arc<Self>, id: &str, record: &mut JobRecord) -> Result<(), ApiError> {
        match record.job.clone() {
            Job::DeleteRoom(deletion) => self.delete_room(id, record, deletion).await,
            Job::PurgeHistory { room_id, up_to, local_events } => {
                let count = self.rooms.purge_history(&room_id, up_to, local_events).await?;
                tracing::info!(%room_id, count, "events were removed from the history of a room");
                Ok(())
            }
            Job::RedactUser(redaction) => self.redact_user(id, record, redaction).await,
        }
    }
}

/// Works on the jobs that are open, whenever there may be one.
async fn work(state: Weak<State>, mut woken: mpsc::Receiver<()>) {
    loop {
        {
            let Some(state) = state.upgrade() else { return };
            match state.open_jobs().await {
                Ok(open) => {
                    for (id, record) in open {
                        if let Err(error) = state.finish_job(&id, record).await {
                            tracing::error!(job = id, ?error, "what came of a job can't be written down");
                        }
                    }
                }
                Err(error) => tracing::error!(?error, "the jobs of administrators can't be read"),
            }
        }
        if woken.recv().await.is_none() {
            return;
        }
    }
}
