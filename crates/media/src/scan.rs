//! Asking a scanner, once for the same bytes.

use crate::blobs::Name;
use crate::gate::Gate;
use crate::{ByteStream, Error, Media, ScanPolicy};
use futures::future::BoxFuture;
use records::{BlobHash, VerdictRecord, VerdictState};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Looks into files for what is bad.
pub trait Scanner: Send + Sync + 'static {
    /// Which scanner it is, with the version of its signatures.
    fn engine(&self) -> String;

    /// Looks into a file. A file that it can't look into is [`VerdictState::Unscannable`], which stays; an error is
    /// for when it could not try, and is tried again.
    fn scan(&self, file: Scanned) -> BoxFuture<'_, Result<VerdictState, ScanError>>;
}

/// A file to be looked into.
pub struct Scanned {
    /// The SHA-256 of its bytes.
    pub sha256: BlobHash,
    /// How many it has.
    pub bytes: u64,
    /// They.
    pub body: ByteStream,
}

/// A scanner could not try.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the scanner does not answer: {0}")]
pub struct ScanError(pub String);

impl Media {
    /// What a scanner has said of the bytes of a hash.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn verdict(&self, hash: &BlobHash) -> Result<Option<VerdictRecord>, Error> {
        Ok(self.view().verdict(hash)?)
    }

    /// Notes what a scanner says of the bytes of a hash. What was once found infected stays infected, until an
    /// administrator [removes the verdict](Media::forget_verdict).
    ///
    /// # Errors
    ///
    /// [`Error::Records`], [`Error::Commit`].
    pub async fn set_verdict(&self, hash: &BlobHash, state: VerdictState, engine: &str) -> Result<(), Error> {
        let record = VerdictRecord { state, at: self.now(), engine: engine.to_owned() };
        self.change(|changes| {
            let before = changes.view().verdict(hash)?;
            let was_infected = before.is_some_and(|before| matches!(before.state, VerdictState::Infected(_)));
            if !was_infected {
                changes.put_verdict(hash, &record)?;
            }
            Ok(())
        })
        .await?;
        self.arrived();
        Ok(())
    }

    /// Takes a verdict back, so that the bytes are scanned anew.
    ///
    /// # Errors
    ///
    /// [`Error::Records`], [`Error::Commit`].
    pub async fn forget_verdict(&self, hash: &BlobHash) -> Result<(), Error> {
        let record = VerdictRecord { state: VerdictState::Pending, at: self.now(), engine: String::new() };
        self.change(|changes| Ok(changes.put_verdict(hash, &record)?)).await
    }

    /// Has bytes scanned that have just come, and waits some time for what is said of them.
    pub(crate) async fn scan_upload(&self, hash: BlobHash) -> Result<(), Error> {
        if self.gate(&self.view(), &hash, false)? == Gate::Unknown {
            let scan = self.scanning(hash);
            let _ = timeout(self.config().scan.upload_wait, scan).await;
        }
        self.check_acceptable(&self.view(), &hash)
    }

    /// Waits until it is known whether bytes get through: [`Error::NotYetUploaded`] if it is not known in time.
    pub(crate) async fn pass(&self, hash: BlobHash, even_blocked: bool, deadline: Instant) -> Result<(), Error> {
        match self.gate(&self.view(), &hash, even_blocked)? {
            Gate::Open => return Ok(()),
            Gate::Closed => return Err(Error::NotFound),
            Gate::Unknown => {}
        }
        let scan = self.scanning(hash);
        let _waiting = self.0.waiting.clone().try_acquire_owned().map_err(|_| Error::NotYetUploaded)?;
        let ended = timeout_at(deadline, scan).await.is_ok();
        match self.gate(&self.view(), &hash, even_blocked)? {
            Gate::Open => Ok(()),
            Gate::Closed => Err(Error::NotFound),
            // The scanner was asked and has not answered: then it is as the settings say, but not for ever.
            Gate::Unknown if ended && self.config().scan.policy == ScanPolicy::Open => Ok(()),
            Gate::Unknown => Err(Error::NotYetUploaded),
        }
    }

    /// A scan of these bytes: the one that is under way, or a new one.
    fn scanning(&self, hash: BlobHash) -> impl Future<Output = Option<()>> + use<> {
        self.0.scanning.join(&hash, || {
            let media = self.clone();
            async move {
                if let Err(error) = media.scan(hash).await {
                    tracing::warn!(%error, %hash, "a file could not be scanned");
                }
            }
        })
    }

    async fn scan(&self, hash: BlobHash) -> Result<(), Error> {
        let Some(scanner) = self.0.scanner.get() else { return Ok(()) };
        let _permit = self.0.scans.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let blob = self.view().blob(&hash)?.ok_or(Error::NotFound)?;
        let body = self.0.blobs.read(Name::Blob(hash), blob.bytes, 0..blob.bytes).await?.ok_or(Error::NotFound)?;
        let engine = scanner.engine();
        let file = Scanned { sha256: hash, bytes: blob.bytes, body };
        let limit = self.config().scan.timeout.max(Duration::from_millis(1));
        match timeout(limit, scanner.scan(file)).await {
            Ok(Ok(state)) => self.set_verdict(&hash, state, &engine).await,
            Ok(Err(error)) => Err(Error::Remote(error.to_string())),
            Err(_) => Err(Error::Remote("the scan took too long".to_owned())),
        }
    }
}
