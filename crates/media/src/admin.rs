//! What administrators do with media: list, remove, quarantine, protect, count.

use crate::blobs::Name;
use crate::{Error, Media};
use base::{Order, UnixMillis};
use records::{BlobHash, BlockedRecord, GoneBlob, MediaRecord, MediaUsage, Mxc, VerdictRecord};
use ruma::{OwnedUserId, RoomId, ServerName, UserId};
use serde_json::Value;
use std::collections::BTreeSet;
use store::Direction;

/// How many rows are read at once.
const PAGE: usize = 500;
/// How many media of one blob are looked at, to see whether one is protected.
const PROTECTED_LOOKED_AT_MAX: usize = 1_000;
/// How many events of a room are looked through for what they mention.
const ROOM_EVENTS_MAX: usize = 100_000;

/// A medium, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaInfo {
    /// Its name.
    pub mxc: Mxc,
    /// What is stored of it.
    pub record: MediaRecord,
    /// When somebody last asked for it, to some hours.
    pub accessed_at: Option<UnixMillis>,
    /// Who has quarantined it and when, if it is.
    pub blocked: Option<BlockedRecord>,
    /// What a scanner says of it.
    pub verdict: Option<VerdictRecord>,
}

/// What a user has uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMedia {
    /// The user.
    pub user: OwnedUserId,
    /// How much.
    pub usage: MediaUsage,
}

impl Media {
    /// What is known of a medium, here or from another server.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn info(&self, mxc: &Mxc) -> Result<Option<MediaInfo>, Error> {
        let view = self.view();
        let Some(record) = view.media(mxc)? else { return Ok(None) };
        let accessed_at = view.media_accessed_at(mxc)?;
        let (blocked, verdict) = match &record.blob {
            Some(hash) => (view.blocked_blob(hash)?, view.verdict(hash)?),
            None => (None, None),
        };
        Ok(Some(MediaInfo { mxc: mxc.clone(), record, accessed_at, blocked, verdict }))
    }

    /// What a user has uploaded or is about to, by time, beyond `beyond`, at most `rows_max`.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn media_of_user(
        &self,
        user: &UserId,
        beyond: Option<(UnixMillis, &Mxc)>,
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<MediaInfo>, Error> {
        let page = self.view().media_of_user(user, beyond, direction, rows_max)?;
        page.iter().filter_map(|(_, mxc)| self.info(mxc).transpose()).collect()
    }

    /// Media in the order of their names after `last`, of one server or of all, at most `rows_max`.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn media_page(
        &self,
        origin: Option<&ServerName>,
        last: Option<&Mxc>,
        rows_max: usize,
    ) -> Result<Vec<(Mxc, MediaRecord)>, Error> {
        Ok(self.view().media_page(origin, last, rows_max)?)
    }

    /// The media that the events of a room mention, of this server and of others; of a room with very many events,
    /// those of the last. What encrypted events mention can't be seen here. Reads the room: not for every request.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn media_of_room(&self, room_id: &RoomId) -> Result<BTreeSet<Mxc>, Error> {
        let view = self.view();
        let mut found = BTreeSet::new();
        let Some(room) = view.room_num(room_id)? else { return Ok(found) };
        let (mut up_to, mut read) = (Order(i64::MAX), 0);
        while read < ROOM_EVENTS_MAX {
            let page = view.timeline(room, Order(i64::MIN), up_to, Direction::Backward, PAGE)?;
            let numbers: Vec<_> = page.iter().map(|entry| entry.event).collect();
            for (_, event) in view.events(&numbers)?.into_iter().flatten() {
                if let Ok(event) = serde_json::from_str::<Value>(&event.json) {
                    mentions(event.get("content").unwrap_or(&Value::Null), &mut found);
                }
            }
            read += page.len();
            match page.last().and_then(|entry| entry.order.0.checked_sub(1)) {
                Some(before) if page.len() == PAGE => up_to = Order(before),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Users who have uploaded something, with how much, in the order of their ids after `last`.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn usages(&self, last: Option<&UserId>, rows_max: usize) -> Result<Vec<UserMedia>, Error> {
        let page = self.view().media_usages(last, rows_max)?;
        Ok(page.into_iter().map(|(user, usage)| UserMedia { user, usage }).collect())
    }

    /// Removes a medium, and its bytes if no other has them. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Records`], [`Error::Commit`], [`Error::Blobs`].
    pub async fn delete(&self, mxc: &Mxc) -> Result<bool, Error> {
        self.delete_if(mxc, |_| true).await
    }

    /// Removes a medium if it is still as it should be to be removed.
    pub(crate) async fn delete_if(
        &self,
        mxc: &Mxc,
        may_go: impl Fn(&MediaRecord) -> bool + Send + Sync,
    ) -> Result<bool, Error> {
        let (found, gone) = self
            .change(|changes| match changes.view().media(mxc)? {
                Some(record) if may_go(&record) => Ok((true, changes.put_media(mxc, None)?)),
                _ => Ok((false, None)),
            })
            .await?;
        if found {
            self.0.accesses.remove(mxc);
        }
        if let Some(gone) = gone {
            self.remove_unused(gone).await?;
        }
        Ok(found)
    }

    /// Removes a user's media, the oldest first, at most `media_max`. Which.
    ///
    /// # Errors
    ///
    /// As [`Media::delete`].
    pub async fn delete_of_user(&self, user: &UserId, media_max: usize) -> Result<Vec<Mxc>, Error> {
        let page = self.view().media_of_user(user, None, Direction::Forward, media_max)?;
        let mut deleted = Vec::new();
        for (_, mxc) in page {
            if self.delete(&mxc).await? {
                deleted.push(mxc);
            }
        }
        Ok(deleted)
    }

    /// Removes media of this server that were last asked for before a time and have more than `bytes_min` bytes, but
    /// not what is protected, and the pictures of users only if `keep_profiles` is not set. Which, at most `media_max`.
    ///
    /// # Errors
    ///
    /// As [`Media::delete`].
    pub async fn delete_local_before(
        &self,
        before: UnixMillis,
        bytes_min: u64,
        keep_profiles: bool,
        media_max: usize,
    ) -> Result<Vec<Mxc>, Error> {
        let local = self.0.server_name.clone();
        let (mut deleted, mut last) = (Vec::new(), None);
        loop {
            let page = self.view().media_page(Some(&local), last.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (mxc, record) in &page {
                let is_old = self.last_used(mxc, record)? < before;
                let may_go = is_old && record.blob.is_some() && record.bytes > bytes_min && !record.protected;
                if !may_go || (keep_profiles && self.is_profile_picture(mxc, record)?) {
                    continue;
                }
                if self.delete_if(mxc, |record| !record.protected).await? {
                    deleted.push(mxc.clone());
                }
                if deleted.len() >= media_max {
                    return Ok(deleted);
                }
            }
            last = page.into_iter().last().map(|(mxc, _)| mxc);
            if is_last {
                return Ok(deleted);
            }
        }
    }

    /// Removes what is kept of other servers' media that were last asked for before a time. They are fetched again if
    /// somebody asks. How many.
    ///
    /// # Errors
    ///
    /// As [`Media::delete`].
    pub async fn purge_remote(&self, before: UnixMillis) -> Result<usize, Error> {
        let (mut purged, mut last) = (0, None);
        loop {
            let page = self.view().media_page(None, last.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (mxc, record) in &page {
                if !self.is_local(mxc) && !record.protected && self.last_used(mxc, record)? < before {
                    purged += usize::from(self.delete_if(mxc, |record| !record.protected).await?);
                }
            }
            last = page.into_iter().last().map(|(mxc, _)| mxc);
            if is_last {
                return Ok(purged);
            }
        }
    }

    /// Removes all media that have the bytes of a hash, and blocks the hash if `by` is given. Which.
    ///
    /// # Errors
    ///
    /// As [`Media::delete`].
    pub async fn delete_hash(&self, hash: &BlobHash, by: Option<&UserId>) -> Result<Vec<Mxc>, Error> {
        if by.is_some() {
            self.block(hash, by).await?;
        }
        let mut deleted = Vec::new();
        loop {
            // What was removed is not found again.
            let page = self.view().media_of_blob(hash, None, PAGE)?;
            if page.is_empty() {
                return Ok(deleted);
            }
            for mxc in page {
                if self.delete_if(&mxc, |record| record.blob == Some(*hash)).await? {
                    deleted.push(mxc);
                }
            }
        }
    }

    /// Quarantines a medium: its bytes, which nobody gets any more, under whatever name, now or later.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] also if nothing was uploaded yet; [`Error::Protected`].
    pub async fn quarantine(&self, mxc: &Mxc, by: &UserId) -> Result<BlobHash, Error> {
        let view = self.view();
        let hash = view.media(mxc)?.and_then(|record| record.blob).ok_or(Error::NotFound)?;
        for other in view.media_of_blob(&hash, None, PROTECTED_LOOKED_AT_MAX)? {
            if view.media(&other)?.is_some_and(|record| record.protected) {
                return Err(Error::Protected);
            }
        }
        self.block(&hash, Some(by)).await?;
        Ok(hash)
    }

    /// Quarantines all that a user has uploaded, what is protected apart. How many.
    ///
    /// # Errors
    ///
    /// [`Error::Records`], [`Error::Commit`].
    pub async fn quarantine_user(&self, user: &UserId, by: &UserId) -> Result<usize, Error> {
        let (mut count, mut last) = (0, None);
        loop {
            let beyond = last.as_ref().map(|(at, mxc): &(UnixMillis, Mxc)| (*at, mxc));
            let page = self.view().media_of_user(user, beyond, Direction::Forward, PAGE)?;
            let is_last = page.len() < PAGE;
            count += self.quarantine_each(page.iter().map(|(_, mxc)| mxc), by).await?;
            last = page.into_iter().last();
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Quarantines all that the events of a room mention, what is protected apart. How many.
    ///
    /// # Errors
    ///
    /// [`Error::Records`], [`Error::Commit`].
    pub async fn quarantine_room(&self, room_id: &RoomId, by: &UserId) -> Result<usize, Error> {
        let found = self.media_of_room(room_id)?;
        self.quarantine_each(found.iter(), by).await
    }

    async fn quarantine_each(&self, media: impl Iterator<Item = &Mxc> + Send, by: &UserId) -> Result<usize, Error> {
        let mut count = 0;
        for mxc in media {
            match self.quarantine(mxc, by).await {
                Ok(_) => count += 1,
                Err(Error::NotFound | Error::Protected) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Takes a quarantine back. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such medium.
    pub async fn unquarantine(&self, mxc: &Mxc) -> Result<bool, Error> {
        let hash = self.view().media(mxc)?.and_then(|record| record.blob).ok_or(Error::NotFound)?;
        self.unblock(&hash).await
    }

    /// Blocks a hash, whether there is anything that has it or not.
    ///
    /// # Errors
    ///
    /// [`Error::Commit`].
    pub async fn block(&self, hash: &BlobHash, by: Option<&UserId>) -> Result<(), Error> {
        let record = BlockedRecord { by: by.map(ToOwned::to_owned), at: self.now() };
        self.change(|changes| {
            if changes.view().blocked_blob(hash)?.is_none() {
                changes.put_blocked_blob(hash, Some(&record));
            }
            Ok(())
        })
        .await
    }

    /// Allows a hash again. Whether it was blocked.
    ///
    /// # Errors
    ///
    /// [`Error::Commit`].
    pub async fn unblock(&self, hash: &BlobHash) -> Result<bool, Error> {
        self.change(|changes| {
            let was_blocked = changes.view().blocked_blob(hash)?.is_some();
            if was_blocked {
                changes.put_blocked_blob(hash, None);
            }
            Ok(was_blocked)
        })
        .await
    }

    /// Protects a medium from quarantine and retention, or no more.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn protect(&self, mxc: &Mxc, protected: bool) -> Result<(), Error> {
        self.change(|changes| {
            let record = changes.view().media(mxc)?.ok_or(Error::NotFound)?;
            if record.protected != protected {
                changes.put_media(mxc, Some(&MediaRecord { protected, ..record }))?;
            }
            Ok(())
        })
        .await
    }

    /// When a medium was last asked for, or came.
    pub(crate) fn last_used(&self, mxc: &Mxc, record: &MediaRecord) -> Result<UnixMillis, Error> {
        let accessed_at = self.view().media_accessed_at(mxc)?;
        Ok(accessed_at.map_or(record.created_at, |accessed_at| accessed_at.max(record.created_at)))
    }

    /// Whether a medium is what its uploader shows as their picture.
    pub(crate) fn is_profile_picture(&self, mxc: &Mxc, record: &MediaRecord) -> Result<bool, Error> {
        let Some(uploader) = &record.uploader else { return Ok(false) };
        let profile = self.view().profile(uploader)?;
        let uri = profile.get("avatar_url").and_then(|value| serde_json::from_str::<String>(value).ok());
        Ok(uri.is_some_and(|uri| uri == mxc.to_string()))
    }

    /// Removes the files of a blob if nothing has it any more.
    pub(crate) async fn remove_unused(&self, gone: GoneBlob) -> Result<(), Error> {
        let GoneBlob { hash, thumbnails } = gone;
        // While it is our turn, nothing that has it can come.
        let _turn = self.turn(&hash).await;
        if self.view().blob(&hash)?.is_some() {
            return Ok(());
        }
        self.0.blobs.remove(Name::Blob(hash)).await?;
        for key in thumbnails {
            self.0.blobs.remove(Name::Thumbnail(hash, key)).await?;
        }
        Ok(())
    }
}

/// Collects the media that a content mentions, wherever they are in it: a picture, its thumbnail, an avatar, a pack.
fn mentions(content: &Value, found: &mut BTreeSet<Mxc>) {
    match content {
        Value::String(text) => found.extend(Mxc::parse(text)),
        Value::Array(values) => values.iter().for_each(|value| mentions(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| mentions(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn media_are_found_wherever_a_content_has_them() {
        let content = json!({
            "body": "mxc://x/not a medium",
            "url": "mxc://x.example/a",
            "info": { "thumbnail_url": "mxc://x.example/b", "thumbnail_file": { "url": "mxc://y.example/c" } },
            "pack": [{ "url": "mxc://x.example/a" }, { "url": "https://x.example/d" }],
        });
        let mut found = BTreeSet::new();
        mentions(&content, &mut found);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["mxc://x.example/a", "mxc://x.example/b", "mxc://y.example/c"]);
    }
}
