//! The task that brings the index up to what the log says, and makes it anew from the rooms if it is lost.
//!
//! What was done is noted with each commit of the index itself, so that each entry of the log takes effect once
//! whenever the server is cut off; only after that is the follower's place in the log moved. The task keeps nothing
//! alive while it waits, and no writer, which takes memory, for longer than it is of use.

use crate::gather::{Gatherer, Work};
use crate::index::{Building, Opened, Progress};
use crate::query::edited_by;
use crate::{Inner, NAME, SearchError, Standing, Writers};
use base::{Order, RoomNum, Stamp};
use records::View;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tantivy::{IndexWriter, TantivyError};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// After so long without anything to write, a writer is closed.
const WRITER_IDLE: Duration = Duration::from_secs(20);
/// When something is tried again that has failed: after so long, then twice as long, and so on.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_mins(10);
/// After how many failures in turn the index is made anew.
const FAILURES_MAX: u32 = 3;
/// How many messages are written between two commits while the index is made.
const BUILT_AT_ONCE: usize = 50_000;
/// How long after a start the index is opened, unless somebody searches: a process that only looks something up in the
/// store is gone by then.
const START_DELAY: Duration = Duration::from_secs(2);
/// How often the log says how far the making has come.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// After how many stamps without anything to index the place in the log is noted all the same.
const STAMPS_UNNOTED_MAX: u64 = 1 << 16;
/// How often what was deleted is taken out of the files of the index.
const PURGE_EVERY: Duration = Duration::from_hours(24);
/// When that is done first after a start.
const PURGE_FIRST: Duration = Duration::from_hours(1);
/// How many rooms are listed at once.
const ROOMS_PAGE: usize = 1_000;

/// What the task works with. It goes to another thread and comes back.
struct Worker {
    opened: Opened,
    /// What is noted with the index.
    progress: Progress,
    /// Up to where the log was read; there was nothing for the index after [`Progress::up_to`].
    read: Stamp,
    /// Who writes, once there was something to write.
    writer: Option<IndexWriter>,
    /// How much memory that takes.
    writer_memory: usize,
    /// The right to write; always there while a writer is.
    permit: Option<OwnedSemaphorePermit>,
    /// How many messages are written and not committed.
    uncommitted: usize,
    made: Made,
}

/// How the making goes.
struct Made {
    messages: u64,
    rooms: u64,
    rooms_total: u64,
    told: Instant,
}

/// What there is to do after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Wait,
}

pub(crate) async fn follow(
    weak: Weak<Inner>,
    mut newest: watch::Receiver<Stamp>,
    mut ended: watch::Receiver<bool>,
    asked: Arc<Notify>,
    writers: Writers,
) {
    tokio::select! {
        () = asked.notified() => {}
        () = sleep(START_DELAY) => {}
        () = over(&mut ended) => return,
    }
    let mut worker: Option<Worker> = None;
    let mut failures = 0_u32;
    let mut purge_at = Instant::now() + PURGE_FIRST;
    loop {
        let mut permit = None;
        if worker.as_ref().is_none_or(|worker| worker.permit.is_none()) {
            // Nothing is kept alive while it waits for its turn.
            permit = tokio::select! {
                permit = writers.0.clone().acquire_owned() => permit.ok(),
                () = over(&mut ended) => break,
            };
        }
        let Some(inner) = weak.upgrade() else { break };
        if *ended.borrow() {
            break;
        }
        if inner.suspect.swap(false, Ordering::Relaxed) {
            // It is looked through when it is opened again.
            worker = None;
        }
        newest.mark_unchanged();
        let made_anew = failures >= FAILURES_MAX;
        let stepped = step(&inner, &mut worker, permit, made_anew, &mut purge_at).await;
        drop(inner);
        let pause = match stepped {
            Ok(Next::More) => {
                failures = 0;
                tokio::task::yield_now().await;
                continue;
            }
            Ok(Next::Wait) => {
                failures = 0;
                None
            }
            Err(error) => {
                // Whatever was written and not committed is gone with the writer, and is written again.
                worker = None;
                let pause = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
                failures = match made_anew {
                    true => 0,
                    false if error.is_of_the_disk() => failures.max(1),
                    false => failures + 1,
                };
                tracing::error!(%error, retry_in = ?pause, "the search index can't be brought up to date");
                Some(pause)
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = sleep(pause) => continue,
                () = over(&mut ended) => break,
            }
        }
        let has_writer = worker.as_ref().is_some_and(|worker| worker.permit.is_some());
        tokio::select! {
            // Ends when the store does.
            changed = newest.changed() => if changed.is_err() { break },
            () = over(&mut ended) => break,
            () = sleep(WRITER_IDLE), if has_writer => {
                worker = close_writer(worker).await;
                continue;
            }
            () = sleep_until(purge_at) => continue,
        }
        // What happens is written together, unless somebody searches.
        let interval = match weak.upgrade() {
            Some(inner) => inner.config.commit_interval,
            None => break,
        };
        tokio::select! {
            () = asked.notified() => {}
            () = sleep(interval) => {}
            () = over(&mut ended) => break,
        }
    }
    close_writer(worker).await;
}

/// Waits for the end.
async fn over(ended: &mut watch::Receiver<bool>) {
    // It ends as well when nobody could say so any more.
    let _ended = ended.wait_for(|ended| *ended).await;
}

/// Lets go of the writer, once it has merged what it was about to.
async fn close_writer(worker: Option<Worker>) -> Option<Worker> {
    let mut worker = worker?;
    let permit = worker.permit.take();
    let Some(writer) = worker.writer.take() else { return Some(worker) };
    let closed = tokio::task::spawn_blocking(move || {
        let merged = writer.wait_merging_threads();
        drop(permit);
        merged
    });
    if let Err(error) = closed.await.map_err(SearchError::from).and_then(|merged| Ok(merged?)) {
        tracing::warn!(%error, "parts of the search index could not be merged");
    }
    Some(worker)
}

async fn step(
    inner: &Arc<Inner>,
    place: &mut Option<Worker>,
    permit: Option<OwnedSemaphorePermit>,
    made_anew: bool,
    purge_at: &mut Instant,
) -> Result<Next, SearchError> {
    let mut worker = match place.take() {
        Some(worker) => worker,
        None => open(inner, made_anew).await?,
    };
    worker.permit = worker.permit.or(permit);
    let purges = *purge_at <= Instant::now() && worker.progress.building.is_none();
    if purges {
        *purge_at = Instant::now() + PURGE_EVERY;
    }
    let (working, noted_before) = (inner.clone(), worker.progress.up_to);
    let (mut worker, next) = tokio::task::spawn_blocking(move || {
        if purges {
            worker.purge()?;
        }
        let next =
            if worker.progress.building.is_some() { worker.build(&working)? } else { worker.catch_up(&working)? };
        Ok::<_, SearchError>((worker, next))
    })
    .await??;
    let is_building = worker.progress.building.is_some();
    inner.standing.send_replace(Standing { up_to: worker.read, is_building, is_open: true });
    if worker.progress.up_to != noted_before {
        inner.note_follower(worker.progress.up_to).await?;
    }
    let others_may_wait = inner.writers.0.available_permits() == 0;
    if worker.writer.is_none() {
        worker.permit = None;
    } else if others_may_wait && worker.uncommitted == 0 {
        *place = close_writer(Some(worker)).await;
        return Ok(next);
    }
    *place = Some(worker);
    Ok(next)
}

/// Opens the index that is there, or begins a new one.
async fn open(inner: &Arc<Inner>, made_anew: bool) -> Result<Worker, SearchError> {
    let (working, view) = (inner.clone(), inner.records.view());
    let found = {
        let view = view.clone();
        tokio::task::spawn_blocking(move || working.existing(&view, made_anew)).await??
    };
    let (opened, progress) = match found {
        Some(found) => found,
        None => {
            // The log is kept from here on; what was before is read from the rooms.
            inner.note_follower(view.stamp()).await?;
            let id = format!("{}-{}", inner.clock.now().0, view.stamp());
            let mut changes = inner.records.changes(&view);
            changes.put_search_index(&id);
            inner.records.commit(changes).await?;
            let place = inner.place.clone();
            let opened = tokio::task::spawn_blocking(move || Opened::create(&place)).await??;
            (opened, Progress::begin(id, view.stamp()))
        }
    };
    let rooms_total = view.room_count()?;
    if progress.building.is_some() && rooms_total > 0 {
        tracing::info!(rooms = rooms_total, "the search index is made from the rooms");
    }
    if view.follower(NAME)?.is_none() {
        inner.note_follower(progress.up_to).await?;
    }
    inner.opened.store(Some(Arc::new(opened.clone())));
    Ok(Worker {
        opened,
        read: progress.up_to,
        progress,
        writer: None,
        writer_memory: inner.config.writer_memory.bytes(),
        permit: None,
        uncommitted: 0,
        made: Made { messages: 0, rooms: 0, rooms_total, told: Instant::now() },
    })
}

impl Inner {
    /// The index that is there, if it is one of this store and the log goes on from where it ends.
    fn existing(&self, view: &View, made_anew: bool) -> Result<Option<(Opened, Progress)>, SearchError> {
        if made_anew {
            tracing::warn!("the search index fails again and again, and is made anew");
            return Ok(None);
        }
        let Some((opened, progress)) = Opened::existing(&self.place) else { return Ok(None) };
        let reason = if view.search_index()?.is_none_or(|id| id != progress.id) {
            "it belongs to another store"
        } else if progress.up_to > view.stamp() {
            "it is ahead of the store, which seems to be restored from a backup"
        } else if progress.up_to < view.log_trimmed()? {
            "the log does not go back to where it ends"
        } else {
            return Ok(Some((opened, progress)));
        };
        tracing::warn!(%reason, "the search index can't be used, and is made anew");
        Ok(None)
    }

    /// Moves the place in the log.
    async fn note_follower(&self, up_to: Stamp) -> Result<(), SearchError> {
        let mut changes = self.records.changes(&self.records.view());
        changes.set_follower(NAME, up_to);
        changes.derived();
        self.records.commit(changes).await?;
        Ok(())
    }
}

impl Worker {
    fn writer(&mut self) -> Result<&mut IndexWriter, SearchError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.opened.writer(self.writer_memory)?,
        };
        Ok(self.writer.insert(writer))
    }

    /// Does what the log says.
    fn catch_up(&mut self, inner: &Inner) -> Result<Next, SearchError> {
        let view = inner.records.view();
        let mut gatherer = Gatherer::new(&inner.rooms, view.clone(), inner.clock.now());
        let (mut work, up_to) = gatherer.follow(self.read)?;
        for edit in std::mem::take(&mut work.redacted) {
            for event in edited_by(&self.opened, edit)? {
                gatherer.renew_num(event, &mut work)?;
            }
        }
        let is_due = up_to.0.saturating_sub(self.progress.up_to.0) >= STAMPS_UNNOTED_MAX;
        if !work.is_empty() || is_due {
            self.write(&work)?;
            self.commit(Progress { up_to, ..self.progress.clone() })?;
        }
        self.read = up_to;
        Ok(if up_to < view.stamp() { Next::More } else { Next::Wait })
    }

    /// Makes another part of the index from the rooms.
    fn build(&mut self, inner: &Inner) -> Result<Next, SearchError> {
        let Some(Building { mut room, mut order }) = self.progress.building else { return Ok(Next::More) };
        let up_to = Order::from(self.progress.up_to);
        let view = inner.records.view();
        let mut gatherer = Gatherer::new(&inner.rooms, view.clone(), inner.clock.now());
        let mut work = Work::default();
        let mut is_done = false;
        'page: while !Gatherer::is_full(&work) {
            let rooms = view.room_nums(room, ROOMS_PAGE)?;
            if rooms.is_empty() {
                is_done = true;
                break;
            }
            for num in rooms {
                let after = if num == room { order } else { Order(i64::MIN) };
                match gatherer.history(num, after, up_to, &mut work)? {
                    Some(reached) => {
                        (room, order) = (num, reached);
                        break 'page;
                    }
                    None => {
                        (room, order) = (RoomNum(num.0.saturating_add(1)), Order(i64::MIN));
                        self.made.rooms += 1;
                    }
                }
                if Gatherer::is_full(&work) {
                    break;
                }
            }
        }
        self.made.messages += u64::try_from(work.entries.len()).unwrap_or(u64::MAX);
        self.uncommitted += work.entries.len();
        self.write(&work)?;
        let building = (!is_done).then_some(Building { room, order });
        if is_done || self.uncommitted >= BUILT_AT_ONCE {
            self.commit(Progress { building, ..self.progress.clone() })?;
        } else {
            self.progress.building = building;
        }
        let Made { messages, rooms, rooms_total, told } = &mut self.made;
        if is_done && *rooms_total > 0 {
            tracing::info!(messages, rooms, "the search index is made");
        } else if told.elapsed() >= TOLD_EVERY {
            *told = Instant::now();
            tracing::info!(messages, rooms, of_rooms = rooms_total, "the search index is being made");
        }
        Ok(Next::More)
    }

    fn write(&mut self, work: &Work) -> Result<(), SearchError> {
        if work.is_empty() {
            return Ok(());
        }
        let fields = self.opened.fields;
        let writer = self.writer()?;
        for room in &work.gone_rooms {
            writer.delete_term(fields.room_term(*room));
        }
        for event in &work.gone {
            writer.delete_term(fields.event_term(*event));
        }
        for entry in work.entries.values() {
            writer.add_document(fields.document(entry))?;
        }
        Ok(())
    }

    /// Commits what was written, with how far that goes.
    fn commit(&mut self, progress: Progress) -> Result<(), SearchError> {
        let payload =
            serde_json::to_string(&progress).map_err(|error| TantivyError::InternalError(error.to_string()))?;
        let mut commit = self.writer()?.prepare_commit()?;
        commit.set_payload(&payload);
        commit.commit()?;
        self.opened.reader.reload()?;
        self.progress = progress;
        self.uncommitted = 0;
        Ok(())
    }

    /// Writes the segments anew that have deleted messages in them, one after the other: until then, which words
    /// those had is still on the disk, though nothing finds it.
    fn purge(&mut self) -> Result<(), SearchError> {
        let segments = self.opened.index.searchable_segment_metas()?;
        for segment in segments.into_iter().filter(tantivy::SegmentMeta::has_deletes) {
            let merged = self.writer()?.merge(&[segment.id()]).wait();
            if let Err(error) = merged {
                // It may be part of another merge at this moment, which leaves out what is deleted as well.
                tracing::debug!(%error, "a part of the search index is not written anew");
            }
        }
        self.opened.reader.reload()?;
        self.writer()?.garbage_collect_files().wait()?;
        Ok(())
    }
}

/// Lets the log go on without this follower.
pub(crate) async fn forget(weak: Weak<Inner>) {
    let Some(inner) = weak.upgrade() else { return };
    let view = inner.records.view();
    if !matches!(view.follower(NAME), Ok(Some(_))) {
        return;
    }
    let mut changes = inner.records.changes(&view);
    changes.forget_follower(NAME);
    if let Err(error) = inner.records.commit(changes).await {
        tracing::warn!(%error, "the log is kept for a search that is turned off");
    }
}
