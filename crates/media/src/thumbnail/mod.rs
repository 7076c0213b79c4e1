//! Thumbnails (client-server API, "Thumbnails"): which sizes there are, and when one is made.
//!
//! What is asked for is rounded up to a size of a short list, so that a file has few thumbnails however many are asked
//! for. They are made away from the async threads, a few at a time, once for the same size, and kept with the file.

mod make;

use crate::blobs::Name;
use crate::{Error, File, Media, Thumbnail};
use bytes::Bytes;
use futures::TryStreamExt;
pub(crate) use make::image_size;
use make::{Made, MakeError};
use records::{BlobHash, Mxc, ThumbnailKey, ThumbnailRecord};

/// The longer sides that thumbnails which are cut have.
const CROPPED: [u32; 8] = [32, 96, 160, 320, 640, 800, 1280, 1920];
/// The boxes that thumbnails which are whole fit into.
const SCALED: [(u32, u32); 7] = [(32, 32), (96, 96), (320, 240), (640, 480), (800, 600), (1280, 960), (1920, 1440)];
/// How many thumbnails of a file are kept. More are made, but not kept.
const KEPT_MAX: usize = 64;

/// What is done with what doesn't fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// It is cut off: the thumbnail has the aspect ratio that was asked for.
    Crop,
    /// Nothing is: the thumbnail fits within what was asked for, and has the image's own aspect ratio.
    #[default]
    Scale,
}

/// A size that is made. `None` for what is larger than any: then the image itself is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wish(Option<ThumbnailKey>);

impl Wish {
    /// What is made for who asks for this.
    pub(crate) fn new(width: u32, height: u32, method: Method, animated: bool) -> Result<Self, Error> {
        if width == 0 || height == 0 {
            return Err(Error::InvalidParam("a thumbnail has a width and a height of at least 1"));
        }
        let size = match method {
            Method::Scale => SCALED.into_iter().find(|(w, h)| *w >= width && *h >= height),
            Method::Crop => {
                let longer = width.max(height);
                let side = CROPPED.into_iter().find(|side| *side >= longer);
                let grown = |length: u32, side: u32| {
                    let grown = (u64::from(length) * u64::from(side)).div_ceil(u64::from(longer));
                    u32::try_from(grown).unwrap_or(side)
                };
                side.map(|side| (grown(width, side), grown(height, side)))
            }
        };
        let crop = method == Method::Crop;
        Ok(Self(size.map(|(width, height)| ThumbnailKey { width, height, crop, animated })))
    }
}

impl Media {
    /// A thumbnail of a medium that may be read. `Err` of the medium if it is to be shown itself.
    pub(crate) async fn thumbnail_of(&self, file: &File, wish: Wish) -> Result<Result<Thumbnail, File>, Error> {
        let is_remote = !self.is_local(&file.mxc);
        let Some(key) = wish.0 else { return Ok(Err(file.clone())) };
        let name = Name::Thumbnail(file.sha256, key);
        if let Some(ThumbnailRecord { content_type, bytes }) = self.view().thumbnail(&file.sha256, key)? {
            if bytes == 0 {
                return Ok(Err(File { content_type, ..file.clone() }));
            }
            // It can be missing after a loss of power: then it is made again.
            if let Some(stream) = self.0.blobs.read(name, bytes, 0..bytes).await? {
                let body: Vec<Bytes> = stream.try_collect().await?;
                return Ok(Ok(Thumbnail { sha256: file.sha256, key, content_type, body: body.concat().into() }));
            }
        }
        let made = self.0.making.join(&(file.sha256, wish), || {
            let (media, mxc, hash, bytes) = (self.clone(), file.mxc.clone(), file.sha256, file.bytes);
            async move { media.make_thumbnail(&mxc, hash, bytes, key).await }
        });
        match made.await.ok_or(Error::Stopped)? {
            Err(Error::ImageTooLarge { .. }) => Err(Error::ImageTooLarge { remote: is_remote }),
            Err(error) => Err(error),
            Ok(made) if made.body.is_empty() => Ok(Err(File { content_type: made.content_type, ..file.clone() })),
            Ok(made) => Ok(Ok(made)),
        }
    }

    /// Makes a thumbnail and keeps it. One without bytes says that the image is small enough itself, and what it is.
    async fn make_thumbnail(
        &self,
        mxc: &Mxc,
        sha256: BlobHash,
        bytes: u64,
        key: ThumbnailKey,
    ) -> Result<Thumbnail, Error> {
        let config = self.config().thumbnails.clone();
        if bytes > config.source_bytes_max.0 {
            return Err(Error::ImageTooLarge { remote: false });
        }
        let _waiting = self.0.waiting.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let _permit = self.0.thumbnailing.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let source = self.0.blobs.read(Name::Blob(sha256), bytes, 0..bytes).await?.ok_or(Error::NotFound)?;
        let mut whole = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        source
            .try_for_each(|part| {
                whole.extend_from_slice(&part);
                std::future::ready(Ok(()))
            })
            .await?;
        let made = tokio::task::spawn_blocking(move || make::make(&whole, key, &config)).await?;
        let (content_type, body) = match made {
            Ok(Made::Itself { content_type }) => (content_type, Bytes::new()),
            Ok(Made::Smaller { content_type, bytes }) => (content_type, Bytes::from(bytes)),
            Err(MakeError::NotAnImage) => return Err(Error::NotAnImage),
            Err(MakeError::TooLarge) => return Err(Error::ImageTooLarge { remote: false }),
        };
        let thumbnail = Thumbnail { sha256, key, content_type: content_type.to_owned(), body };
        if let Err(error) = self.keep_thumbnail(&thumbnail).await {
            tracing::warn!(%error, %mxc, "a thumbnail could not be kept");
        }
        Ok(thumbnail)
    }

    async fn keep_thumbnail(&self, thumbnail: &Thumbnail) -> Result<(), Error> {
        let Thumbnail { sha256, key, content_type, body } = thumbnail;
        // Nothing takes its blob away in between.
        let _turn = self.turn(sha256).await;
        let view = self.view();
        if view.blob(sha256)?.is_none() || view.thumbnails(sha256, KEPT_MAX)?.len() >= KEPT_MAX {
            return Ok(());
        }
        if !body.is_empty() {
            self.0.blobs.write(Name::Thumbnail(*sha256, *key), body.clone(), &*self.0.random).await?;
        }
        let record = ThumbnailRecord { content_type: content_type.clone(), bytes: body.len() as u64 };
        self.change(|changes| {
            if changes.view().blob(sha256)?.is_some() {
                changes.put_thumbnail(sha256, *key, &record)?;
                // It can be made again.
                changes.derived();
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(width: u32, height: u32, method: Method) -> Option<(u32, u32)> {
        Wish::new(width, height, method, false).unwrap().0.map(|key| (key.width, key.height))
    }

    #[test]
    fn what_is_asked_for_is_rounded_up() {
        assert_eq!(wish(32, 32, Method::Scale), Some((32, 32)));
        assert_eq!(wish(33, 1, Method::Scale), Some((96, 96)));
        assert_eq!(wish(300, 241, Method::Scale), Some((640, 480)));
        assert_eq!(wish(5000, 10, Method::Scale), None);
        assert_eq!(wish(96, 96, Method::Crop), Some((96, 96)));
        assert_eq!(wish(50, 100, Method::Crop), Some((80, 160)));
        assert_eq!(wish(1, 1921, Method::Crop), None);
        assert_eq!(wish(u32::MAX, 1, Method::Crop), None);
        assert!(Wish::new(0, 10, Method::Crop, false).is_err());
    }
}
