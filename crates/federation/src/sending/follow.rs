//! The task that follows the log and fills the servers' queues.

use super::FOLLOWER;
use super::destination::Destination;
use crate::{Federation, FederationError, Inner};
use base::Stamp;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How many entries of the log are read at once.
const LOG_PAGE: usize = 500;
/// How often it is written down how far everything has come.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// When to try again, if the records can't be read or written.
const RETRY: Duration = Duration::from_secs(5);
/// How many servers are read at once when it starts.
const SERVERS_PAGE: usize = 1_000;

/// Follows the log until the rooms are gone.
pub(super) async fn follow(inner: Weak<Inner>) {
    let mut newest = match inner.upgrade() {
        Some(inner) => inner.records.newest(),
        None => return,
    };
    let mut followed = loop {
        let Some(inner) = inner.upgrade() else { return };
        match Federation(inner).begin().await {
            Ok(stamp) => break stamp,
            Err(error) => tracing::error!(%error, "it can't be read up to where other servers have everything"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut contacts = inner.upgrade().and_then(|inner| inner.peers.contacts());
    let mut checkpoint = Instant::now() + CHECKPOINT;
    let mut written = Stamp(0);
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let federation = Federation(strong);
        newest.mark_unchanged();
        match federation.route_new(followed) {
            Ok(stamp) => {
                followed = stamp;
                federation.0.outbox.routed.store(stamp.0, std::sync::atomic::Ordering::SeqCst);
            }
            Err(error) => {
                tracing::error!(%error, "the log can't be read, so other servers are not told");
                tokio::time::sleep(RETRY).await;
            }
        }
        for server in federation.0.outbox.due(federation.0.clock.now()) {
            let found = federation.0.outbox.destinations.get(&server).map(|found| found.clone());
            if let Some(destination) = found {
                federation.drive(&destination);
            }
        }
        if checkpoint <= Instant::now() {
            checkpoint = Instant::now() + CHECKPOINT;
            match federation.checkpoint(followed, written).await {
                Ok(()) => written = followed,
                Err(error) => tracing::warn!(%error, "it is not written down what other servers have"),
            }
        }
        let busy = !federation.0.outbox.destinations.is_empty() || written < followed;
        let due = federation.0.outbox.next_due().map(|at| at.since(federation.0.clock.now()));
        let wake_at = due.map_or(checkpoint, |due| (Instant::now() + due).min(checkpoint));
        let outbox_woken = federation.0.clone();
        drop(federation);
        tokio::select! {
            // It ends with the engine.
            changed = newest.changed() => if changed.is_err() { return },
            () = sleep_until(wake_at), if busy || due.is_some() => {}
            () = outbox_woken.outbox.woken.notified() => {}
            server = next_contact(&mut contacts) => {
                if let Some(server) = server {
                    Federation(outbox_woken.clone()).heard_from(&server);
                }
            }
            () = tokio::time::sleep(CHECKPOINT) => {}
        }
    }
}

async fn next_contact(
    contacts: &mut Option<tokio::sync::broadcast::Receiver<ruma::OwnedServerName>>,
) -> Option<ruma::OwnedServerName> {
    match contacts {
        Some(receiver) => match receiver.recv().await {
            Ok(server) => Some(server),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => None,
            Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                *contacts = None;
                None
            }
        },
        None => std::future::pending().await,
    }
}

impl Federation {
    /// Reads where it has stopped, and begins there.
    async fn begin(&self) -> Result<Stamp, FederationError> {
        let view = self.0.records.view();
        let followed = match view.follower(FOLLOWER)? {
            Some(stamp) => stamp,
            // It has never begun: whatever was to be told is still there.
            None => {
                let first = view.log_trimmed()?;
                let mut changes = self.0.records.changes(&view);
                changes.set_follower(FOLLOWER, first);
                self.0.records.commit(changes).await?;
                first
            }
        };
        let mut after = None;
        loop {
            let page = view.destinations(after.as_deref(), SERVERS_PAGE)?;
            let full = page.len() == SERVERS_PAGE;
            after = page.last().map(|(server, _)| server.clone());
            for (server, row) in page {
                let destination = Arc::new(Destination::resumed(server.clone(), row));
                destination.queue().pass(followed);
                self.0.outbox.destinations.insert(server, destination.clone());
                self.drive(&destination);
            }
            if !full {
                return Ok(followed);
            }
        }
    }

    /// Gives the entries of the log after a stamp to the queues, and answers up to where.
    fn route_new(&self, followed: Stamp) -> Result<Stamp, FederationError> {
        let mut followed = followed;
        loop {
            let view = self.0.records.view();
            let entries = view.log(followed, view.stamp(), LOG_PAGE)?;
            let full = entries.len() == LOG_PAGE;
            let up_to = entries.last().map(|(stamp, _)| *stamp).filter(|_| full).unwrap_or(view.stamp());
            let mut touched: Vec<Arc<Destination>> = Vec::new();
            for (stamp, entry) in &entries {
                self.route(&view, entry, |server, item| {
                    let destination = self.destination(server, followed);
                    destination.queue().offer(*stamp, item.weight(), item);
                    if !touched.iter().any(|other| Arc::ptr_eq(other, &destination)) {
                        touched.push(destination);
                    }
                })?;
            }
            for destination in touched {
                self.drive(&destination);
            }
            followed = up_to;
            if !full {
                return Ok(followed);
            }
        }
    }

    /// The queue of a server, a new one if it had everything up to `done`.
    pub(super) fn destination(&self, server: &ruma::ServerName, done: Stamp) -> Arc<Destination> {
        if let Some(found) = self.0.outbox.destinations.get(server) {
            return found.clone();
        }
        let new = || Arc::new(Destination::new(server.to_owned(), done));
        self.0.outbox.destinations.entry(server.to_owned()).or_insert_with(new).clone()
    }

    /// Writes down up to where everything was given to the queues, and which servers don't have all of it. Forgets the
    /// queues of those that do.
    async fn checkpoint(&self, followed: Stamp, written: Stamp) -> Result<(), FederationError> {
        let view = self.0.records.view();
        let mut changes = self.0.records.changes(&view);
        let mut rows = Vec::new();
        for entry in &self.0.outbox.destinations {
            entry.queue().pass(followed);
            let (record, mut row) = (entry.record(), entry.row.lock().unwrap_or_else(PoisonError::into_inner));
            if record == *row {
                continue;
            }
            match &record {
                Some(record) => changes.put_destination(&entry.server, record),
                None => changes.clear_destination(&entry.server),
            }
            rows.push((entry.value().clone(), row.clone()));
            *row = record;
        }
        if followed > written || !rows.is_empty() {
            changes.set_follower(FOLLOWER, followed);
            changes.derived();
            if let Err(error) = self.0.records.commit(changes).await {
                for (destination, row) in rows {
                    *destination.row.lock().unwrap_or_else(PoisonError::into_inner) = row;
                }
                return Err(error.into());
            }
        }
        self.0.outbox.destinations.retain(|_, destination| {
            let has_row = destination.row.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            has_row || !destination.is_idle() || Arc::strong_count(destination) > 1
        });
        Ok(())
    }
}
