//! One agency: everything that a homeserver is, wired.

use crate::admin::{Answer, Ask, User};
use crate::body::{Body, Face};
use crate::config::{self, Config};
use crate::files::{sync_parent, write_whole};
use crate::held_store::HeldStore;
use crate::keys;
use crate::well_known::WellKnown;
use accounts::{Accounts, EndSessions, Erase, NewUser};
use anyhow::{Context, bail};
use base::{Clock, Random, SystemClock, SystemRandom};
use client_api::{ClientAddress, Delayed, Interactive, Nonces, RateLimits};
use delivery::{GatewayRules, Push};
use devices::Devices;
use federation::{Federation, PeerMedia};
use http::Request;
use mailer::Mailer;
use media::{Blobs, Media};
use records::Records;
use remote::{Hosts, Outgoing, Peers};
use rooms::Rooms;
use rules::KeyRing;
use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};
use search::Search;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store_rocksdb::{RocksEngine, SharedMemory};
use sync::Syncs;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What the agencies of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The memory of all stores.
    pub memory: SharedMemory,
    /// The right to write into search indexes.
    pub index_writers: search::Writers,
    /// Cancelled when the server takes no more requests: whoever waits for news must answer.
    pub stopping: CancellationToken,
}

impl Shared {
    /// What the agencies of a process share, by the machine's clock and randomness.
    #[must_use]
    pub fn new(config: &Config, stopping: CancellationToken) -> Self {
        let memory = SharedMemory::new(config.memory.budget.bytes());
        let index_writers = search::Writers::default();
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), memory, index_writers, stopping }
    }
}

/// A homeserver. Its data folder is free for others once it and all that it answers are dropped.
pub struct Agency {
    pub(crate) server_name: OwnedServerName,
    pub(crate) data_dir: PathBuf,
    pub(crate) hosts: Vec<String>,
    pub(crate) well_known: WellKnown,
    /// The largest transaction that another server may send, in bytes.
    pub(crate) transaction_bytes_max: u64,
    pub(crate) face: Face,
    pub(crate) store: Arc<HeldStore>,
    pub(crate) push: Push,
    closed: CancellationToken,
    accounts: Accounts,
    rooms: Rooms,
}

impl Agency {
    /// Opens an agency: its folder, its key, its store, and what works on them.
    #[expect(clippy::too_many_lines, reason = "the one place where everything is wired, part by part")]
    pub async fn open(config: &config::Agency, shared: &Shared) -> anyhow::Result<Self> {
        let server_name = config.server_name.0.clone();
        if let Some(warning) = prepare_folder(&config.data_dir)? {
            tracing::warn!(agency = %server_name, "{warning}");
        }
        let (clock, random) = (shared.clock.clone(), shared.random.clone());
        let (store, closed) = HeldStore::new(open_store(&config.data_dir, &shared.memory).await?);
        // The store is locked from here on, so that two processes can't both claim the folder or make a key.
        claim_folder(&config.data_dir, server_name.as_str())?;
        let key = keys::load_or_create(&config.data_dir, server_name.clone(), &*random)?;
        let ring = KeyRing::from(key);
        let hosts = config.federation.hosts.as_deref().map(Hosts::read).transpose()?.unwrap_or_default();
        let outgoing = Outgoing::new(&config.outgoing, hosts)?;
        let records = Records::open(store.clone()).await?;
        let (peers, server_keys) = peers(config, outgoing.clone(), &ring, &records, &clock)?;
        let (accounts_config, name) = (config.accounts.clone(), server_name.clone());
        let accounts = {
            let (records, clock, random) = (records.clone(), clock.clone(), random.clone());
            blocking(move || Ok(Accounts::open(records, name, clock, random, accounts_config)?)).await?
        };
        let rooms_config = rooms::Config {
            default_version: RoomVersionId::try_from(config.rooms.default_version.as_str())?,
            retention: config.rooms.retention.clone(),
            ..rooms::Config::default()
        };
        let rooms = Rooms::new(records.clone(), ring.current(), clock.clone(), random.clone(), rooms_config);
        let media = open_media(config, &records, outgoing.clone(), shared).await?;
        let devices = Devices::new(records.clone(), server_name.clone(), clock.clone());
        let federation = Federation::new(federation::Parts {
            records: records.clone(),
            rooms: rooms.clone(),
            devices: devices.clone(),
            key: ring.current(),
            clock: clock.clone(),
            random: random.clone(),
            peers: Arc::new(peers.clone()),
            keys: Arc::new(server_keys.clone()),
        });
        if config.federation.enabled {
            media.set_remote(Arc::new(PeerMedia {
                peers: peers.clone(),
                file_bytes_max: config.media.remote_bytes_max.bytes(),
            }));
            federation.start_sending();
        }
        let syncs = Syncs::new(records.clone(), rooms.clone(), clock.clone(), config.sync.clone());
        tokio::spawn(tell_presence(syncs.clone(), federation.clone(), shared.stopping.clone()));
        let search = Search::new(
            records.clone(),
            rooms.clone(),
            clock.clone(),
            Some(config.data_dir.join("search")),
            shared.index_writers.clone(),
            config.search.clone(),
        );
        end_with(&syncs, &search, &shared.stopping);
        let federation_router = config.federation.enabled.then(|| {
            federation_api::router(Arc::new(federation_api::State {
                server_name: server_name.clone(),
                records: records.clone(),
                rooms: rooms.clone(),
                accounts: accounts.clone(),
                devices: devices.clone(),
                media: media.clone(),
                syncs: syncs.clone(),
                federation: federation.clone(),
                peers,
                keys: server_keys,
                clock: clock.clone(),
                transaction_bytes_max: config.federation.transaction_bytes_max.bytes(),
                transactions: federation_api::Transactions::default(),
                large: Arc::new(Semaphore::new(federation_api::LARGE_AT_ONCE)),
            }))
        });
        let administration = admin_api::router(Arc::new(admin_api::State {
            server_name: server_name.clone(),
            records: records.clone(),
            accounts: accounts.clone(),
            rooms: rooms.clone(),
            media: media.clone(),
            clock: clock.clone(),
            random: random.clone(),
            notices: config.server_notices.clone(),
            searches: admin_api::Searches::default(),
            jobs: admin_api::Jobs::default(),
            index: admin_api::Index::default(),
        }));
        let mail = Mailer::start(&config.mail, server_name.as_str())?;
        let base_url = config.public_base_url.trim_end_matches('/').to_owned();
        let mail = mail.map(|mailer| client_api::Mail { mailer, base_url });
        let push = delivery::Sources {
            records: records.clone(),
            rooms: rooms.clone(),
            syncs: syncs.clone(),
            accounts: accounts.clone(),
            outgoing,
            clock: clock.clone(),
            random: random.clone(),
        };
        let push = Push::start(push, config.push.clone());
        push.shutdown_after(shared.stopping.clone().cancelled_owned());
        let state = Arc::new(client_api::State {
            server_name: server_name.clone(),
            records,
            accounts: accounts.clone(),
            devices,
            media,
            rooms: rooms.clone(),
            federation,
            search,
            syncs,
            mail,
            gateways: GatewayRules::new(&config.push, &config.outgoing.allowed_ranges),
            limits: RateLimits::new(&config.clients.limits, clock.clone()),
            clock,
            random,
            config: config.clients.clone(),
            interactive: Interactive::default(),
            nonces: Nonces::default(),
            delayed: Delayed::default(),
        });
        client_api::start(&state);
        let router = client_api::router(state).merge(administration);
        let router = match federation_router {
            Some(federation_router) => router.merge(federation_router),
            None => router,
        };
        Ok(Self {
            server_name,
            data_dir: config.data_dir.clone(),
            hosts: config.host_names().collect(),
            well_known: WellKnown::new(config),
            transaction_bytes_max: config.federation.transaction_bytes_max.0,
            face: Face::new(router.map_request(with_client_address)),
            store,
            push,
            closed,
            accounts,
            rooms,
        })
    }

    /// Does what an administrator asks.
    pub(crate) async fn obey(&self, ask: Ask) -> anyhow::Result<Answer> {
        match ask {
            Ask::CreateUser { localpart, password, admin } => {
                let user_id = self.accounts.available(&localpart)?;
                let password = Some(password.0);
                self.accounts
                    .create_user(NewUser { user_id: user_id.clone(), password, accepted_terms: false, admin })
                    .await?;
                Ok(done(&user_id))
            }
            Ask::SetAdmin { localpart, admin } => {
                let user_id = self.user_id(&localpart)?;
                self.accounts.set_admin(&user_id, admin).await?;
                Ok(done(&user_id))
            }
            Ask::ListUsers { after, users_max } => {
                let after = after.map(|localpart| self.user_id(&localpart)).transpose()?;
                let users = self.accounts.users(after.as_deref(), users_max)?;
                let users = users.into_iter().map(|(user_id, record)| User {
                    user_id: user_id.to_string(),
                    deactivated: record.deactivated_at.is_some(),
                    created_ms: record.created_at.0,
                });
                Ok(Answer::Users { users: users.collect() })
            }
            Ask::DeactivateUser { localpart, erase } => {
                let user_id = self.user_id(&localpart)?;
                let erase = if erase { Erase::Everything } else { Erase::Nothing };
                self.accounts.deactivate(&user_id, erase).await?;
                self.rooms.leave_all(&user_id).await?;
                Ok(done(&user_id))
            }
            Ask::ResetPassword { localpart, password } => {
                let user_id = self.user_id(&localpart)?;
                self.accounts.set_password(&user_id, password.0, EndSessions::All).await?;
                Ok(done(&user_id))
            }
        }
    }

    fn user_id(&self, localpart: &str) -> anyhow::Result<OwnedUserId> {
        Ok(OwnedUserId::try_from(format!("@{localpart}:{}", self.server_name))?)
    }
}

impl fmt::Debug for Agency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agency").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Tells other servers when the presence of a user of this one changes, until the server stops.
async fn tell_presence(syncs: Syncs, federation: Federation, stopping: CancellationToken) {
    let mut changes = syncs.presence_changes();
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = stopping.cancelled() => return,
        };
        let user = match changed {
            Ok(user) if user.server_name() == federation.server_name() => user,
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let presence = syncs.presence_for_servers(&user).map(|presence| serde_json::from_str(&presence.to_json()));
        let Ok(Ok(serde_json::Value::Object(mut presence))) = presence else { continue };
        presence.insert("user_id".to_owned(), user.as_str().into());
        if let Err(error) = federation.tell_presence(&user, &presence.into()) {
            tracing::warn!(%user, %error, "other servers are not told of a user's presence");
        }
    }
}

/// How long it is waited for the stores to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Lets go of agencies, and waits until their data folders are free. A store closes when the last that works on
/// it ends: room actors and followers, which do at once when nobody can ask them any more.
pub(crate) async fn close(agencies: Vec<Arc<Agency>>) {
    let closed: Vec<_> = agencies.iter().map(|agency| agency.closed.clone()).collect();
    drop(agencies);
    let closed = futures::future::join_all(closed.iter().map(CancellationToken::cancelled));
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        tracing::warn!("a store is still in use");
    }
}

fn done(user_id: &OwnedUserId) -> Answer {
    Answer::Done { user_id: user_id.to_string() }
}

async fn open_store(data_dir: &Path, memory: &SharedMemory) -> anyhow::Result<RocksEngine> {
    let (folder, memory) = (data_dir.join("store"), memory.clone());
    blocking(move || Ok(RocksEngine::open(folder, &memory, &store_rocksdb::Config::default())?)).await
}

/// Opens the files of an agency.
async fn open_media(
    config: &config::Agency,
    records: &Records,
    outgoing: Outgoing,
    shared: &Shared,
) -> anyhow::Result<Media> {
    let blobs = open_blobs(&config.media, &config.data_dir).await?;
    let (name, settings) = (config.server_name.0.clone(), config.media.clone());
    let media = Media::new(records.clone(), blobs, name, shared.clock.clone(), shared.random.clone(), settings);
    media.set_outgoing(outgoing);
    Ok(media)
}

/// Opens the place of the files.
async fn open_blobs(config: &media::Config, data_dir: &Path) -> anyhow::Result<Blobs> {
    if let Some(s3) = &config.s3 {
        return Blobs::s3(s3).context("the store of files can't be used");
    }
    let folder = config.folder.clone().unwrap_or_else(|| data_dir.join("media"));
    blocking(move || {
        Blobs::folder(&folder).with_context(|| format!("the folder of files {} can't be opened", folder.display()))
    })
    .await
}

/// Answers those who wait for news when the server takes no more requests.
fn end_with(syncs: &Syncs, search: &Search, stopping: &CancellationToken) {
    let (syncs, search, stopping) = (syncs.clone(), search.clone(), stopping.clone());
    tokio::spawn(async move {
        stopping.cancelled_owned().await;
        syncs.shutdown();
        search.shutdown();
    });
}

/// The way to other servers, and their keys.
fn peers(
    config: &config::Agency,
    outgoing: Outgoing,
    ring: &KeyRing,
    records: &Records,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Peers, remote::Keys)> {
    let peers = Peers::new(&config.federation, &config.outgoing, outgoing, ring.clone())?;
    let keys = remote::Keys::new(&config.federation, peers.clone(), ring.clone(), records.clone(), clock.clone());
    Ok((peers, keys))
}

/// Does on a thread of its own what would keep others waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// The address of the client, as the client API expects it.
fn with_client_address(mut request: Request<Body>) -> Request<Body> {
    if let Some(address) = request.extensions().get::<IpAddr>().copied() {
        request.extensions_mut().insert(ClientAddress(address));
    }
    request
}

/// Makes the data folder, for its owner only. What is wrong with one that is there already, if others can get at
/// the key and the messages in it: it is not refused, because the operator may mean a group to read it.
fn prepare_folder(folder: &Path) -> anyhow::Result<Option<String>> {
    let context = || format!("the data folder {} can't be made", folder.display());
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
        sync_parent(folder).with_context(context)?;
    }
    let found = std::fs::metadata(folder).with_context(context)?;
    let mode = found.mode() & 0o777;
    Ok((found.is_dir() && mode & 0o077 != 0).then(|| {
        let folder = folder.display();
        format!(
            "others than its owner have access to the data folder {folder} (mode {mode:04o}), and it holds the signing \
             key and all messages: chmod 0700 {folder}"
        )
    }))
}

/// Marks the data folder with the name of its agency, so that a slip in the configuration can't mix two. The store
/// in it must be locked.
fn claim_folder(folder: &Path, server_name: &str) -> anyhow::Result<()> {
    let file = folder.join("server_name");
    match std::fs::read_to_string(&file) {
        Ok(found) if found.trim() == server_name => Ok(()),
        Ok(found) if found.trim().is_empty() => {
            bail!("{} is empty; write the server name into it to which this data belongs", file.display())
        }
        Ok(found) => bail!("it has the data of {}: a server name can't be changed", found.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_whole(&file, format!("{server_name}\n").as_bytes())
                .with_context(|| format!("{} can't be written", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("{} can't be read", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_belongs_to_one_server_name() {
        let folder = tempfile::tempdir().unwrap();
        claim_folder(folder.path(), "a.example").unwrap();
        claim_folder(folder.path(), "a.example").unwrap();
        let error = claim_folder(folder.path(), "b.example").unwrap_err();
        assert!(error.to_string().contains("a.example"), "{error}");
    }

    #[test]
    fn a_folder_whose_name_is_lost_is_not_given_to_another() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server_name"), "").unwrap();
        let error = claim_folder(folder.path(), "a.example").unwrap_err();
        assert!(error.to_string().contains("is empty; write the server name"), "{error}");
    }

    #[test]
    fn a_new_folder_is_its_owners_only_and_an_open_one_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("agencies").join("a.example");
        assert_eq!(prepare_folder(&data).unwrap(), None);
        assert_eq!(std::fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).unwrap();
        let warning = prepare_folder(&data).unwrap().unwrap();
        assert!(warning.contains("mode 0750") && warning.contains(data.to_str().unwrap()), "{warning}");
        assert_eq!(std::fs::metadata(&data).unwrap().mode() & 0o777, 0o750, "it is the operator's to change");
    }
}
