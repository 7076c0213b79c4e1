//! Syncs that ask the same at the same time: what is put together for one of them answers them all.
//!
//! A client that lost its connection asks again while its first request still waits here. Nothing is kept beyond
//! the time that somebody asks.

use crate::assemble::Answer;
use crate::{SyncError, SyncRequest, SyncToken};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::OnceCell;

/// The syncs that run, those that ask the same together.
#[derive(Default)]
pub struct SameSyncs(Mutex<HashMap<Same, Weak<Together>>>);

/// A request, but for how long it waits.
#[derive(Clone)]
struct Same(Arc<SyncRequest>);

/// Those who ask the same.
pub struct Together {
    request: Same,
    /// What was put together last, or is being, and up to where it goes at least.
    last: Mutex<Option<(SyncToken, Arc<OnceCell<Answer>>)>>,
}

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (&*self.0, &*other.0);
        (&left.user_id, &left.device_id, left.since, &left.filter, left.full_state, left.state)
            == (&right.user_id, &right.device_id, right.since, &right.filter, right.full_state, right.state)
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.user_id, &self.0.device_id, self.0.since).hash(state);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SameSyncs {
    /// Joins those who ask the same; [`SameSyncs::leave`] ends it.
    pub fn join(&self, request: &Arc<SyncRequest>) -> Arc<Together> {
        let request = Same(request.clone());
        let mut running = lock(&self.0);
        if let Some(together) = running.get(&request).and_then(Weak::upgrade) {
            return together;
        }
        let together = Arc::new(Together { request: request.clone(), last: Mutex::default() });
        running.insert(request, Arc::downgrade(&together));
        together
    }

    /// Leaves those who ask the same.
    pub fn leave(&self, together: &Arc<Together>) {
        let mut running = lock(&self.0);
        // Nobody can join meanwhile: that takes the lock.
        if Arc::strong_count(together) == 1 {
            running.remove(&together.request);
        }
    }

    /// How many different syncs run.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Together {
    /// What there is to tell, up to `now` at least. If another one has put that together, or is about to, it is
    /// theirs; else `assemble` does it.
    ///
    /// # Errors
    ///
    /// Those of `assemble`; then whoever waits for it tries it themselves.
    pub async fn answer<F>(&self, now: SyncToken, assemble: impl FnOnce() -> F) -> Result<Answer, SyncError>
    where
        F: Future<Output = Result<Answer, SyncError>>,
    {
        let cell = {
            let mut last = lock(&self.last);
            match &*last {
                Some((at, cell)) if at.stamp >= now.stamp && at.volatile >= now.volatile => cell.clone(),
                _ => {
                    let cell = Arc::new(OnceCell::new());
                    *last = Some((now, cell.clone()));
                    cell
                }
            }
        };
        cell.get_or_try_init(assemble).await.cloned()
    }
}
