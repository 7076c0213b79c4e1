//! Previews of pages (client-server API, `GET /preview_url`): what a page says of itself by OpenGraph and oEmbed.
//!
//! Who asks chooses the address, so everything that is fetched goes through [`remote::outgoing`], which judges where it
//! leads. A page is fetched once for all who ask, and what it said is told for some time. Its picture becomes a medium of
//! this server that goes with the preview.

mod oembed;
mod page;
mod tags;

use crate::thumbnail::image_size;
use crate::upload::Place;
use crate::{Error, Media};
use base::UnixMillis;
use base::config::ByteSize;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use page::Page;
use records::{BlobHash, MediaRecord, Mxc, PreviewRecord};
use remote::outgoing::{BodyStream, Error as OutgoingError, Limits};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;
use url::Url;

/// The longest address, in bytes.
const URL_BYTES_MAX: usize = 4096;
/// How often an address may lead to another.
const REDIRECTS_MAX: usize = 5;
/// How long it is remembered that there was no preview.
const FAILED_LIFETIME: Duration = Duration::from_mins(5);
/// How long the picture of a preview stays longer than that, because clients show what they were told.
const IMAGE_LIFETIME: Duration = Duration::from_hours(48);
/// How many rows are read at once.
const PAGE: usize = 500;

impl Media {
    /// What a page says of itself: a JSON object of OpenGraph properties, in which the picture is a medium of this
    /// server.
    ///
    /// # Errors
    ///
    /// [`Error::NoPreviews`]; [`Error::PageRefused`]; [`Error::InvalidParam`] for what is no address of a page;
    /// [`Error::Remote`] if the page can't be fetched; [`Error::Busy`].
    pub async fn preview(&self, url: &str) -> Result<String, Error> {
        if !self.config().previews.enabled || self.0.outgoing.get().is_none() {
            return Err(Error::NoPreviews);
        }
        let url = self.checked_url(url)?;
        let address = BlobHash(Sha256::digest(url.as_str()).into());
        if let Some(known) = self.view().url_preview(&address)?
            && known.expires_at > self.now()
        {
            return known.json.ok_or_else(|| Error::Remote("the page could not be fetched".to_owned()));
        }
        let previewed = self.0.previewing.join(&address, || {
            let media = self.clone();
            async move { media.preview_now(&url, &address).await }
        });
        previewed.await.ok_or(Error::Stopped)?
    }

    /// The address of a page of which there may be a preview, in its one form.
    fn checked_url(&self, url: &str) -> Result<Url, Error> {
        const WRONG: Error = Error::InvalidParam("`url` is not the address of a page");
        if url.len() > URL_BYTES_MAX {
            return Err(WRONG);
        }
        let mut url = Url::parse(url).map_err(|_| WRONG)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_plain {
            return Err(WRONG);
        }
        let host = url.host_str().ok_or(WRONG)?.trim_end_matches('.').to_ascii_lowercase();
        let config = &self.config().previews;
        let is_within = |names: &[String]| {
            names.iter().any(|name| {
                let name = name.to_ascii_lowercase();
                host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        };
        if is_within(&config.hosts_refused) || !(config.hosts.is_empty() || is_within(&config.hosts)) {
            return Err(Error::PageRefused);
        }
        url.set_fragment(None);
        Ok(url)
    }

    async fn preview_now(&self, url: &Url, address: &BlobHash) -> Result<String, Error> {
        let _waiting = self.0.waiting.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let _permit = self.0.previews.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let lifetime = self.config().previews.lifetime;
        let (made, lifetime) = match self.make_preview(url).await {
            Ok(made) => (Ok(made), lifetime),
            Err(error) => (Err(error), FAILED_LIFETIME),
        };
        let (json, image) = match &made {
            Ok((json, image)) => (Some(json.clone()), image.as_ref().map(ToString::to_string)),
            Err(_) => (None, None),
        };
        let now = self.now();
        let record = PreviewRecord { json, image, expires_at: now.after(lifetime) };
        self.change(|changes| {
            changes.put_url_preview(address, now, Some(&record));
            // The page can be fetched again.
            changes.derived();
            Ok(())
        })
        .await?;
        made.map(|(json, _)| json)
    }

    async fn make_preview(&self, url: &Url) -> Result<(String, Option<Mxc>), Error> {
        let config = &self.config().previews;
        let answer =
            self.ask(url, "text/html, application/xhtml+xml, image/*;q=0.8, */*;q=0.1", config.image_bytes_max);
        let (head, body) = answer.await?.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut properties = Map::new();
        let image = match kind.as_str() {
            "text/html" | "application/xhtml+xml" => {
                let bytes = read_start(body, config.page_bytes_max.bytes()).await?;
                let (base, content_type) = (url.clone(), content_type.to_owned());
                // Parsing takes its time, whatever the page is.
                let page = tokio::task::spawn_blocking(move || Page::read(&bytes, &content_type, &base)).await?;
                self.complete(page, &mut properties).await
            }
            _ if kind.starts_with("image/") => {
                let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
                if !name.is_empty() {
                    properties.insert("og:title".to_owned(), json!(name));
                }
                self.keep_image(body, &mut properties).await.ok()
            }
            _ => None,
        };
        Ok((Value::Object(properties).to_string(), image))
    }

    /// Adds what oEmbed says to what a page says, and fetches its picture.
    async fn complete(&self, page: Page, properties: &mut Map<String, Value>) -> Option<Mxc> {
        let Page { properties: found, mut image, oembed } = page;
        properties.extend(found.into_iter().map(|(name, value)| (name, Value::String(value))));
        if let Some(url) = oembed
            && let Ok(embedded) = self.oembed(&url).await
        {
            for (name, value) in embedded.properties {
                properties.entry(name).or_insert(Value::String(value));
            }
            image = image.or(embedded.image);
        }
        let answer = self.ask(&image?, "image/*", self.config().previews.image_bytes_max).await.ok()?;
        self.keep_image(answer.into_body(), properties).await.ok()
    }

    async fn oembed(&self, url: &Url) -> Result<oembed::Embedded, Error> {
        let bytes_max = self.config().previews.page_bytes_max;
        let answer = self.ask(url, "application/json", bytes_max).await?;
        let bytes = read_start(answer.into_body(), bytes_max.bytes()).await?;
        oembed::read(&bytes, url).ok_or_else(|| Error::Remote("this is not oEmbed".to_owned()))
    }

    /// Asks for something that a page or a user names. Only what is there is an answer.
    async fn ask(&self, url: &Url, accept: &'static str, bytes_max: ByteSize) -> Result<Response<BodyStream>, Error> {
        let config = &self.config().previews;
        // A page may name what there is no preview of.
        self.checked_url(url.as_str())?;
        let outgoing = self.0.outgoing.get().ok_or(Error::NoPreviews)?;
        let languages = HeaderValue::from_str(&config.languages).unwrap_or(HeaderValue::from_static("en"));
        let request = Request::get(url.as_str())
            .header(ACCEPT, HeaderValue::from_static(accept))
            .header(ACCEPT_LANGUAGE, languages)
            .body(Bytes::new())
            .map_err(|_| Error::InvalidParam("`url` is not the address of a page"))?;
        let limits =
            Limits { body_bytes_max: bytes_max.bytes(), timeout: config.timeout, redirects_max: REDIRECTS_MAX };
        let answer = outgoing.send_streamed(request, limits).await.map_err(|error| match error {
            OutgoingError::Refused => Error::PageRefused,
            OutgoingError::Url => Error::InvalidParam("`url` is not the address of a page"),
            error => Error::Remote(error.to_string()),
        })?;
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            status => Err(Error::Remote(format!("the answer was {status}"))),
        }
    }

    /// Makes a medium of a picture, if it is one, and says what it is.
    async fn keep_image(&self, body: BodyStream, properties: &mut Map<String, Value>) -> Result<Mxc, Error> {
        let bytes_max = self.config().previews.image_bytes_max.bytes();
        let bytes = read_start(body, bytes_max).await?;
        let (content_type, width, height) = image_size(&bytes).ok_or(Error::NotAnImage)?;
        let length = bytes.len();
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let staged = self.receive(length as u64, chunks).await?;
        let mxc = self.fresh_mxc()?;
        let now = self.now();
        let record = MediaRecord {
            blob: Some(staged.hash),
            bytes: staged.bytes,
            content_type: content_type.to_owned(),
            filename: None,
            uploader: None,
            created_at: now,
            expires_at: Some(now.after(self.config().previews.lifetime).after(IMAGE_LIFETIME)),
            protected: false,
        };
        self.keep(mxc.clone(), Place::Fresh, record, staged, None).await?;
        properties.insert("og:image".to_owned(), json!(mxc.to_string()));
        properties.insert("og:image:type".to_owned(), json!(content_type));
        properties.insert("og:image:width".to_owned(), json!(width));
        properties.insert("og:image:height".to_owned(), json!(height));
        properties.insert("matrix:image:size".to_owned(), json!(length));
        Ok(mxc)
    }

    /// Forgets previews that are not shown any more, with their pictures.
    pub(crate) async fn clear_previews(&self) -> Result<(), Error> {
        let now = self.now();
        let mut last: Option<(BlobHash, UnixMillis)> = None;
        loop {
            let page = self.view().url_previews(last, PAGE)?;
            for (address, at, record) in &page {
                if record.expires_at.after(IMAGE_LIFETIME) > now {
                    continue;
                }
                if let Some(image) = record.image.as_deref().and_then(Mxc::parse) {
                    self.delete_if(&image, |record| record.expires_at.is_some() && !record.protected).await?;
                }
                self.change(|changes| {
                    changes.put_url_preview(address, *at, None);
                    changes.derived();
                    Ok(())
                })
                .await?;
            }
            match page.last() {
                Some((address, at, _)) if page.len() == PAGE => last = Some((*address, *at)),
                _ => return Ok(()),
            }
        }
    }
}

/// The start of a body. What comes after is not waited for.
async fn read_start(mut body: BodyStream, bytes_max: usize) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // As much as was read is worth something.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(Error::Remote(error.to_string())),
        };
        let room = bytes_max.saturating_sub(bytes.len());
        bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if bytes.len() >= bytes_max {
            break;
        }
    }
    Ok(bytes.freeze())
}
