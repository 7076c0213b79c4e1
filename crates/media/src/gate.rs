//! What bytes get through.
//!
//! A blocked hash gets through nowhere. With a scanner, its verdict decides: clean bytes get through, infected ones
//! don't, and for those of which nothing is known the settings say. Verdicts are about bytes, so they hold for all media
//! that have them, on every way: uploads, downloads, thumbnails, other servers.

use crate::{Error, Media, ScanPolicy};
use records::{BlobHash, VerdictState, View};

/// What is known of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They get through.
    Open,
    /// They don't.
    Closed,
    /// They have to be scanned first.
    Unknown,
}

impl Media {
    /// What is known of bytes. What is blocked gets through for administrators who look at what they have blocked.
    pub(crate) fn gate(&self, view: &View, hash: &BlobHash, even_blocked: bool) -> Result<Gate, Error> {
        if even_blocked {
            return Ok(Gate::Open);
        }
        if view.blocked_blob(hash)?.is_some() {
            return Ok(Gate::Closed);
        }
        if self.0.scanner.get().is_none() {
            // What was once found infected stays so, whatever the settings say today.
            let verdict = view.verdict(hash)?;
            let is_infected = verdict.is_some_and(|verdict| matches!(verdict.state, VerdictState::Infected(_)));
            return Ok(if is_infected { Gate::Closed } else { Gate::Open });
        }
        let Some(verdict) = view.verdict(hash)? else { return Ok(Gate::Unknown) };
        Ok(match verdict.state {
            VerdictState::Infected(_) => Gate::Closed,
            VerdictState::Pending => Gate::Unknown,
            VerdictState::Unscannable(_) => self.without_verdict(),
            VerdictState::Clean => match self.config().scan.clean_lifetime {
                Some(lifetime) if self.now().since(verdict.at) >= lifetime => Gate::Unknown,
                _ => Gate::Open,
            },
        })
    }

    /// What is done with bytes of which no scanner can say anything.
    pub(crate) fn without_verdict(&self) -> Gate {
        match self.config().scan.policy {
            ScanPolicy::Open => Gate::Open,
            ScanPolicy::Closed => Gate::Closed,
        }
    }

    /// Whether bytes may come in, as far as is known now.
    pub(crate) fn check_acceptable(&self, view: &View, hash: &BlobHash) -> Result<(), Error> {
        match self.gate(view, hash, false)? {
            Gate::Open | Gate::Unknown => Ok(()),
            Gate::Closed => Err(Error::Refused),
        }
    }
}
