//! What waits to be sent: so many mails and no more, each tried again until the server takes it or it is too old.

use crate::Config;
use crate::template::Rendered;
use crate::transport::{Sent, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// How long it is waited at most before a mail is tried again.
const RETRY_MAX: Duration = Duration::from_mins(30);

/// So many mails are waiting that no more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many mails are waiting to be sent")]
pub struct Full;

/// What became of mails.
#[derive(Debug, Default)]
pub struct Figures {
    /// Mails that the server has taken.
    pub sent: AtomicU64,
    /// Attempts that failed, and are made again.
    pub failed: AtomicU64,
    /// Mails that the server refuses, or that could not be sent for too long.
    pub given_up: AtomicU64,
}

/// Where mails are queued.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    queue: mpsc::UnboundedSender<(Rendered, Option<OwnedSemaphorePermit>)>,
    /// A permit for each mail that waits. None: it is not for this queue to bound.
    places: Option<Arc<Semaphore>>,
    figures: Arc<Figures>,
}

impl Sender {
    pub fn push(&self, mail: Rendered) -> Result<(), Full> {
        let place = match &self.places {
            Some(places) => Some(places.clone().try_acquire_owned().map_err(|_| Full)?),
            None => None,
        };
        self.queue.send((mail, place)).map_err(|_| Full)
    }

    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }
}

/// A queue whose mails come out of the channel.
pub(crate) fn to_channel() -> (Sender, mpsc::UnboundedReceiver<Rendered>) {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Rendered, Option<OwnedSemaphorePermit>)>();
    let (out, rendered) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((mail, _)) = queued.recv().await {
            if out.send(mail).is_err() {
                return;
            }
        }
    });
    (Sender { queue, places: None, figures: Arc::default() }, rendered)
}

/// A queue whose mails are sent.
pub(crate) fn start(transport: Transport, config: &Config) -> Sender {
    let (queue, mut queued) = mpsc::unbounded_channel();
    let figures = Arc::<Figures>::default();
    let sending = Arc::new(Sending {
        transport,
        turns: Semaphore::new(usize::try_from(config.connections_max).unwrap_or(1)),
        figures: figures.clone(),
        retry_first: config.retry_first,
        give_up_after: config.give_up_after,
    });
    tokio::spawn(async move {
        while let Some((mail, place)) = queued.recv().await {
            // As many tasks as there are places.
            let sending = sending.clone();
            tokio::spawn(async move {
                sending.send(&mail).await;
                drop::<Option<OwnedSemaphorePermit>>(place);
            });
        }
    });
    Sender { queue, places: Some(Arc::new(Semaphore::new(config.queue_max))), figures }
}

struct Sending {
    transport: Transport,
    turns: Semaphore,
    figures: Arc<Figures>,
    retry_first: Duration,
    give_up_after: Duration,
}

impl Sending {
    async fn send(&self, mail: &Rendered) {
        let begun = Instant::now();
        let mut wait = self.retry_first;
        loop {
            let sent = {
                let Ok(_turn) = self.turns.acquire().await else { return };
                self.transport.send(mail).await
            };
            match sent {
                Sent::Accepted => {
                    self.figures.sent.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Sent::Failed(why) if begun.elapsed() + wait < self.give_up_after => {
                    self.figures.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%why, "a mail can't be sent now, and is tried again");
                }
                Sent::Failed(why) | Sent::Refused(why) => {
                    self.figures.given_up.fetch_add(1, Ordering::Relaxed);
                    // Not to whom: addresses are nobody's business who reads the log.
                    tracing::warn!(%why, "a mail can't be sent");
                    return;
                }
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(RETRY_MAX);
        }
    }
}
