//! What goes by itself: names to which nothing was uploaded, files that nobody asked for in a long time, and what a
//! crash has left.

use crate::blobs::{Kind, Name, SHARDS};
use crate::{Error, Media, Shared};
use base::UnixMillis;
use records::Mxc;
use ruma::OwnedUserId;
use std::sync::Weak;
use std::time::Duration;

/// How long after the start the first clearing is.
const FIRST: Duration = Duration::from_mins(5);
/// How many rows are read at once.
const PAGE: usize = 500;
/// How old a file is of which no row tells, before it is removed: what is about to get its row is younger.
const LEFT_OVER_AGE: Duration = Duration::from_hours(24);
/// The settings can't ask for it more often.
const EVERY_MIN: Duration = Duration::from_mins(1);

/// Clears from time to time, as long as anybody uses the media.
pub(crate) async fn run(shared: Weak<Shared>) {
    let mut next = FIRST;
    loop {
        tokio::time::sleep(next).await;
        let Some(shared) = shared.upgrade() else { return };
        let media = Media(shared);
        next = media.config().retention.every.max(EVERY_MIN);
        if let Err(error) = media.clear().await {
            tracing::warn!(%error, "files that could go stay for now");
        }
        let now = media.now();
        if let Err(error) = media.clear_left_over(UnixMillis(now.0.saturating_sub(millis(LEFT_OVER_AGE)))).await {
            tracing::warn!(%error, "files that nothing refers to stay for now");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Media {
    /// Removes what has expired.
    pub(crate) async fn clear(&self) -> Result<(), Error> {
        self.clear_pending().await?;
        self.clear_previews().await?;
        let retention = &self.config().retention;
        let now = self.now();
        let before = |lifetime: Duration| UnixMillis(now.0.saturating_sub(millis(lifetime)));
        if let Some(lifetime) = retention.remote {
            self.purge_remote(before(lifetime)).await?;
        }
        if let Some(lifetime) = retention.local {
            self.delete_local_before(before(lifetime), 0, true, usize::MAX).await?;
        }
        Ok(())
    }

    /// Forgets names to which nothing was uploaded in time.
    async fn clear_pending(&self) -> Result<(), Error> {
        let now = self.now();
        let mut last: Option<(OwnedUserId, UnixMillis, Mxc)> = None;
        loop {
            let page = self.view().pending_media(last.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (_, expires_at, mxc) in &page {
                if *expires_at <= now {
                    self.delete_if(mxc, |record| record.blob.is_none()).await?;
                }
            }
            last = page.into_iter().last();
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes files that were written before a time and of which no row tells.
    pub(crate) async fn clear_left_over(&self, before: UnixMillis) -> Result<(), Error> {
        self.0.blobs.clear_incoming(before).await?;
        for shard in 0..=SHARDS {
            for kind in [Kind::Blob, Kind::Thumbnail] {
                for (name, written_at) in self.0.blobs.shard(kind, shard).await? {
                    if written_at < before && !self.is_known(name)? {
                        self.remove_unknown(name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_known(&self, name: Name) -> Result<bool, Error> {
        let view = self.view();
        Ok(match name {
            Name::Blob(hash) => view.blob(&hash)?.is_some(),
            Name::Thumbnail(hash, key) => view.thumbnail(&hash, key)?.is_some(),
        })
    }

    async fn remove_unknown(&self, name: Name) -> Result<(), Error> {
        let hash = name.hash();
        // What comes at its turn looks for the file at its place.
        let _turn = self.turn(&hash).await;
        if !self.is_known(name)? {
            tracing::info!(?name, "removes a file that nothing refers to");
            self.0.blobs.remove(name).await?;
        }
        Ok(())
    }
}
