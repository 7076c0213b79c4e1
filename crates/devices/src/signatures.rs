//! Signatures that are uploaded after the keys (client-server API, `POST /keys/signatures/upload`).

use crate::cross_signing::{SIGNATURES_MAX, device_key, public_key_of};
use crate::device_keys::{IDENTITY_KEYS_BYTES_MAX, keys_of};
use crate::{Devices, Error};
use records::{Changes, SignedKey, UserSignature};
use rules::signed::{self, SignedObject};
use ruma::{DeviceId, OwnedUserId, UserId};
use std::collections::BTreeMap;

/// How many keys one request can sign.
pub const SIGNED_KEYS_MAX: usize = 1_000;

/// Signed keys by their owner and id, each as JSON: a device by its id, a master key by its public key.
pub type SignedKeys = BTreeMap<OwnedUserId, BTreeMap<String, String>>;

/// Why a signature was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFailure {
    /// There is no such key: `M_NOT_FOUND`.
    NoSuchKey,
    /// The key is another than the one that is stored, or a signature is wrong or missing:
    /// `M_INVALID_SIGNATURE`.
    Invalid(&'static str),
    /// The key is not for the user to sign: `M_FORBIDDEN`.
    NotTheirs,
    /// It is too large, or has too many signatures: `M_TOO_LARGE`.
    TooLarge,
}

/// What was not taken, by the key's owner and id.
pub type SignatureFailures = BTreeMap<OwnedUserId, BTreeMap<String, SignatureFailure>>;

/// What a signature changes.
enum Signed {
    /// Nothing: it is known.
    Known,
    /// A key of the signer.
    Own,
    /// The master key of another user, as the signer sees it.
    Others(OwnedUserId, UserSignature),
}

type Verdict = Result<Signed, SignatureFailure>;

impl Devices {
    /// Stores what a user has signed: devices of theirs by the self-signing key, their master key by devices, and
    /// master keys of others by the user-signing key. Each signature is verified, and each is taken or not by
    /// itself. What one signs of others' keys is seen, and heard of, by oneself alone.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for more than [`SIGNED_KEYS_MAX`] keys.
    pub async fn upload_signatures(&self, signer: &UserId, keys: &SignedKeys) -> Result<SignatureFailures, Error> {
        if keys.values().map(BTreeMap::len).sum::<usize>() > SIGNED_KEYS_MAX {
            return Err(Error::TooLarge("the number of signed keys"));
        }
        self.change(|changes| {
            let (mut failures, mut others, mut is_own) = (SignatureFailures::new(), Vec::new(), false);
            for (user, keys) in keys {
                for (id, json) in keys {
                    match sign(changes, signer, user, id, json)? {
                        Ok(Signed::Known) => {}
                        Ok(Signed::Own) => is_own = true,
                        Ok(Signed::Others(user, signature)) => others.push((user, signature)),
                        Err(failure) => {
                            failures.entry(user.clone()).or_default().insert(id.clone(), failure);
                        }
                    }
                }
            }
            if is_own {
                changes.change_device_list(signer)?;
            }
            if !others.is_empty() {
                // The user-signing key that made them must still be the one.
                let own = changes.cross_signing(signer)?;
                changes.put_cross_signing(signer, &own)?;
                changes.put_user_signatures(signer, &others);
            }
            Ok(failures)
        })
        .await
    }
}

fn sign(changes: &mut Changes, signer: &UserId, user: &UserId, id: &str, json: &str) -> Result<Verdict, Error> {
    if json.len() > IDENTITY_KEYS_BYTES_MAX {
        return Ok(Err(SignatureFailure::TooLarge));
    }
    let Some(object) = SignedObject::parse(json) else {
        return Ok(Err(SignatureFailure::Invalid("not an object that can be signed")));
    };
    let mut record = changes.cross_signing(user)?;
    let is_master = record.master.as_ref().and_then(|key| public_key_of(&key.object)).is_some_and(|key| key == id);
    if user != signer {
        let Some(master) = record.master.as_ref().filter(|_| is_master) else {
            let is_device = changes.device_keys(user, <&DeviceId>::from(id))?.is_some();
            let failure = if is_device { SignatureFailure::NotTheirs } else { SignatureFailure::NoSuchKey };
            return Ok(Err(failure));
        };
        return sign_other(changes, signer, user, id, (master, &object));
    }
    if is_master {
        let Some(master) = &mut record.master else { return Ok(Err(SignatureFailure::NoSuchKey)) };
        let view = changes.view().clone();
        let verdict = add(master, &object, signer, |key_id| device_key(&view, user, key_id))?;
        if let Ok(Signed::Own) = verdict {
            changes.put_cross_signing(user, &record)?;
        }
        return Ok(verdict);
    }
    let device = <&DeviceId>::from(id);
    let Some(mut keys) = changes.device_keys(user, device)? else { return Ok(Err(SignatureFailure::NoSuchKey)) };
    let self_signing = record.self_signing.as_ref().and_then(|key| public_key_of(&key.object));
    let own = keys_of(&keys.object);
    let verdict = add(&mut keys, &object, signer, |key_id| {
        let by_self_signing = self_signing.as_ref().filter(|key| key_id.strip_prefix("ed25519:") == Some(key));
        // A device that signs itself anew is as good as before.
        Ok(by_self_signing.or_else(|| own.get(key_id)).cloned())
    })?;
    if let Ok(Signed::Own) = verdict {
        changes.put_device_keys(user, device, &keys)?;
        // The self-signing key that made the signature must still be the one.
        changes.put_cross_signing(user, &record)?;
    }
    Ok(verdict)
}

/// Adds the signer's signatures on `object` to `key`. All that are not known must be right, and made by keys that
/// `public_key` knows.
fn add(
    key: &mut SignedKey,
    object: &SignedObject,
    signer: &UserId,
    public_key: impl Fn(&str) -> Result<Option<String>, Error>,
) -> Result<Verdict, Error> {
    if object.text() != key.object {
        return Ok(Err(SignatureFailure::Invalid("the key is not the one that was uploaded")));
    }
    let signatures = object.signatures_of(signer.as_str());
    if signatures.is_empty() {
        return Ok(Err(SignatureFailure::Invalid("there is no signature of the user's")));
    }
    let mut new = Vec::new();
    for (key_id, signature) in signatures {
        if key.signatures.get(&key_id) == Some(&signature) {
            continue;
        }
        let Some(public_key) = public_key(&key_id)? else {
            return Ok(Err(SignatureFailure::Invalid("it is signed by a key that may not sign it")));
        };
        if !signed::is_signed(object.text(), &public_key, &signature) {
            return Ok(Err(SignatureFailure::Invalid("the signature is wrong")));
        }
        new.push((key_id, signature));
    }
    if new.is_empty() {
        return Ok(Ok(Signed::Known));
    }
    key.signatures.extend(new);
    Ok(if key.signatures.len() > SIGNATURES_MAX { Err(SignatureFailure::TooLarge) } else { Ok(Signed::Own) })
}

fn sign_other(
    changes: &Changes,
    signer: &UserId,
    user: &UserId,
    id: &str,
    (master, object): (&SignedKey, &SignedObject),
) -> Result<Verdict, Error> {
    if object.text() != master.object {
        return Ok(Err(SignatureFailure::Invalid("the key is not the one that was uploaded")));
    }
    let Some(signing) = changes.cross_signing(signer)?.user_signing.and_then(|key| public_key_of(&key.object)) else {
        return Ok(Err(SignatureFailure::Invalid("the user has no user-signing key")));
    };
    let key_id = format!("ed25519:{signing}");
    let Some(signature) = object.signatures_of(signer.as_str()).remove(&key_id) else {
        return Ok(Err(SignatureFailure::Invalid("it is not signed by the user-signing key")));
    };
    if !signed::is_signed(object.text(), &signing, &signature) {
        return Ok(Err(SignatureFailure::Invalid("the signature is wrong")));
    }
    let signature = UserSignature { master: id.to_owned(), key_id, signature };
    if changes.view().user_signature(signer, user)?.as_ref() == Some(&signature) {
        return Ok(Ok(Signed::Known));
    }
    Ok(Ok(Signed::Others(user.to_owned(), signature)))
}
