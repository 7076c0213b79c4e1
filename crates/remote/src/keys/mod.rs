//! The keys with which servers sign: this server's own as it publishes them, and those of others, fetched when
//! they are needed, kept in the store, and believed for as long as they are valid.
//!
//! Signatures are checked here: of requests, of events, of what servers publish. What a signed thing means is for
//! others.

mod document;
mod events;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::peers::{Body, Call, Peers};
use crate::signing::{XMatrix, signed_text};
use base::{Clock, UnixMillis};
use document::Document;
use futures::StreamExt;
use quick_cache::sync::Cache;
use records::{PublishedKeysRecord, Records, RecordsError, ServerKeyRecord};
use rules::{KeyRing, signed};
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use store::CommitError;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

/// How many servers' keys are held in memory.
const SERVERS_MAX: usize = 20_000;
/// How many servers are asked for their keys at once by one caller.
const FETCHES_AT_ONCE: usize = 32;
/// The largest document of keys that is read.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// The largest answer of a notary that is read.
const NOTARY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many servers a notary is asked of at once.
const NOTARY_SERVERS_MAX: usize = 50;
/// How long a server may take to say what its keys are.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server is not asked again that has just said what its keys are.
const FETCH_AGAIN: Duration = Duration::from_mins(1);
/// The longest time for which a key is believed, whatever its server says (server-server API, "Publishing Keys").
const VALID_MAX: Duration = Duration::from_hours(7 * 24);
/// The most `Authorization` headers of a request that are looked at.
const HEADERS_MAX: usize = 5;

/// Why keys could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The store did not take what was fetched.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A task has ended without an answer.
    #[error("the signatures were not checked: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

/// Why a request is not believed to come from a server.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It has no signature.
    #[error("the request is not signed: it needs a header Authorization: X-Matrix")]
    Missing,
    /// The header can't be read, or the body is no JSON object.
    #[error("the request's signature can't be read")]
    Malformed,
    /// It is for another server.
    #[error("the request is for the server {0}")]
    Destination(OwnedServerName),
    /// It claims to come from this server.
    #[error("the request claims to come from this server")]
    Itself,
    /// The key is not known, and can't be fetched.
    #[error("the key {key} of {server} is not known")]
    UnknownKey {
        /// The server.
        server: OwnedServerName,
        /// The id of the key.
        key: String,
    },
    /// The signature is not right.
    #[error("the signature of {0} is wrong")]
    BadSignature(OwnedServerName),
    /// The server is at fault.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// A request, as its signature has it.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and the query, as they were sent.
    pub uri: &'a str,
    /// The body; empty if there is none.
    pub body: &'a str,
}

/// The keys of servers. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    peers: Peers,
    ring: KeyRing,
    records: Records,
    clock: Arc<dyn Clock>,
    notaries: Vec<OwnedServerName>,
    lifetime: Duration,
    known: Cache<OwnedServerName, Arc<ServerKeys>>,
    fetches: Cache<OwnedServerName, Arc<Fetch>>,
    /// Held by those who check signatures: no more than there are cores.
    cores: Arc<Semaphore>,
}

/// The keys of a server by their ids.
pub(crate) type ServerKeys = HashMap<String, ServerKeyRecord>;

/// A server is being asked, or was: whether it has answered, and when.
type Fetch = OnceCell<(Fetched, Instant)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    Known,
    Failed,
}

/// A key that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    pub key_id: String,
    /// The time at which it must have been valid; `None` if it may be any.
    pub valid_at: Option<UnixMillis>,
}

impl Needed {
    fn is_met_by(&self, keys: &ServerKeys) -> bool {
        keys.get(&self.key_id).is_some_and(|key| self.valid_at.is_none_or(|at| at <= key.valid_until))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// The keys that are in these records, and those of this server.
    #[must_use]
    pub fn new(config: &Config, peers: Peers, ring: KeyRing, records: Records, clock: Arc<dyn Clock>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Inner {
            peers,
            ring,
            records,
            clock,
            notaries: config.notary_names(),
            lifetime: config.key_lifetime,
            known: Cache::new(SERVERS_MAX),
            fetches: Cache::new(SERVERS_MAX),
            cores: Arc::new(Semaphore::new(cores)),
        }))
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        self.0.peers.server_name()
    }

    /// This server's keys.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.0.ring
    }

    /// What this server publishes of its keys, signed (server-server API, `GET /_matrix/key/v2/server`).
    #[must_use]
    pub fn own(&self) -> String {
        document::own(&self.0.ring, self.0.clock.now().after(self.0.lifetime))
    }

    /// Whether a request comes from the server that it says, which is answered. Its `Authorization` headers are
    /// read as the specification says ("Request Authentication"); others than X-Matrix are passed over.
    pub async fn verify_request<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a str>,
        request: SignedRequest<'_>,
    ) -> Result<OwnedServerName, RequestError> {
        let is_ours = |header: &&str| header.trim_start().get(..8).is_some_and(|s| s.eq_ignore_ascii_case("x-matrix"));
        let headers: Vec<&str> = headers.into_iter().filter(is_ours).take(HEADERS_MAX).collect();
        if headers.is_empty() {
            return Err(RequestError::Missing);
        }
        let read: Option<Vec<XMatrix>> = headers.into_iter().map(XMatrix::parse).collect();
        let signatures = read.ok_or(RequestError::Malformed)?;
        let origin = signatures.first().ok_or(RequestError::Missing)?.origin.clone();
        if signatures.iter().any(|signature| signature.origin != origin) {
            return Err(RequestError::Malformed);
        }
        if let Some(other) =
            signatures.iter().filter_map(|s| s.destination.as_deref()).find(|d| *d != self.server_name())
        {
            return Err(RequestError::Destination(other.to_owned()));
        }
        if origin == self.server_name() {
            return Err(RequestError::Itself);
        }
        let content = match request.body {
            "" => None,
            body => Some(signed::canonical_request(body).ok_or(RequestError::Malformed)?),
        };
        let now = self.0.clock.now();
        let needed = signatures.iter().map(|s| Needed { key_id: s.key.clone(), valid_at: Some(now) }).collect();
        let keys = self.keys_of(&origin, needed).await?;
        // Whoever speaks to a server that signs with a new key can't know it before: one of them is enough.
        let mut unknown = None;
        for signature in &signatures {
            let valid = keys.get(&signature.key).filter(|key| now <= key.valid_until);
            let Some(key) = valid else {
                unknown = Some(signature.key.clone());
                continue;
            };
            let text = signed_text(&origin, self.server_name(), request.method, request.uri, content.as_deref());
            let public = Base64::<Standard, _>::new(key.key.as_slice()).encode();
            if !signed::is_signed(&text, &public, &signature.sig) {
                return Err(RequestError::BadSignature(origin));
            }
            self.0.peers.heard_from(&origin);
            return Ok(origin);
        }
        Err(RequestError::UnknownKey { server: origin, key: unknown.unwrap_or_default() })
    }

    /// Whether a server has signed a JSON object, and it alone is asked about: third-party invitations, key
    /// documents and the like. `None`: the object can't be read.
    pub async fn has_signed(&self, server: &ServerName, json: &str) -> Result<bool, KeysError> {
        let Some(object) = signed::SignedObject::parse(json) else { return Ok(false) };
        let signatures = object.signatures_of(server.as_str());
        let needed = signatures.keys().map(|id| Needed { key_id: id.clone(), valid_at: Some(self.0.clock.now()) });
        let keys = self.keys_of(server, needed.collect()).await?;
        Ok(signatures.iter().any(|(id, signature)| {
            let key = keys.get(id).map(|key| Base64::<Standard, _>::new(key.key.as_slice()).encode());
            key.is_some_and(|key| signed::is_signed(object.text(), &key, signature))
        }))
    }

    /// What a server has published of its keys, as it has signed it, valid until at least a time if that can be
    /// had: for those who ask this server as a notary. `None`: nothing is known of it.
    pub async fn published(&self, server: &ServerName, valid_until: UnixMillis) -> Result<Option<String>, KeysError> {
        if server == self.server_name() {
            return Ok(Some(self.own()));
        }
        let known = self.0.records.view().published_keys(server)?;
        let now = self.0.clock.now();
        if let Some(known) = &known {
            let half = known.fetched_at.after(known.valid_until.since(known.fetched_at) / 2);
            if known.valid_until >= valid_until && now < half {
                return Ok(Some(known.json.clone()));
            }
        }
        self.fetch(server).await;
        let known = self.0.records.view().published_keys(server)?.or(known);
        Ok(known.map(|known| known.json))
    }

    /// The keys of servers, fetched where those that are known don't do. What can't be had is left out.
    pub(crate) async fn keys_of_all(
        &self,
        needed: BTreeMap<OwnedServerName, Vec<Needed>>,
    ) -> Result<HashMap<OwnedServerName, Arc<ServerKeys>>, KeysError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for (server, needed) in needed {
            let keys = self.known(&server)?;
            if needed.iter().all(|needed| needed.is_met_by(&keys)) {
                found.insert(server, keys);
            } else {
                missing.push((server, needed));
            }
        }
        futures::stream::iter(&missing)
            .for_each_concurrent(FETCHES_AT_ONCE, |(server, _)| async move {
                self.fetch(server).await;
            })
            .await;
        let mut unmet = BTreeMap::new();
        for (server, needed) in missing {
            let keys = self.known(&server)?;
            if !needed.iter().all(|needed| needed.is_met_by(&keys)) {
                unmet.insert(server.clone(), needed);
            }
            found.insert(server, keys);
        }
        if !unmet.is_empty() && !self.0.notaries.is_empty() {
            self.ask_notaries(&unmet).await;
            for server in unmet.into_keys() {
                let keys = self.known(&server)?;
                found.insert(server, keys);
            }
        }
        Ok(found)
    }

    async fn keys_of(&self, server: &ServerName, needed: Vec<Needed>) -> Result<Arc<ServerKeys>, KeysError> {
        let mut found = self.keys_of_all(BTreeMap::from([(server.to_owned(), needed)])).await?;
        Ok(found.remove(server).unwrap_or_default())
    }

    /// The keys of a server that are known.
    fn known(&self, server: &ServerName) -> Result<Arc<ServerKeys>, KeysError> {
        if server == self.server_name() {
            return Ok(Arc::new(document::own_keys(&self.0.ring)));
        }
        if let Some(known) = self.0.known.get(server) {
            return Ok(known);
        }
        let known: Arc<ServerKeys> = Arc::new(self.0.records.view().server_keys(server)?.into_iter().collect());
        self.0.known.insert(server.to_owned(), known.clone());
        Ok(known)
    }

    /// Asks a server for its keys, unless it has just answered. Those who ask at once share the answer.
    async fn fetch(&self, server: &ServerName) {
        if server == self.server_name() {
            return;
        }
        let current = self.0.fetches.get(server).filter(|fetch| match fetch.get() {
            None => true,
            Some((outcome, at)) => *outcome == Fetched::Known && at.elapsed() < FETCH_AGAIN,
        });
        let fetch = current.unwrap_or_else(|| {
            let fetch = Arc::<Fetch>::default();
            self.0.fetches.insert(server.to_owned(), fetch.clone());
            fetch
        });
        fetch
            .get_or_init(|| async {
                let outcome = match self.ask(server).await {
                    Ok(()) => Fetched::Known,
                    Err(error) => {
                        tracing::debug!(%server, error, "the keys of a server can't be fetched");
                        Fetched::Failed
                    }
                };
                (outcome, Instant::now())
            })
            .await;
    }

    async fn ask(&self, server: &ServerName) -> Result<(), String> {
        let call = Call::get("/_matrix/key/v2/server").timeout(FETCH_TIMEOUT).body_bytes_max(DOCUMENT_BYTES_MAX);
        let answer = self.0.peers.send(server, call).await.map_err(|error| error.to_string())?;
        let json = std::str::from_utf8(&answer).map_err(|error| error.to_string())?;
        let document = Document::read(json).ok_or("the keys are not signed as they must be")?;
        if document.server_name != server {
            return Err(format!("the keys are those of {}", document.server_name));
        }
        self.keep(vec![document]).await.map_err(|error| error.to_string())
    }

    /// Keeps what servers have published.
    async fn keep(&self, documents: Vec<Document>) -> Result<(), KeysError> {
        let now = self.0.clock.now();
        let believed_until = now.after(VALID_MAX);
        let mut changes = self.0.records.changes(&self.0.records.view());
        let mut servers = Vec::new();
        for document in documents {
            let server = &document.server_name;
            for (key_id, key) in &document.keys {
                let valid_until = match key.expired_at {
                    Some(expired_at) => expired_at.min(now),
                    None => document.valid_until.min(believed_until),
                };
                let record = ServerKeyRecord { key: key.bytes.clone(), valid_until };
                changes.put_server_key(server, key_id, &record);
            }
            let record =
                PublishedKeysRecord { json: document.json, fetched_at: now, valid_until: document.valid_until };
            changes.put_published_keys(server, &record);
            servers.push(document.server_name);
        }
        self.0.records.commit(changes).await?;
        for server in servers {
            self.0.known.remove(&server);
        }
        Ok(())
    }

    /// Asks the notaries for keys that their servers don't give.
    async fn ask_notaries(&self, needed: &BTreeMap<OwnedServerName, Vec<Needed>>) {
        let servers: Vec<_> = needed.iter().collect();
        for notary in &self.0.notaries {
            for servers in servers.chunks(NOTARY_SERVERS_MAX) {
                if let Err(error) = self.ask_notary(notary, servers).await {
                    tracing::warn!(%notary, error, "a notary can't be asked for keys");
                    break;
                }
            }
        }
    }

    async fn ask_notary(
        &self,
        notary: &ServerName,
        servers: &[(&OwnedServerName, &Vec<Needed>)],
    ) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }

        let criteria = |needed: &Vec<Needed>| {
            let of = |needed: &Needed| match needed.valid_at {
                Some(at) => json!({ "minimum_valid_until_ts": at.0 }),
                None => json!({}),
            };
            needed.iter().map(|needed| (needed.key_id.clone(), of(needed))).collect::<serde_json::Map<_, _>>()
        };
        let wanted: serde_json::Map<_, _> =
            servers.iter().map(|(server, needed)| (server.to_string(), criteria(needed).into())).collect();
        let body = Body::of(&json!({ "server_keys": wanted })).ok_or("the question can't be written")?;
        let call = Call::post("/_matrix/key/v2/query", body).body_bytes_max(NOTARY_BYTES_MAX);
        let answer = self.0.peers.send(notary, call).await.map_err(|error| error.to_string())?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        // The notary's own keys are fetched from itself.
        self.fetch(notary).await;
        let notary_keys = self.known(notary).map_err(|error| error.to_string())?;
        let mut documents = Vec::new();
        for json in answer.server_keys.into_iter().take(NOTARY_SERVERS_MAX * 4) {
            let Some(document) = Document::read(json.get()) else { continue };
            let wanted = servers.iter().any(|(server, _)| **server == document.server_name);
            let now = self.0.clock.now();
            if wanted && document.is_signed_by(notary, &notary_keys, now) {
                documents.push(document);
            }
        }
        self.keep(documents).await.map_err(|error| error.to_string())
    }
}
