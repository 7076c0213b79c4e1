//! Giving out one-time keys, each at most once.
//!
//! All that changes the one-time keys of devices goes through one task: it drains its queue in runs, decides one
//! input after the other, each on top of those before, and commits a run as one batch. So many who claim keys of
//! the same device at the same moment get one each instead of meeting each other's commits. That no key is given
//! out twice does not rest on there being one task: the batch expects the state of each device's keys as it was
//! read, and nobody gets an answer before it is on the disk.

use crate::Error;
use crate::device_keys::{CheckedUpload, NamedKey, keys_of};
use crate::{ATTEMPTS_MAX, Devices};
use records::{Changes, FallbackKey, OneTimeState, Records, SignedKey};
use ruma::{OwnedDeviceId, OwnedUserId};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::CommitError;
use tokio::sync::{mpsc, oneshot};

/// How many one-time keys of each algorithm a device can have on the server.
pub const ONE_TIME_KEYS_MAX: u64 = 1_000;
/// How many algorithms the one-time and fallback keys of a device can have.
pub const ALGORITHMS_MAX: usize = 8;
/// How many keys one request can claim.
pub const CLAIMS_MAX: usize = 5_000;
/// For how many more claims a key is known that was given out. Devices upload fewer at once.
const REMEMBERED: u64 = 100;
/// How many inputs wait.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// How many inputs are decided in one run at most.
const RUN_MAX: usize = 1_024;
/// About how many bytes a run writes before it is committed.
const RUN_BYTES_MAX: usize = 1024 * 1024;
/// About how much a claim writes, in bytes.
const CLAIM_BYTES: usize = 1_500;

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub user_id: OwnedUserId,
    /// Of which device.
    pub device_id: OwnedDeviceId,
    /// Of which algorithm.
    pub algorithm: String,
}

/// A key that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedKey {
    /// Its name, `<algorithm>:<key id>`.
    pub name: String,
    /// The key as JSON.
    pub key: String,
}

/// How many one-time keys a device has on the server, by algorithm.
pub type KeyCounts = BTreeMap<String, u64>;

/// What the task does.
pub(crate) enum Input {
    Upload(Box<CheckedUpload>, oneshot::Sender<Result<KeyCounts, Error>>),
    Claim(Vec<Claim>, oneshot::Sender<Result<Vec<Option<ClaimedKey>>, Error>>),
}

/// What the task has decided on an input.
enum Decided {
    Upload(Result<KeyCounts, Error>),
    Claim(Vec<Option<ClaimedKey>>),
}

impl Devices {
    /// Gives out keys of devices of this agency, in the order of the claims: the one-time key that was uploaded
    /// first, else the fallback key, else none. A one-time key is given out once, whatever happens.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for more than [`CLAIMS_MAX`] claims.
    pub async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Option<ClaimedKey>>, Error> {
        if claims.len() > CLAIMS_MAX {
            return Err(Error::TooLarge("the number of claimed keys"));
        }
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.0.one_time.send(Input::Claim(claims, answer)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }

    pub(crate) async fn upload_checked(&self, upload: CheckedUpload) -> Result<KeyCounts, Error> {
        let (answer, answered) = oneshot::channel();
        self.0.one_time.send(Input::Upload(Box::new(upload), answer)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }
}

/// The one-time keys of a device, by algorithm. The algorithm that all clients use is always among them: some
/// make no new keys unless they are told that there are none.
#[must_use]
pub fn key_counts(state: &OneTimeState) -> KeyCounts {
    let mut counts = KeyCounts::from([("signed_curve25519".to_owned(), 0)]);
    counts.extend(state.queues.iter().map(|(algorithm, queue)| (algorithm.clone(), queue.count())));
    counts
}

/// Does what is asked until nobody can ask any more.
pub(crate) async fn run(records: Records, mut inputs: mpsc::Receiver<Input>) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() && inputs.recv_many(&mut waiting, RUN_MAX).await == 0 {
            return;
        }
        let rest = waiting.split_off(run_length(&waiting));
        settle(&records, std::mem::replace(&mut waiting, rest)).await;
    }
}

/// How many of these inputs make a run: at least one.
fn run_length(inputs: &[Input]) -> usize {
    let mut bytes = 0;
    for (index, input) in inputs.iter().enumerate() {
        bytes += match input {
            Input::Upload(upload, _) => upload.weight(),
            Input::Claim(claims, _) => claims.len() * CLAIM_BYTES,
        };
        if bytes > RUN_BYTES_MAX && index > 0 {
            return index;
        }
    }
    inputs.len()
}

/// Decides inputs on one view, commits them as one batch and answers them.
async fn settle(records: &Records, inputs: Vec<Input>) {
    for _ in 0..ATTEMPTS_MAX {
        let mut changes = records.changes(&records.view());
        let decided: Result<Vec<Decided>, Error> = inputs.iter().map(|input| decide(&mut changes, input)).collect();
        let decided = match decided {
            Ok(decided) => decided,
            Err(error) => return refuse(inputs, error),
        };
        if !changes.is_empty() {
            match records.commit(changes).await {
                Ok(_) => {}
                Err(CommitError::Conflict) => continue,
                Err(error) => return refuse(inputs, error.into()),
            }
        }
        for (input, decided) in inputs.into_iter().zip(decided) {
            // Who has hung up needs no answer; the key that they claimed is lost, not given out again.
            match (input, decided) {
                (Input::Upload(_, answer), Decided::Upload(counts)) => drop(answer.send(counts)),
                (Input::Claim(_, answer), Decided::Claim(keys)) => drop(answer.send(Ok(keys))),
                (Input::Upload(..), Decided::Claim(_)) | (Input::Claim(..), Decided::Upload(_)) => {}
            }
        }
        return;
    }
    refuse(inputs, Error::Contended);
}

/// Answers all inputs with an error that none of them has caused alone.
fn refuse(inputs: Vec<Input>, error: Error) {
    let error = Arc::new(error);
    for input in inputs {
        let error = Error::Shared(error.clone());
        match input {
            Input::Upload(_, answer) => drop(answer.send(Err(error))),
            Input::Claim(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

fn decide(changes: &mut Changes, input: &Input) -> Result<Decided, Error> {
    match input {
        Input::Upload(upload, _) => {
            if changes.view().device(&upload.user_id, &upload.device_id)?.is_none() {
                return Ok(Decided::Upload(Err(Error::NoSuchDevice)));
            }
            match take_upload(changes, upload) {
                Err(error) if error.is_internal() => Err(error),
                counts => Ok(Decided::Upload(counts)),
            }
        }
        Input::Claim(claims, _) => {
            let keys = claims.iter().map(|claim| give(changes, claim)).collect::<Result<_, _>>()?;
            Ok(Decided::Claim(keys))
        }
    }
}

fn give(changes: &mut Changes, claim: &Claim) -> Result<Option<ClaimedKey>, Error> {
    let Claim { user_id, device_id, algorithm } = claim;
    let mut state = changes.one_time_state(user_id, device_id)?;
    let taken = changes.take_one_time_key(user_id, device_id, &mut state, algorithm, REMEMBERED)?;
    if let Some((key_id, key)) = taken {
        changes.put_one_time_state(user_id, device_id, &state)?;
        return Ok(Some(ClaimedKey { name: format!("{algorithm}:{key_id}"), key }));
    }
    let Some(fallback) = state.fallback.get_mut(algorithm) else { return Ok(None) };
    let claimed = ClaimedKey { name: format!("{algorithm}:{}", fallback.key_id), key: fallback.key.clone() };
    if !std::mem::replace(&mut fallback.used, true) {
        changes.put_one_time_state(user_id, device_id, &state)?;
    }
    Ok(Some(claimed))
}

/// Takes an upload for a device that exists after these changes. Nothing is written before all of it was found to be right.
pub(crate) fn take_upload(changes: &mut Changes, upload: &CheckedUpload) -> Result<KeyCounts, Error> {
    let (user, device) = (&*upload.user_id, &*upload.device_id);
    let before = changes.one_time_state(user, device)?;
    let known = changes.device_keys(user, device)?;
    let is_other = match (&upload.identity, &known) {
        (Some(identity), Some(known)) => {
            identity.signed.object != known.object && identity.keys != keys_of(&known.object)
        }
        _ => false,
    };
    let new = if is_other { upload.one_time.iter().collect() } else { new_keys(changes, upload, &before)? };
    let fresh = OneTimeState::default();
    let base = if is_other { &fresh } else { &before };
    check_limits(base, &new, &upload.fallback)?;

    changes.expect_device(user, device)?;
    if let Some(identity) = &upload.identity {
        let keys = merged(&identity.signed, known.as_ref());
        if known.as_ref() != Some(&keys) {
            changes.put_device_keys(user, device, &keys)?;
            changes.change_device_list(user)?;
        }
    }
    // Keys that another identity has signed are of no use to anybody.
    let mut state = if is_other { changes.drop_one_time_keys(user, device, &before) } else { before.clone() };
    for key in new {
        let (name, value) = ((key.algorithm.as_str(), key.key_id.as_str()), (key.key.as_str(), key.digest));
        changes.add_one_time_key(user, device, &mut state, name, value);
    }
    for key in &upload.fallback {
        let (key_id, json) = (key.key_id.clone(), key.key.clone());
        let same = state.fallback.get(&key.algorithm).is_some_and(|it| it.key_id == key_id && it.key == json);
        if !same {
            state.fallback.insert(key.algorithm.clone(), FallbackKey { key_id, key: json, used: false });
        }
    }
    if state != before {
        changes.put_one_time_state(user, device, &state)?;
    }
    Ok(key_counts(&state))
}

/// The one-time keys of an upload that the server does not have yet, nor has given out.
fn new_keys<'u>(
    changes: &Changes,
    upload: &'u CheckedUpload,
    state: &OneTimeState,
) -> Result<Vec<&'u NamedKey>, Error> {
    let mut new = Vec::new();
    for key in &upload.one_time {
        let (user, device) = (&upload.user_id, &upload.device_id);
        match changes.one_time_digest(user, device, state, &key.algorithm, &key.key_id)? {
            None => new.push(key),
            Some(digest) if digest == key.digest => {}
            Some(_) => return Err(Error::KeyExists(format!("{}:{}", key.algorithm, key.key_id))),
        }
    }
    Ok(new)
}

fn check_limits(state: &OneTimeState, new: &[&NamedKey], fallback: &[NamedKey]) -> Result<(), Error> {
    let mut counts: BTreeMap<&str, u64> =
        state.queues.iter().map(|(algorithm, queue)| (algorithm.as_str(), queue.count())).collect();
    for key in new {
        let count = counts.entry(&key.algorithm).or_default();
        *count += 1;
        if *count > ONE_TIME_KEYS_MAX {
            return Err(Error::TooLarge("the number of one-time keys"));
        }
    }
    let algorithms = state.fallback.keys().map(String::as_str).chain(fallback.iter().map(|key| key.algorithm.as_str()));
    counts.extend(algorithms.map(|algorithm| (algorithm, 0)));
    if counts.len() > ALGORITHMS_MAX { Err(Error::TooLarge("the number of algorithms")) } else { Ok(()) }
}

/// Identity keys with what was signed of them before: a device that uploads the same again has not seen who
/// signed it meanwhile.
fn merged(new: &SignedKey, known: Option<&SignedKey>) -> SignedKey {
    let mut merged = new.clone();
    if let Some(known) = known.filter(|known| known.object == new.object) {
        for (key_id, signature) in &known.signatures {
            merged.signatures.entry(key_id.clone()).or_insert_with(|| signature.clone());
        }
    }
    merged
}
