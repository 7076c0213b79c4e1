//! Sliding sync (MSC4186): the waiting, the reading and the putting together.
//!
//! A request names windows over the user's rooms, sorted by activity, and single rooms; the answer has what is
//! new in those. What a connection was told is a [`sync_core::sliding::Connection`], which is kept in memory
//! while it is in use, and stored as it changes. The order of rooms in a connection's lists is kept in memory
//! only, and brought up to date with what changed since the last request; so a request costs what there is to
//! tell, and only the first one after a restart or a long absence looks at all rooms of the user.
//!
//! What is told beside rooms is in [`extensions`]; the JSON of requests is the concern of the crate above.

mod answer;
mod catalog;
mod connections;
mod extensions;
mod left;
mod lists;
mod required;
mod room;

pub use connections::{Connections, Key};

use crate::active::Active;
use crate::wait::Entered;
use crate::{Inner, SyncError, SyncToken, Syncs};
use answer::{Outcome, Told};
use base::Stamp;
use connections::Slot;
use ruma::{OwnedDeviceId, OwnedUserId};
use std::sync::Arc;
use std::time::Duration;
use sync_core::sliding::{Draft, Position, Rules};
use tokio::time::Instant;

/// Which form of the API the client speaks: they name some fields differently (MSC4186, "Changelog").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingForm {
    /// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
    Unstable,
    /// `POST /_matrix/client/v4/sync`
    Stable,
}

/// What the client asks of its to-device messages (MSC3885).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToDeviceRequest {
    /// Up to where the client has them.
    pub since: Option<String>,
    /// At most how many.
    pub limit: Option<usize>,
}

impl ToDeviceRequest {
    /// The stamp that the client's token stands for.
    fn since(&self) -> Result<Option<Stamp>, SyncError> {
        let read = |since: &String| since.parse().map(Stamp);
        self.since.as_ref().map(read).transpose().map_err(|_| SyncError::InvalidParam("to_device: no such since"))
    }
}

/// What a client asks of a sliding sync.
#[derive(Clone, Debug)]
pub struct SlidingRequest {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that syncs.
    pub device_id: OwnedDeviceId,
    /// The name of the connection; empty if the client gives none.
    pub connection: String,
    /// Where the client is in it; none begins the connection anew.
    pub position: Option<String>,
    /// What it wants.
    pub rules: Rules,
    /// What it wants of its to-device messages, if they are among what it wants.
    pub to_device: ToDeviceRequest,
    /// How long to wait for something to tell; bounded by [`crate::Config::timeout_max`]. A connection that
    /// begins never waits.
    pub timeout: Duration,
    /// Which form the response has.
    pub form: SlidingForm,
    /// What the client wants to read in the response again.
    pub txn_id: Option<String>,
}

/// A request while it runs.
struct Run {
    inner: Arc<Inner>,
    request: Arc<SlidingRequest>,
    active: Arc<Active>,
    slot: Arc<Slot>,
    /// Which of the connection's requests it is; only the newest one may change the connection.
    turn: u64,
    /// The version that the client came with.
    version: u64,
    /// Up to when the client has been told everything, or nothing was found to tell.
    since: Option<SyncToken>,
    draft: Draft,
}

impl Syncs {
    /// What is new on a connection, as the JSON of the response; waits if it is nothing yet.
    ///
    /// Dropping the future ends the wait, and leaves the connection as it was. A request that comes while
    /// another of the same connection waits ends the other one.
    ///
    /// # Errors
    ///
    /// [`SyncError::UnknownPosition`] if the position is none of this connection's last two;
    /// [`SyncError::InvalidParam`] if the request is beyond the limits; [`SyncError::Overloaded`] if more users
    /// sync than are followed; [`SyncError::Internal`].
    pub async fn sliding(&self, request: SlidingRequest) -> Result<String, SyncError> {
        let inner = &self.0;
        request.rules.check().map_err(|error| SyncError::InvalidParam(error.0))?;
        if request.connection.len() > sync_core::sliding::rules::NAME_BYTES_MAX {
            return Err(SyncError::InvalidParam("the name of a connection has at most 255 bytes"));
        }
        let newest = inner.records.view().stamp();
        // A token that is ahead of this server is from before its data was restored.
        let confirmed =
            request.to_device.since()?.filter(|up_to| request.rules.extensions.to_device && *up_to <= newest);
        let active = inner.active.enter(&request.user_id, inner.clock.now(), || inner.records.view())?;
        let entered = Entered { inner: inner.clone(), active: active.ok_or(SyncError::Overloaded)?, peeked: None };
        if let Some(up_to) = confirmed {
            Box::pin(inner.confirm_to_device(&request.user_id, &request.device_id, up_to)).await?;
        }
        let deadline = Instant::now() + request.timeout.min(inner.config.timeout_max);
        let mut ended = inner.ending.subscribe();
        let mut run = Run::begin(inner, request, &entered.active)?;
        let slot = run.slot.clone();
        let mut waits = run.since.is_some() && !run.request.timeout.is_zero();
        loop {
            let notified = entered.active.notify.notified();
            let superseded = slot.superseded.notified();
            tokio::pin!(notified, superseded);
            // From here on nothing is missed: what the view below does not show will wake.
            notified.as_mut().enable();
            superseded.as_mut().enable();
            let (back, outcome) = run.step().await?;
            run = back;
            let Some(told) = outcome else { return run.superseded() };
            let token = told.token;
            if !told.is_empty() || !waits {
                return run.finish(told).await;
            }
            // When the time is up, one more look tells what the lists count now.
            waits = tokio::select! {
                woken = entered.woken(notified, token, deadline, &mut ended) => woken,
                () = &mut superseded => return run.superseded(),
            };
        }
    }
}

impl Run {
    /// Takes the next turn on the connection, at the position that the client names.
    fn begin(inner: &Arc<Inner>, request: SlidingRequest, active: &Arc<Active>) -> Result<Self, SyncError> {
        let key = Key::new(&request.user_id, &request.device_id, &request.connection);
        let slot = inner.sliding.slot(&key);
        let begun = slot.begin(inner, &request)?;
        Ok(Self {
            inner: inner.clone(),
            request: Arc::new(request),
            active: active.clone(),
            turn: begun.number,
            version: begun.version,
            since: begun.since,
            draft: begun.draft,
            slot,
        })
    }

    /// Looks once for what is new; none if another request has taken the connection over. What takes long gets
    /// a thread of its own, and few run at the same time.
    async fn step(mut self) -> Result<(Self, Option<Told>), SyncError> {
        match self.look(false)? {
            Outcome::Superseded => return Ok((self, None)),
            Outcome::Told(told) => return Ok((self, Some(told))),
            Outcome::Long => {}
        }
        let permit = self.inner.long.clone().acquire_owned().await.map_err(SyncError::internal)?;
        let work = tokio::task::spawn_blocking(move || {
            let outcome = self.look(true);
            drop(permit);
            (self, outcome)
        });
        let (run, outcome) = work.await.map_err(SyncError::internal)?;
        match outcome? {
            Outcome::Superseded => Ok((run, None)),
            Outcome::Told(told) => Ok((run, Some(told))),
            Outcome::Long => Err(SyncError::internal("a sync was given up that may take long")),
        }
    }

    /// Changes the connection as the answer tells, and puts the response together.
    async fn finish(self, told: Told) -> Result<String, SyncError> {
        let Self { inner, request, slot, turn, draft, .. } = self;
        let Some((version, save)) = slot.settle(turn, draft, told.token) else { return nothing_at(&request) };
        if let Some(save) = save
            && let Err(error) = inner.save_connection(&request, save).await
        {
            // Memory never runs ahead of what is stored.
            inner.sliding.forget(&Key::new(&request.user_id, &request.device_id, &request.connection));
            return Err(error);
        }
        let owner = Position::owner(&request.user_id, &request.device_id, &request.connection);
        let position = Position { version, owner, token: told.token };
        Ok(told.response(&position.to_string(), request.txn_id.as_deref()))
    }

    /// The answer to a request that another one has taken the place of: its client does not look at it any
    /// more, so it leaves the client where it was.
    fn superseded(&self) -> Result<String, SyncError> {
        nothing_at(&self.request)
    }
}

fn nothing_at(request: &SlidingRequest) -> Result<String, SyncError> {
    // One that began the connection has no place to go back to.
    let position = request.position.as_deref().ok_or(SyncError::UnknownPosition)?;
    Ok(Told::default().response(position, request.txn_id.as_deref()))
}
