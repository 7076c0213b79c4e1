//! Media: files that users uploaded or that were fetched from other servers, what holds their bytes, what a scanner
//! said of those, and what was made of them.
//!
//! A *medium* has a name, its [`Mxc`]; a *blob* is bytes, known by their SHA-256. Several media may have one blob: its
//! record counts them, and every write that changes the count expects the record as it was read.

use crate::codec::RecordsError;
use crate::tables::{
    BLOB, BLOB_BLOCKED, BLOB_MEDIA, BLOB_VERDICT, MEDIA, MEDIA_ACCESS, MEDIA_OF_USER, MEDIA_PENDING, MEDIA_USAGE,
    THUMBNAIL, Table, URL_PREVIEW,
};
use crate::{Changes, View};
use base::UnixMillis;
use base::limits::ID_BYTES_MAX;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// The name of a medium: the server that it is from, and its id there (client-server API, "Matrix Content (`mxc://`)
/// URIs"). The id has only letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mxc {
    origin: OwnedServerName,
    id: String,
}

impl Mxc {
    /// The name of a medium; `None` if the id can be none.
    #[must_use]
    pub fn new(origin: &ServerName, id: &str) -> Option<Self> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_valid = !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(is_letter);
        is_valid.then(|| Self { origin: origin.to_owned(), id: id.to_owned() })
    }

    /// Reads `mxc://server/id`.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let (origin, id) = uri.strip_prefix("mxc://")?.split_once('/')?;
        Self::new(<&ServerName>::try_from(origin).ok()?, id)
    }

    /// The server that it is from.
    #[must_use]
    pub fn origin(&self) -> &ServerName {
        &self.origin
    }

    /// Its id there.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Mxc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mxc://{}/{}", self.origin, self.id)
    }
}

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRecord {
    /// Its bytes; `None` as long as nothing was uploaded to it.
    pub blob: Option<BlobHash>,
    /// How many bytes it has.
    pub bytes: u64,
    /// What its uploader says that it is.
    pub content_type: String,
    /// What its uploader calls it.
    pub filename: Option<String>,
    /// Who uploaded it; nobody for what is from other servers, or was made for a preview of a page.
    pub uploader: Option<OwnedUserId>,
    /// When it was made; for what is from another server, when it came here.
    pub created_at: UnixMillis,
    /// When it goes by itself: without its bytes, or because it was made for a preview of a page.
    pub expires_at: Option<UnixMillis>,
    /// Whether an administrator has said that it is not to be quarantined.
    pub protected: bool,
}

/// What a user has uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaUsage {
    /// How many files.
    pub files: u64,
    /// How many bytes, those that others uploaded too included.
    pub bytes: u64,
}

/// A blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// How many bytes.
    pub bytes: u64,
    /// How many media have it.
    pub media: u64,
}

/// A blob that no medium has any more: what its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneBlob {
    /// The SHA-256 of its bytes.
    pub hash: BlobHash,
    /// Its thumbnails.
    pub thumbnails: Vec<ThumbnailKey>,
}

/// A hash whose bytes nobody gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedRecord {
    /// Who has blocked it; nobody if it was a scanner.
    pub by: Option<OwnedUserId>,
    /// When.
    pub at: UnixMillis,
}

/// What a scanner says of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerdictState {
    /// They were not looked at yet.
    Pending,
    /// There is nothing bad in them.
    Clean,
    /// There is something bad in them, of this name.
    Infected(String),
    /// They can't be looked into, for this reason: encrypted, too large, nested too deeply.
    Unscannable(String),
}

/// What a scanner has said of bytes, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// What.
    pub state: VerdictState,
    /// When.
    pub at: UnixMillis,
    /// Which scanner, with the version of its signatures.
    pub engine: String,
}

/// Which thumbnail of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThumbnailKey {
    /// Its width, at most.
    pub width: u32,
    /// Its height, at most.
    pub height: u32,
    /// Whether what doesn't fit is cut off.
    pub crop: bool,
    /// Whether it moves.
    pub animated: bool,
}

/// A thumbnail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThumbnailRecord {
    /// What it is.
    pub content_type: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// What is told of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewRecord {
    /// A JSON object; `None` if the page can't be previewed.
    pub json: Option<String>,
    /// The medium that was made of its picture, and goes with this.
    pub image: Option<String>,
    /// When it has to be fetched again.
    pub expires_at: UnixMillis,
}

fn mxc_key(table: Table, mxc: &Mxc) -> Vec<u8> {
    table.key().text(mxc.origin.as_str()).text(&mxc.id).build()
}

fn read_mxc(reader: &mut KeyReader<'_>) -> Option<Mxc> {
    let origin = reader.text()?;
    Mxc::new(<&ServerName>::try_from(origin).ok()?, reader.text()?)
}

fn user_key(user: &UserId, at: UnixMillis, mxc: &Mxc) -> Vec<u8> {
    MEDIA_OF_USER.key().text(user.as_str()).number(at.0).text(&mxc.id).build()
}

fn pending_key(user: &UserId, expires_at: UnixMillis, mxc: &Mxc) -> Vec<u8> {
    MEDIA_PENDING.key().text(user.as_str()).number(expires_at.0).text(&mxc.id).build()
}

fn hash_key(table: Table, hash: &BlobHash) -> Vec<u8> {
    table.key().fixed(&hash.0).build()
}

fn preview_key(address: &BlobHash, at: UnixMillis) -> Vec<u8> {
    URL_PREVIEW.key().fixed(&address.0).number(at.0).build()
}

fn thumbnail_key(hash: &BlobHash, key: ThumbnailKey) -> Vec<u8> {
    let size = (u64::from(key.width) << 32) | u64::from(key.height);
    THUMBNAIL.key().fixed(&hash.0).number(size).byte(u8::from(key.crop)).byte(u8::from(key.animated)).build()
}

fn read_thumbnail_key(key: &[u8]) -> Option<ThumbnailKey> {
    let mut reader = KeyReader::new(key);
    let _hash: [u8; 32] = reader.fixed()?;
    let size = reader.number()?;
    let (width, height) = (u32::try_from(size >> 32).ok()?, u32::try_from(size & u64::from(u32::MAX)).ok()?);
    Some(ThumbnailKey { width, height, crop: reader.byte()? != 0, animated: reader.byte()? != 0 })
}

/// The range of what comes after a key, within what begins with a prefix.
fn after(prefix: KeyBuilder, last: Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let (mut from, to) = prefix.prefix_range();
    if let Some(last) = last {
        from = last;
        from.push(0);
    }
    (from, to)
}

impl View {
    /// A medium.
    pub fn media(&self, mxc: &Mxc) -> Result<Option<MediaRecord>, RecordsError> {
        self.get(MEDIA, &mxc_key(MEDIA, mxc))
    }

    /// Media in the order of their names, after `after`; those of one server or of all.
    pub fn media_page(
        &self,
        origin: Option<&ServerName>,
        last: Option<&Mxc>,
        rows_max: usize,
    ) -> Result<Vec<(Mxc, MediaRecord)>, RecordsError> {
        let prefix = match origin {
            Some(origin) => MEDIA.key().text(origin.as_str()),
            None => MEDIA.key(),
        };
        let rows =
            self.scan(MEDIA, after(prefix, last.map(|mxc| mxc_key(MEDIA, mxc))), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mxc = read_mxc(&mut KeyReader::new(key)).ok_or_else(|| MEDIA.corrupt())?;
                Ok((mxc, MEDIA.decode(value)?))
            })
            .collect()
    }

    /// The names of what a user has uploaded or is about to, by time, beyond `beyond`.
    pub fn media_of_user(
        &self,
        user: &UserId,
        beyond: Option<(UnixMillis, &Mxc)>,
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<(UnixMillis, Mxc)>, RecordsError> {
        let (mut from, mut to) = MEDIA_OF_USER.key().text(user.as_str()).prefix_range();
        match (beyond.map(|(at, mxc)| user_key(user, at, mxc)), direction) {
            (Some(mut key), Direction::Forward) => {
                key.push(0);
                from = key;
            }
            (Some(key), Direction::Backward) => to = key,
            (None, _) => {}
        }
        let rows = self.scan(MEDIA_OF_USER, (from, to), direction, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let parts = reader.text().and_then(|_| Some((reader.number()?, reader.text()?)));
                let mxc = parts.and_then(|(at, id)| Some((UnixMillis(at), Mxc::new(user.server_name(), id)?)));
                mxc.ok_or_else(|| MEDIA_OF_USER.corrupt())
            })
            .collect()
    }

    /// Users who have uploaded something, with how much, in the order of their ids, after `last`.
    pub fn media_usages(
        &self,
        last: Option<&UserId>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedUserId, MediaUsage)>, RecordsError> {
        let key = |user: &UserId| MEDIA_USAGE.key().text(user.as_str()).build();
        let rows = self.scan(MEDIA_USAGE, after(MEDIA_USAGE.key(), last.map(key)), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let user = KeyReader::new(key).text().and_then(|user| OwnedUserId::try_from(user).ok());
                Ok((user.ok_or_else(|| MEDIA_USAGE.corrupt())?, MEDIA_USAGE.decode(value)?))
            })
            .collect()
    }

    /// How much a user has uploaded.
    pub fn media_usage(&self, user: &UserId) -> Result<MediaUsage, RecordsError> {
        Ok(self.get(MEDIA_USAGE, &MEDIA_USAGE.key().text(user.as_str()).build())?.unwrap_or_default())
    }

    /// How many media a user has made at this time and not uploaded anything to, counted up to `count_max`.
    pub fn pending_media_count(&self, user: &UserId, now: UnixMillis, count_max: usize) -> Result<usize, RecordsError> {
        let (_, to) = MEDIA_PENDING.key().text(user.as_str()).prefix_range();
        let from = MEDIA_PENDING.key().text(user.as_str()).number(now.0.saturating_add(1)).build();
        Ok(self.scan(MEDIA_PENDING, (from, to), Direction::Forward, count_max)?.len())
    }

    /// Media to which nothing was uploaded, with who made them and when they expire; after `last`.
    pub fn pending_media(
        &self,
        last: Option<&(OwnedUserId, UnixMillis, Mxc)>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedUserId, UnixMillis, Mxc)>, RecordsError> {
        let last = last.map(|(user, at, mxc)| pending_key(user, *at, mxc));
        let rows = self.scan(MEDIA_PENDING, after(MEDIA_PENDING.key(), last), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let parts = reader.text().and_then(|user| {
                    let user = OwnedUserId::try_from(user).ok()?;
                    let at = UnixMillis(reader.number()?);
                    let mxc = Mxc::new(user.server_name(), reader.text()?)?;
                    Some((user, at, mxc))
                });
                parts.ok_or_else(|| MEDIA_PENDING.corrupt())
            })
            .collect()
    }

    /// When somebody last asked for a medium, as far as it was noted.
    pub fn media_accessed_at(&self, mxc: &Mxc) -> Result<Option<UnixMillis>, RecordsError> {
        self.get(MEDIA_ACCESS, &mxc_key(MEDIA_ACCESS, mxc))
    }

    /// A blob.
    pub fn blob(&self, hash: &BlobHash) -> Result<Option<BlobRecord>, RecordsError> {
        self.get(BLOB, &hash_key(BLOB, hash))
    }

    /// The media that have a blob, in the order of their names, after `last`.
    pub fn media_of_blob(
        &self,
        hash: &BlobHash,
        last: Option<&Mxc>,
        rows_max: usize,
    ) -> Result<Vec<Mxc>, RecordsError> {
        let key = |mxc: &Mxc| BLOB_MEDIA.key().fixed(&hash.0).text(mxc.origin.as_str()).text(&mxc.id).build();
        let range = after(BLOB_MEDIA.key().fixed(&hash.0), last.map(key));
        let rows = self.scan(BLOB_MEDIA, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let mxc = reader.fixed::<32>().and_then(|_| read_mxc(&mut reader));
                mxc.ok_or_else(|| BLOB_MEDIA.corrupt())
            })
            .collect()
    }

    /// Whether and why nobody gets these bytes.
    pub fn blocked_blob(&self, hash: &BlobHash) -> Result<Option<BlockedRecord>, RecordsError> {
        self.get(BLOB_BLOCKED, &hash_key(BLOB_BLOCKED, hash))
    }

    /// What a scanner has said of these bytes.
    pub fn verdict(&self, hash: &BlobHash) -> Result<Option<VerdictRecord>, RecordsError> {
        self.get(BLOB_VERDICT, &hash_key(BLOB_VERDICT, hash))
    }

    /// A thumbnail of a blob.
    pub fn thumbnail(&self, hash: &BlobHash, key: ThumbnailKey) -> Result<Option<ThumbnailRecord>, RecordsError> {
        self.get(THUMBNAIL, &thumbnail_key(hash, key))
    }

    /// The thumbnails of a blob, at most `rows_max`.
    pub fn thumbnails(
        &self,
        hash: &BlobHash,
        rows_max: usize,
    ) -> Result<Vec<(ThumbnailKey, ThumbnailRecord)>, RecordsError> {
        let range = THUMBNAIL.key().fixed(&hash.0).prefix_range();
        let rows = self.scan(THUMBNAIL, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let found = read_thumbnail_key(key).ok_or_else(|| THUMBNAIL.corrupt())?;
                Ok((found, THUMBNAIL.decode(value)?))
            })
            .collect()
    }

    /// What was last told of a page, by the hash of its address.
    pub fn url_preview(&self, address: &BlobHash) -> Result<Option<PreviewRecord>, RecordsError> {
        let range = URL_PREVIEW.key().fixed(&address.0).prefix_range();
        let rows = self.scan(URL_PREVIEW, range, Direction::Backward, 1)?;
        rows.first().map(|(_, value)| URL_PREVIEW.decode(value)).transpose()
    }

    /// What was told of pages, by the hashes of their addresses and the times when they were fetched, after `last`.
    pub fn url_previews(
        &self,
        last: Option<(BlobHash, UnixMillis)>,
        rows_max: usize,
    ) -> Result<Vec<(BlobHash, UnixMillis, PreviewRecord)>, RecordsError> {
        let range = after(URL_PREVIEW.key(), last.map(|(address, at)| preview_key(&address, at)));
        let rows = self.scan(URL_PREVIEW, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let (address, at) = (reader.fixed(), reader.number());
                let (Some(address), Some(at)) = (address, at) else { return Err(URL_PREVIEW.corrupt()) };
                Ok((BlobHash(address), UnixMillis(at), URL_PREVIEW.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Writes a medium in the place of what the view shows, with all that follows from it: who has uploaded what, how
    /// much, and which media have which blob. On condition that the medium, its uploader's usage and the blobs that are
    /// concerned are still as the view shows them. One medium in a batch.
    ///
    /// A blob that has no medium any more is forgotten with its thumbnails, and returned: its bytes can go.
    pub fn put_media(&mut self, mxc: &Mxc, record: Option<&MediaRecord>) -> Result<Option<GoneBlob>, RecordsError> {
        let key = mxc_key(MEDIA, mxc);
        let before = self.view().media(mxc)?;
        self.expect_unchanged(MEDIA, key.clone())?;
        match record {
            Some(record) => self.put(MEDIA, key, record),
            None => {
                self.clear(MEDIA, key);
                self.clear(MEDIA_ACCESS, mxc_key(MEDIA_ACCESS, mxc));
            }
        }
        self.index_by_user(mxc, before.as_ref(), record)?;
        let (old, new) = (before.and_then(|it| it.blob), record.and_then(|it| it.blob));
        if old == new {
            return Ok(None);
        }
        if let (Some(hash), Some(record)) = (new, record) {
            let blob = self.view().blob(&hash)?.unwrap_or(BlobRecord { bytes: record.bytes, media: 0 });
            self.expect_unchanged(BLOB, hash_key(BLOB, &hash))?;
            self.put(BLOB, hash_key(BLOB, &hash), &BlobRecord { media: blob.media.saturating_add(1), ..blob });
            self.put(BLOB_MEDIA, BLOB_MEDIA.key().fixed(&hash.0).text(mxc.origin.as_str()).text(&mxc.id).build(), &());
        }
        let Some(hash) = old else { return Ok(None) };
        self.clear(BLOB_MEDIA, BLOB_MEDIA.key().fixed(&hash.0).text(mxc.origin.as_str()).text(&mxc.id).build());
        let key = hash_key(BLOB, &hash);
        self.expect_unchanged(BLOB, key.clone())?;
        match self.view().blob(&hash)? {
            Some(blob) if blob.media > 1 => {
                self.put(BLOB, key, &BlobRecord { media: blob.media - 1, ..blob });
                Ok(None)
            }
            _ => {
                self.clear(BLOB, key);
                let thumbnails = self.view().thumbnails(&hash, base::limits::SCAN_ROWS_MAX)?;
                self.clear_range(THUMBNAIL, THUMBNAIL.key().fixed(&hash.0).prefix_range());
                Ok(Some(GoneBlob { hash, thumbnails: thumbnails.into_iter().map(|(key, _)| key).collect() }))
            }
        }
    }

    /// What follows from a medium for the lists of its uploader.
    fn index_by_user(
        &mut self,
        mxc: &Mxc,
        before: Option<&MediaRecord>,
        after: Option<&MediaRecord>,
    ) -> Result<(), RecordsError> {
        let Some(user) = before.or(after).and_then(|record| record.uploader.as_deref()) else { return Ok(()) };
        let usage_of = |record: Option<&MediaRecord>| {
            let has_bytes = record.filter(|record| record.blob.is_some());
            has_bytes.map_or((0, 0), |record| (1, record.bytes))
        };
        let (files_before, bytes_before) = usage_of(before);
        let (files_after, bytes_after) = usage_of(after);
        if (files_before, bytes_before) != (files_after, bytes_after) {
            let key = MEDIA_USAGE.key().text(user.as_str()).build();
            let usage = self.view().media_usage(user)?;
            self.expect_unchanged(MEDIA_USAGE, key.clone())?;
            let usage = MediaUsage {
                files: (usage.files + files_after).saturating_sub(files_before),
                bytes: usage.bytes.saturating_add(bytes_after).saturating_sub(bytes_before),
            };
            if usage.files == 0 {
                self.clear(MEDIA_USAGE, key);
            } else {
                self.put(MEDIA_USAGE, key, &usage);
            }
        }
        if let Some(record) = before {
            self.clear(MEDIA_OF_USER, user_key(user, record.created_at, mxc));
            if let (None, Some(expires_at)) = (record.blob, record.expires_at) {
                self.clear(MEDIA_PENDING, pending_key(user, expires_at, mxc));
            }
        }
        if let Some(record) = after {
            self.put(MEDIA_OF_USER, user_key(user, record.created_at, mxc), &());
            if let (None, Some(expires_at)) = (record.blob, record.expires_at) {
                self.put(MEDIA_PENDING, pending_key(user, expires_at, mxc), &());
            }
        }
        Ok(())
    }

    /// Forgets that a medium is waited for.
    pub fn clear_pending_media(&mut self, user: &UserId, expires_at: UnixMillis, mxc: &Mxc) {
        self.clear(MEDIA_PENDING, pending_key(user, expires_at, mxc));
    }

    /// Notes when somebody asked for a medium.
    pub fn put_media_access(&mut self, mxc: &Mxc, at: UnixMillis) {
        self.put(MEDIA_ACCESS, mxc_key(MEDIA_ACCESS, mxc), &at);
    }

    /// Blocks a hash, or allows it again.
    pub fn put_blocked_blob(&mut self, hash: &BlobHash, record: Option<&BlockedRecord>) {
        let key = hash_key(BLOB_BLOCKED, hash);
        match record {
            Some(record) => self.put(BLOB_BLOCKED, key, record),
            None => self.clear(BLOB_BLOCKED, key),
        }
    }

    /// Writes what a scanner says of these bytes, on condition that nothing else was said meanwhile.
    pub fn put_verdict(&mut self, hash: &BlobHash, record: &VerdictRecord) -> Result<(), RecordsError> {
        self.expect_unchanged(BLOB_VERDICT, hash_key(BLOB_VERDICT, hash))?;
        self.put(BLOB_VERDICT, hash_key(BLOB_VERDICT, hash), record);
        Ok(())
    }

    /// Writes a thumbnail, on condition that its blob is still as the view shows it.
    pub fn put_thumbnail(
        &mut self,
        hash: &BlobHash,
        key: ThumbnailKey,
        record: &ThumbnailRecord,
    ) -> Result<(), RecordsError> {
        self.expect_unchanged(BLOB, hash_key(BLOB, hash))?;
        self.put(THUMBNAIL, thumbnail_key(hash, key), record);
        Ok(())
    }

    /// Writes what is told of a page that was fetched at this time, or forgets it.
    pub fn put_url_preview(&mut self, address: &BlobHash, at: UnixMillis, record: Option<&PreviewRecord>) {
        let key = preview_key(address, at);
        match record {
            Some(record) => self.put(URL_PREVIEW, key, record),
            None => self.clear(URL_PREVIEW, key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{server_name, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    fn mxc(id: &str) -> Mxc {
        Mxc::new(server_name!("x.example"), id).unwrap()
    }

    fn record(blob: Option<u8>, bytes: u64, at: u64) -> MediaRecord {
        MediaRecord {
            blob: blob.map(|byte| BlobHash([byte; 32])),
            bytes,
            content_type: "text/plain".to_owned(),
            filename: None,
            uploader: Some(user_id!("@a:x.example").to_owned()),
            created_at: UnixMillis(at),
            expires_at: blob.is_none().then_some(UnixMillis(at + 100)),
            protected: false,
        }
    }

    async fn put(records: &Records, id: &str, record: Option<&MediaRecord>) -> Option<GoneBlob> {
        let mut changes = records.changes(&records.view());
        let gone = changes.put_media(&mxc(id), record).unwrap();
        records.commit(changes).await.unwrap();
        gone
    }

    #[test]
    fn a_name_has_only_letters_that_can_do_no_harm() {
        assert_eq!(Mxc::parse("mxc://x.example:80/a-B_9").unwrap().to_string(), "mxc://x.example:80/a-B_9");
        for uri in ["mxc://x/", "mxc://x/..", "mxc://x/a/b", "mxc:///a", "http://x/a", "mxc://x/a%2e", "mxc://x y/a"] {
            assert_eq!(Mxc::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_hash_reads_back_as_it_is_shown() {
        let hash = BlobHash(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        assert_eq!(BlobHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(BlobHash::parse("00"), None);
        assert_eq!(BlobHash::parse(&"é".repeat(32)), None);
    }

    #[tokio::test]
    async fn a_blob_goes_with_its_last_medium() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let hash = BlobHash([1; 32]);
        put(&records, "a", Some(&record(Some(1), 10, 1))).await;
        put(&records, "b", Some(&record(Some(1), 10, 2))).await;
        assert_eq!(records.view().blob(&hash).unwrap(), Some(BlobRecord { bytes: 10, media: 2 }));
        assert_eq!(records.view().media_of_blob(&hash, None, 9).unwrap(), [mxc("a"), mxc("b")]);
        assert_eq!(records.view().media_of_blob(&hash, Some(&mxc("a")), 9).unwrap(), [mxc("b")]);
        let key = ThumbnailKey { width: 32, height: 16, crop: true, animated: false };
        let thumbnail = ThumbnailRecord { content_type: "image/png".to_owned(), bytes: 3 };
        let mut changes = records.changes(&records.view());
        changes.put_thumbnail(&hash, key, &thumbnail).unwrap();
        records.commit(changes).await.unwrap();
        assert_eq!(records.view().thumbnails(&hash, 9).unwrap(), [(key, thumbnail)]);
        assert_eq!(put(&records, "a", None).await, None);
        assert_eq!(put(&records, "b", None).await, Some(GoneBlob { hash, thumbnails: vec![key] }));
        let view = records.view();
        assert_eq!(view.blob(&hash).unwrap(), None);
        assert!(
            view.thumbnails(&hash, 9).unwrap().is_empty() && view.media_of_blob(&hash, None, 9).unwrap().is_empty()
        );
        assert_eq!(view.media_usage(user_id!("@a:x.example")).unwrap(), MediaUsage::default());
        assert!(view.media_usages(None, 9).unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_user_has_is_listed_by_time_and_counted() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let user = user_id!("@a:x.example");
        put(&records, "later", Some(&record(Some(1), 10, 20))).await;
        put(&records, "pending", Some(&record(None, 0, 10))).await;
        let list = |beyond: Option<(UnixMillis, &Mxc)>, direction| -> Vec<String> {
            let found = records.view().media_of_user(user, beyond, direction, 9).unwrap();
            found.into_iter().map(|(_, mxc)| mxc.id().to_owned()).collect()
        };
        assert_eq!(list(None, Direction::Forward), ["pending", "later"]);
        assert_eq!(list(None, Direction::Backward), ["later", "pending"]);
        assert_eq!(list(Some((UnixMillis(20), &mxc("later"))), Direction::Backward), ["pending"]);
        let pending = |now| records.view().pending_media_count(user, UnixMillis(now), 9).unwrap();
        assert_eq!((pending(109), pending(110)), (1, 0));
        let found = records.view().pending_media(None, 9).unwrap();
        assert_eq!(found, [(user.to_owned(), UnixMillis(110), mxc("pending"))]);
        assert!(records.view().pending_media(found.last(), 9).unwrap().is_empty());
        put(&records, "pending", Some(&record(Some(2), 5, 10))).await;
        assert_eq!(pending(50), 0);
        assert_eq!(records.view().media_usage(user).unwrap(), MediaUsage { files: 2, bytes: 15 });
        assert_eq!(
            records.view().media_page(Some(server_name!("x.example")), Some(&mxc("later")), 9).unwrap().len(),
            1
        );
        assert!(records.view().media_page(Some(server_name!("y.example")), None, 9).unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_a_page_the_newest_that_was_told_counts() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let preview = |n: u64| PreviewRecord { json: Some(n.to_string()), image: None, expires_at: UnixMillis(n + 1) };
        let mut changes = records.changes(&records.view());
        for (page, at) in [(1, 5), (1, 7), (2, 6)] {
            changes.put_url_preview(&BlobHash([page; 32]), UnixMillis(at), Some(&preview(at)));
        }
        records.commit(changes).await.unwrap();
        let view = records.view();
        assert_eq!(view.url_preview(&BlobHash([1; 32])).unwrap(), Some(preview(7)));
        assert_eq!(view.url_preview(&BlobHash([3; 32])).unwrap(), None);
        let page = view.url_previews(Some((BlobHash([1; 32]), UnixMillis(5))), 9).unwrap();
        assert_eq!(page.iter().map(|(_, at, _)| at.0).collect::<Vec<_>>(), [7, 6]);
    }

    #[tokio::test]
    async fn of_two_who_give_up_a_blob_at_once_one_is_told_to_look_again() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        put(&records, "a", Some(&record(Some(1), 10, 1))).await;
        put(&records, "b", Some(&record(Some(1), 10, 2))).await;
        let view = records.view();
        let mut changes = [records.changes(&view), records.changes(&view)];
        for (changes, id) in changes.iter_mut().zip(["a", "b"]) {
            assert_eq!(changes.put_media(&mxc(id), None).unwrap(), None);
        }
        let [first, second] = changes;
        records.commit(first).await.unwrap();
        assert!(matches!(records.commit(second).await, Err(store::CommitError::Conflict)));
    }
}
