//! One agency: everything that a homeserver is, wired.

use crate::admin::{Answer, Ask};
use crate::body::{self, Face};
use crate::config::{self, Config};
use crate::keys;
use crate::well_known::WellKnown;
use anyhow::{Context, bail};
use base::{Clock, Random, SystemClock, SystemRandom};
use http::StatusCode;
use prometheus_client::registry::Registry;
use rules::SigningKey;
use ruma::OwnedServerName;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the agencies of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The file's settings that are not of one agency.
    pub config: Config,
    /// Cancelled when the server takes no more requests: whoever waits for news must answer.
    pub stopping: CancellationToken,
}

impl Shared {
    /// What the agencies of a process share, by the machine's clock and randomness.
    #[must_use]
    pub fn new(config: &Config, stopping: CancellationToken) -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), config: config.clone(), stopping }
    }
}

/// A homeserver.
#[derive(Debug)]
pub struct Agency {
    pub(crate) server_name: OwnedServerName,
    pub(crate) data_dir: PathBuf,
    pub(crate) hosts: Vec<String>,
    pub(crate) well_known: WellKnown,
    pub(crate) face: Face,
    #[expect(dead_code, reason = "federation signs with it")]
    key: SigningKey,
}

impl Agency {
    /// Opens an agency: its folder, its key, its store, and what works on them.
    pub async fn open(config: &config::Agency, shared: &Shared) -> anyhow::Result<Self> {
        let server_name = config.server_name.0.clone();
        prepare_folder(&config.data_dir)?;
        claim_folder(&config.data_dir, server_name.as_str())?;
        let key = keys::load_or_create(&config.data_dir, server_name.clone(), &*shared.random)?;
        let face = Face::new(tower::service_fn(async |_| {
            Ok(body::error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request."))
        }));
        Ok(Self {
            server_name,
            data_dir: config.data_dir.clone(),
            hosts: config.host_names().collect(),
            well_known: WellKnown::new(config),
            face,
            key,
        })
    }

    /// Adds the figures of the agency's store.
    pub(crate) fn register_metrics(&self, _registry: &mut Registry) {}

    /// Does what an administrator asks.
    pub(crate) async fn obey(&self, _ask: Ask) -> anyhow::Result<Answer> {
        bail!("this agency has no accounts")
    }

    /// Closes the store.
    pub(crate) async fn close(&self) {}
}

/// Makes the data folder, for its owner only.
fn prepare_folder(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("the data folder {} can't be made", folder.display()))
}

/// Marks the data folder with the name of its agency, so that a slip in the configuration can't mix two.
fn claim_folder(folder: &Path, server_name: &str) -> anyhow::Result<()> {
    let file = folder.join("server_name");
    match std::fs::read_to_string(&file) {
        Ok(found) if found.trim() == server_name => Ok(()),
        Ok(found) => bail!("it has the data of {}: a server name can't be changed", found.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::write(&file, format!("{server_name}\n"))
            .with_context(|| format!("{} can't be written", file.display())),
        Err(error) => Err(error).with_context(|| format!("{} can't be read", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_server_name() {
        let folder = tempfile::tempdir().unwrap();
        claim_folder(folder.path(), "a.example").unwrap();
        claim_folder(folder.path(), "a.example").unwrap();
        let error = claim_folder(folder.path(), "b.example").unwrap_err();
        assert!(error.to_string().contains("a.example"), "{error}");
    }
}
