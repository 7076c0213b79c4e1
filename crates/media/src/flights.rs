//! Doing once what several ask for at the same time.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

type Flying<V> = Shared<BoxFuture<'static, Option<V>>>;

/// What is under way, by what it is about. It goes on when those who asked are gone, and is as many entries as are
/// under way: who starts them bounds that.
pub(crate) struct Flights<K, V>(Arc<Mutex<HashMap<K, Flying<V>>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What comes of the work about `key`: of that which is under way, or else of this. `None` if it broke off.
    pub(crate) fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Flying<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flying = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = flying.get(key) {
            return found.clone();
        }
        let work = work();
        let (ended, key_of_ended) = (Landing(self.0.clone(), key.clone()), key.clone());
        let task = tokio::spawn(async move {
            // Whatever becomes of the work, it is under way no more.
            let _ended = ended;
            work.await
        });
        let started = task.map(Result::ok).boxed().shared();
        flying.insert(key_of_ended, started.clone());
        started
    }
}

struct Landing<K: Eq + Hash, V>(Arc<Mutex<HashMap<K, Flying<V>>>>, K)
where
    V: Clone;

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_is_under_way_is_not_begun_again() {
        let flights: Flights<u8, usize> = Flights::default();
        let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (begun, go) = (begun.clone(), go.clone());
            async move {
                let nth = begun.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                nth
            }
        };
        let (first, second) = (flights.join(&1, work), flights.join(&1, work));
        // Those who asked first may leave.
        drop(first);
        go.notify_one();
        assert_eq!(second.await, Some(0));
        let third = flights.join(&1, work);
        go.notify_one();
        assert_eq!(third.await, Some(1));
    }

    #[tokio::test]
    async fn what_breaks_off_can_be_begun_again() {
        let flights: Flights<u8, u8> = Flights::default();
        assert_eq!(flights.join(&1, || async { panic!("as it should") }).await, None);
        assert_eq!(flights.join(&1, || async { 7 }).await, Some(7));
    }
}
