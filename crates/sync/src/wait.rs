//! A sync from its request to its answer.

use crate::active::Active;
use crate::assemble::Answer;
use crate::same::Together;
use crate::{Inner, SyncError, SyncRequest, SyncToken, Syncs};
use base::RoomNum;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::time::Instant;

/// A user who syncs, or looks at a room, for as long as the request runs.
pub struct Entered {
    pub inner: Arc<Inner>,
    pub active: Arc<Active>,
    /// The room that they look at without being in it.
    pub peeked: Option<RoomNum>,
}

impl Entered {
    /// Waits until something is noted after `token`; false if that does not happen in time. `notified` must have
    /// been enabled before it was looked at what there is up to the token.
    pub async fn woken<'a>(
        &'a self,
        mut notified: Pin<&mut Notified<'a>>,
        token: SyncToken,
        deadline: Instant,
        ended: &mut watch::Receiver<bool>,
    ) -> bool {
        let _waiting = Waiting::new(&self.inner);
        loop {
            let woken = tokio::select! {
                () = notified.as_mut() => true,
                () = tokio::time::sleep_until(deadline) => false,
                _ended = ended.wait_for(|ended| *ended) => false,
            };
            if !woken || self.active.has_news(token) {
                return woken;
            }
            // Woken for what was looked at already.
            notified.set(self.active.notify.notified());
            notified.as_mut().enable();
            if self.active.has_news(token) {
                return true;
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        match self.peeked {
            Some(room) => self.inner.active.unpeek(room, &self.active),
            None => self.active.leave(self.inner.clock.now()),
        }
    }
}

/// A sync among those that ask the same.
struct Joined<'a> {
    inner: &'a Inner,
    together: Arc<Together>,
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.inner.same.leave(&self.together);
    }
}

/// Counts a sync among those that wait.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Syncs {
    /// What happened since the client's token, as the JSON of the response; waits if it is nothing yet.
    ///
    /// An initial sync and one with `full_state` never wait (client-server API, `GET /sync`). Dropping the
    /// future ends the wait. While it waits, it holds neither a view of the store nor the parsed filter.
    ///
    /// # Errors
    ///
    /// [`SyncError::BadFilter`], [`SyncError::NoSuchFilter`], [`SyncError::Overloaded`] if more users sync than
    /// are followed, [`SyncError::Internal`].
    pub async fn sync(&self, request: SyncRequest) -> Result<Bytes, SyncError> {
        let inner = &self.0;
        let now = inner.clock.now();
        let active = inner.active.enter(&request.user_id, now, || inner.records.view())?;
        let entered = Entered { inner: inner.clone(), active: active.ok_or(SyncError::Overloaded)?, peeked: None };
        let deadline = Instant::now() + request.timeout.min(inner.config.timeout_max);
        let mut ended = inner.ending.subscribe();
        let mut since = inner.usable(request.since, inner.records.view().stamp());
        let request = Arc::new(SyncRequest { since, ..request });
        if let Some(since) = since {
            // Boxed, so that it takes no memory of those who wait.
            Box::pin(inner.confirm_to_device(&request.user_id, &request.device_id, since.to_device)).await?;
        }
        let together = Joined { inner, together: inner.same.join(&request) };
        loop {
            let notified = entered.active.notify.notified();
            tokio::pin!(notified);
            // From here on nothing is missed: what the view below does not show will wake.
            notified.as_mut().enable();
            let newest = SyncToken::new(*inner.records.newest().borrow(), inner.volatile_count());
            let answer = together.together.answer(newest, || inner.answer(&request, &entered.active, since)).await?;
            let token = answer.token;
            if let Some(body) = answer.body {
                return Ok(body);
            }
            // There was nothing up to here, so the next look need not go back further.
            since = Some(token);
            let woken = entered.woken(notified, token, deadline, &mut ended).await;
            if !woken {
                return inner.nothing(&inner.records.view(), &request, token).map(Bytes::from);
            }
        }
    }
}

impl Inner {
    async fn answer(
        self: &Arc<Self>,
        request: &Arc<SyncRequest>,
        active: &Arc<Active>,
        since: Option<SyncToken>,
    ) -> Result<Answer, SyncError> {
        if let Some(answer) = self.assemble_if_short(request, active, since)? {
            return Ok(answer);
        }
        // All rooms of the user are looked at, which may take long: it gets a thread of its own, and few run at
        // the same time. The permit goes with the work, which goes on if the client doesn't wait for it.
        let permit = self.long.clone().acquire_owned().await.map_err(SyncError::internal)?;
        let (inner, request, active) = (self.clone(), request.clone(), active.clone());
        let work = tokio::task::spawn_blocking(move || {
            let answer = inner.assemble(&request, &active, since);
            drop(permit);
            answer
        });
        work.await.map_err(SyncError::internal)?
    }
}
