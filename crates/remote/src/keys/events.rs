//! Events of other servers, checked many at a time.

use super::{Keys, KeysError, Needed, ServerKeys};
use rules::Checked;
use rules::incoming::{DropReason, Unverified};
use ruma::OwnedServerName;
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::{PublicKeyMap, PublicKeySet};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many events are checked by one task at a time.
const EVENTS_AT_ONCE: usize = 64;
/// How many of the keys that an event says it is signed with are looked up, for each of its servers.
const KEYS_OF_EVENT_MAX: usize = 5;

impl Keys {
    /// Checks events of a room with these rules: format, signatures and hashes ("Checks performed on receipt of a
    /// PDU", steps 1 to 3). The keys are fetched for all of them at once; the work is done on threads of its own.
    /// Answers in the order of the events.
    pub async fn check_events(&self, rules: &RoomVersionRules, events: Vec<String>) -> Result<Vec<Checked>, KeysError> {
        let read = self.in_parallel(events, {
            let rules = rules.clone();
            move |json: String| Unverified::read(&json, &rules)
        });
        let read = read.await?;
        let mut needed: BTreeMap<OwnedServerName, Vec<Needed>> = BTreeMap::new();
        for event in read.iter().flatten() {
            let valid_at = rules.enforce_key_validity.then(|| event.origin_server_ts());
            for server in event.required_signers() {
                let needed = needed.entry(server.clone()).or_default();
                for key_id in event.key_ids(server.as_str()).take(KEYS_OF_EVENT_MAX) {
                    let key = Needed { key_id: key_id.to_owned(), valid_at };
                    match needed.iter_mut().find(|other| other.key_id == key.key_id) {
                        Some(other) => other.valid_at = other.valid_at.max(key.valid_at),
                        None => needed.push(key),
                    }
                }
            }
        }
        let keys = Arc::new(self.keys_of_all(needed).await?);
        let rules = rules.clone();
        self.in_parallel(read, move |event: Result<Unverified, DropReason>| match event {
            Ok(event) => {
                let keys = keys_for(&event, &rules, &keys);
                event.verify(&rules, &keys)
            }
            Err(reason) => Checked::Drop(reason),
        })
        .await
    }

    /// Does the same work on each, on as many threads as there are cores.
    async fn in_parallel<T, U>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> U + Clone + Send + 'static,
    ) -> Result<Vec<U>, KeysError>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let mut tasks = Vec::new();
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let some: Vec<T> = items.by_ref().take(EVENTS_AT_ONCE).collect();
            let (cores, work) = (self.0.cores.clone(), work.clone());
            tasks.push(tokio::spawn(async move {
                // It is never closed.
                let _core = cores.acquire_owned().await;
                tokio::task::spawn_blocking(move || some.into_iter().map(work).collect::<Vec<U>>()).await
            }));
        }
        let mut done = Vec::new();
        for task in tasks {
            done.extend(task.await??);
        }
        Ok(done)
    }
}

/// The keys with which an event may be signed: those that were valid when it says that it was sent, where the room
/// version asks for that ("Signing key validity period").
fn keys_for(
    event: &Unverified,
    rules: &RoomVersionRules,
    keys: &HashMap<OwnedServerName, Arc<ServerKeys>>,
) -> PublicKeyMap {
    let at = event.origin_server_ts();
    let mut map = PublicKeyMap::new();
    for server in event.required_signers() {
        let Some(known) = keys.get(server) else { continue };
        let mut set = PublicKeySet::new();
        for key_id in event.key_ids(server.as_str()).take(KEYS_OF_EVENT_MAX) {
            let valid = known.get(key_id).filter(|key| !rules.enforce_key_validity || at <= key.valid_until);
            if let Some(key) = valid {
                set.insert(key_id.to_owned(), Base64::<Standard>::new(key.key.clone()));
            }
        }
        map.insert(server.to_string(), set);
    }
    map
}
