//! The devices and keys of other servers' users (server-server API, "End-to-End Encryption").
//!
//! What a server says of a user's keys is kept for as long as it tells of changes: while the user is in a room with
//! somebody here, and no change was told since.

use crate::ask::{Path, Patience, SOME};
use crate::{Federation, FederationError};
use base::UnixMillis;
use futures::StreamExt as _;
use records::{Membership, RemoteDevices, View};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many servers are asked for keys at the same time by one request.
const SERVERS_AT_ONCE: usize = 16;
/// How long a server's word on a user's keys is kept at most.
const KEPT: Duration = Duration::from_hours(24);
/// The most keys of one user that are kept, in bytes.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// The shortest and the longest time that other servers are waited for.
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What other servers say of the keys of their users, and why some say nothing.
#[derive(Debug, Default)]
pub struct RemoteKeys {
    /// Identity keys by user and device.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
    /// Master keys by user.
    pub master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// Self-signing keys by user.
    pub self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// The servers that did not answer, with an error each.
    pub failures: Map<String, Value>,
}

/// One-time keys by device, each an object of one key by its name.
pub type ClaimedOf = BTreeMap<OwnedDeviceId, Box<RawValue>>;

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "as the answer names them")]
struct Answer {
    #[serde(default)]
    device_keys: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    #[serde(default)]
    self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
}

impl Federation {
    /// The keys of users of other servers, of these devices or of all where there is none.
    ///
    /// # Errors
    ///
    /// If the records can't be read. Servers that don't answer are among the failures.
    pub async fn query_keys(
        &self,
        asked: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
        timeout: Duration,
    ) -> Result<RemoteKeys, FederationError> {
        let mut keys = RemoteKeys::default();
        let mut unknown: BTreeMap<OwnedServerName, Vec<OwnedUserId>> = BTreeMap::new();
        {
            let view = self.0.records.view();
            for user in asked.keys().filter(|user| self.is_remote(user.server_name())) {
                match view.remote_devices(user)?.filter(|kept| self.is_current(&view, user, kept)) {
                    Some(kept) => keys.add_kept(user, kept),
                    None => unknown.entry(user.server_name().to_owned()).or_default().push(user.clone()),
                }
            }
        }
        let patience = Patience { timeout: timeout.clamp(TIMEOUTS.0, TIMEOUTS.1), ..SOME };
        let answers = futures::stream::iter(unknown).map(|(server, users)| async move {
            let answer = self.ask_for_keys(&server, &users, patience).await;
            (server, users, answer)
        });
        let mut answers = std::pin::pin!(answers.buffer_unordered(SERVERS_AT_ONCE));
        while let Some((server, users, answer)) = answers.next().await {
            match answer {
                Ok(mut answer) => {
                    for user in users {
                        self.add_answer(&mut keys, &user, &mut answer).await;
                    }
                }
                Err(error) => {
                    tracing::info!(%server, %error, "a server does not say the keys of its users");
                    keys.failures.insert(server.to_string(), failure(&error));
                }
            }
        }
        for (user, devices) in asked.iter().filter(|(_, devices)| !devices.is_empty()) {
            if let Some(found) = keys.device_keys.get_mut(user) {
                found.retain(|device, _| devices.iter().any(|wanted| wanted.as_str() == device));
            }
        }
        Ok(keys)
    }

    async fn ask_for_keys(
        &self,
        server: &ServerName,
        users: &[OwnedUserId],
        patience: Patience,
    ) -> Result<Answer, FederationError> {
        let device_keys: BTreeMap<&OwnedUserId, Vec<String>> = users.iter().map(|user| (user, Vec::new())).collect();
        let path = Path::new("/_matrix/federation/v1/user/keys/query");
        crate::ask::read(&self.post(server, path, &json!({ "device_keys": device_keys }), patience).await?)
    }

    /// Takes over what a server says of one of its users: keys that are of that user and device.
    async fn add_answer(&self, keys: &mut RemoteKeys, user: &UserId, answer: &mut Answer) {
        #[derive(Deserialize)]
        struct Keys {
            user_id: OwnedUserId,
            device_id: Option<String>,
        }
        let fits = |json: &RawValue, device: Option<&str>| {
            serde_json::from_str::<Keys>(json.get())
                .is_ok_and(|keys| keys.user_id == user && device.is_none_or(|id| keys.device_id.as_deref() == Some(id)))
        };
        let mut devices = answer.device_keys.remove(user).unwrap_or_default();
        devices.retain(|device, json| fits(json, Some(device)));
        let master = answer.master_keys.remove(user).filter(|json| fits(json, None));
        let self_signing = answer.self_signing_keys.remove(user).filter(|json| fits(json, None));
        let text = |json: &RawValue| json.get().to_owned();
        let kept = RemoteDevices {
            changed: None,
            asked_at: self.0.clock.now(),
            devices: devices.iter().map(|(device, json)| (device.clone(), text(json))).collect(),
            master: master.as_deref().map(text),
            self_signing: self_signing.as_deref().map(text),
        };
        if let Err(error) = self.keep(user, kept).await {
            tracing::debug!(%user, %error, "what a server says of a user's keys is not kept");
        }
        keys.device_keys.insert(user.to_owned(), devices);
        keys.master_keys.extend(master.map(|key| (user.to_owned(), key)));
        keys.self_signing_keys.extend(self_signing.map(|key| (user.to_owned(), key)));
    }

    async fn keep(&self, user: &UserId, kept: RemoteDevices) -> Result<(), FederationError> {
        let view = self.0.records.view();
        let bytes: usize = kept.devices.values().map(String::len).sum();
        if bytes > KEPT_BYTES_MAX || !self.shares_a_room(&view, user)? {
            return Ok(());
        }
        let mut changes = self.0.records.changes(&view);
        let changed = view.device_list_changed(user)?;
        changes.put_remote_devices(user, &RemoteDevices { changed, ..kept })?;
        changes.derived();
        self.0.records.commit(changes).await?;
        Ok(())
    }

    /// Whether what is kept of a user's keys is what their server would say now.
    fn is_current(&self, view: &View, user: &UserId, kept: &RemoteDevices) -> bool {
        let now: UnixMillis = self.0.clock.now();
        let unchanged = view.device_list_changed(user).is_ok_and(|changed| changed == kept.changed);
        unchanged && now.since(kept.asked_at) < KEPT && self.shares_a_room(view, user).unwrap_or(false)
    }

    /// Whether a user of another server is in a room that this server takes part in: then changes of their devices are
    /// told.
    fn shares_a_room(&self, view: &View, user: &UserId) -> Result<bool, FederationError> {
        for (room, _, record) in view.memberships(user)? {
            if record.membership == Membership::Join && view.joined_of_server(room, self.server_name())? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One-time keys of devices of other servers' users, and the servers that gave none, with an error each.
    pub async fn claim_keys(
        &self,
        asked: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
        timeout: Duration,
    ) -> (BTreeMap<OwnedUserId, ClaimedOf>, Map<String, Value>) {
        #[derive(Deserialize)]
        struct Claimed {
            #[serde(default)]
            one_time_keys: BTreeMap<OwnedUserId, ClaimedOf>,
        }
        let mut by_server: BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>> =
            BTreeMap::new();
        for (user, devices) in asked.into_iter().filter(|(user, _)| self.is_remote(user.server_name())) {
            by_server.entry(user.server_name().to_owned()).or_default().insert(user, devices);
        }
        let patience = Patience { timeout: timeout.clamp(TIMEOUTS.0, TIMEOUTS.1), ..SOME };
        let answers = futures::stream::iter(by_server).map(|(server, asked)| async move {
            let path = Path::new("/_matrix/federation/v1/user/keys/claim");
            let answer = self.post(&server, path, &json!({ "one_time_keys": asked }), patience).await;
            let claimed = answer.and_then(|answer| crate::ask::read::<Claimed>(&answer));
            (server, asked, claimed)
        });
        let (mut keys, mut failures) = (BTreeMap::new(), Map::new());
        let mut answers = std::pin::pin!(answers.buffer_unordered(SERVERS_AT_ONCE));
        while let Some((server, asked, claimed)) = answers.next().await {
            match claimed {
                Ok(claimed) => {
                    for (user, mut devices) in claimed.one_time_keys {
                        // Nobody speaks for others' users, nor gives what was not asked for.
                        if let Some(wanted) = asked.get(&user) {
                            devices.retain(|device, _| wanted.contains_key(device));
                            keys.insert(user, devices);
                        }
                    }
                }
                Err(error) => drop(failures.insert(server.to_string(), failure(&error))),
            }
        }
        (keys, failures)
    }
}

impl RemoteKeys {
    fn add_kept(&mut self, user: &UserId, kept: RemoteDevices) {
        let raw = |json: String| RawValue::from_string(json).ok();
        let devices = kept.devices.into_iter().filter_map(|(device, json)| Some((device, raw(json)?)));
        self.device_keys.insert(user.to_owned(), devices.collect());
        self.master_keys.extend(kept.master.and_then(raw).map(|key| (user.to_owned(), key)));
        self.self_signing_keys.extend(kept.self_signing.and_then(raw).map(|key| (user.to_owned(), key)));
    }
}

fn failure(error: &FederationError) -> Value {
    json!({ "errcode": "M_UNKNOWN", "error": error.to_string() })
}
