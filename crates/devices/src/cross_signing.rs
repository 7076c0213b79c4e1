//! Cross-signing keys and what they sign (client-server API, "Cross-signing").

use crate::device_keys::{IDENTITY_KEYS_BYTES_MAX, keys_of};
use crate::{Devices, Error};
use records::{Changes, CrossSigningRecord, SignedKey, View};
use rules::signed::{self, SignedObject};
use ruma::{DeviceId, OwnedUserId, UserId};

/// How many signatures a key can have of its owner: those of all devices, and then some.
pub(crate) const SIGNATURES_MAX: usize = 2_000;

/// The cross-signing keys that a user uploads, each as JSON.
#[derive(Clone, Debug, Default)]
pub struct CrossSigningUpload {
    /// The master key.
    pub master: Option<String>,
    /// The self-signing key.
    pub self_signing: Option<String>,
    /// The user-signing key.
    pub user_signing: Option<String>,
}

/// Whether a user has proven who they are, beyond having a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By user-interactive authentication.
    Proven,
    /// Not.
    Assumed,
}

/// A cross-signing key of the right shape.
#[derive(Clone, Debug)]
struct Key {
    public: String,
    object: SignedObject,
}

/// The keys of an upload, of the right shape.
#[derive(Clone, Debug)]
pub struct CheckedCrossSigning {
    user_id: OwnedUserId,
    master: Option<Key>,
    self_signing: Option<Key>,
    user_signing: Option<Key>,
}

impl Key {
    fn parse(json: &str, user: &UserId, usage: &str) -> Result<Self, Error> {
        if json.len() > IDENTITY_KEYS_BYTES_MAX {
            return Err(Error::TooLarge("a cross-signing key"));
        }
        let malformed = |what: &str| Error::BadJson(format!("the {usage} key {what}"));
        let object = SignedObject::parse(json).ok_or_else(|| malformed("is not an object that can be signed"))?;
        let user_id = object.str("user_id").ok_or_else(|| malformed("needs a user_id"))?;
        let usages = object.strs("usage").ok_or_else(|| malformed("needs a usage, a list of texts"))?;
        let keys = object.texts("keys").ok_or_else(|| malformed("needs keys, an object of texts"))?;
        if user_id != user {
            return Err(Error::InvalidParam(format!("the {usage} key is of another user")));
        }
        if !usages.contains(&usage) {
            return Err(Error::InvalidParam(format!("the {usage} key has another usage")));
        }
        let (1, Some((name, public))) = (keys.len(), keys.first_key_value()) else {
            return Err(Error::InvalidParam(format!("the {usage} key must have exactly one key")));
        };
        if name.strip_prefix("ed25519:") != Some(*public) || !signed::is_public_key(public) {
            return Err(Error::InvalidParam(format!(
                "the {usage} key must be ed25519:<public key> in unpadded Base64"
            )));
        }
        let public = (*public).to_owned();
        drop(keys);
        Ok(Self { public, object })
    }

    /// The key without any signature.
    fn bare(&self) -> SignedKey {
        SignedKey { object: self.object.text().to_owned(), signatures: signed::Signatures::new() }
    }

    /// The key with the master key's signature, which it must have.
    fn signed_by(&self, master: &str, user: &UserId) -> Result<SignedKey, Error> {
        let key_id = format!("ed25519:{master}");
        let signature = self.object.signatures_of(user.as_str()).remove(&key_id);
        let signature = signature.filter(|signature| signed::is_signed(self.object.text(), master, signature));
        let signature = signature.ok_or(Error::InvalidSignature("the key is not signed by the master key"))?;
        Ok(SignedKey { signatures: signed::Signatures::from([(key_id, signature)]), ..self.bare() })
    }
}

impl CrossSigningUpload {
    /// Checks the shape of the keys, not yet what they are signed by.
    ///
    /// # Errors
    ///
    /// [`Error::BadJson`], [`Error::InvalidParam`], [`Error::TooLarge`].
    pub fn check(&self, user: &UserId) -> Result<CheckedCrossSigning, Error> {
        let key = |json: &Option<String>, usage| json.as_deref().map(|json| Key::parse(json, user, usage)).transpose();
        Ok(CheckedCrossSigning {
            user_id: user.to_owned(),
            master: key(&self.master, "master")?,
            self_signing: key(&self.self_signing, "self_signing")?,
            user_signing: key(&self.user_signing, "user_signing")?,
        })
    }
}

impl CheckedCrossSigning {
    fn pairs<'s>(&'s self, known: &'s CrossSigningRecord) -> [(Option<&'s Key>, Option<&'s SignedKey>); 3] {
        [
            (self.master.as_ref(), known.master.as_ref()),
            (self.self_signing.as_ref(), known.self_signing.as_ref()),
            (self.user_signing.as_ref(), known.user_signing.as_ref()),
        ]
    }

    /// Whether the user must prove who they are: there is a master key, and the upload has a key that is not
    /// there (MSC3967).
    fn needs_proof(&self, known: &CrossSigningRecord) -> bool {
        let is_new = |(key, known): (Option<&Key>, Option<&SignedKey>)| {
            key.is_some_and(|key| known.is_none_or(|known| known.object != key.object.text()))
        };
        known.master.is_some() && self.pairs(known).into_iter().any(is_new)
    }

    /// Decides what is stored after the upload.
    fn decide(&self, changes: &mut Changes) -> Result<(), Error> {
        let user = &*self.user_id;
        let known = changes.cross_signing(user)?;
        let mut record = known.clone();
        for key in [&self.master, &self.self_signing, &self.user_signing].into_iter().flatten() {
            if changes.view().device(user, <&DeviceId>::from(key.public.as_str()))?.is_some() {
                return Err(Error::Forbidden("a device has the public key as its id"));
            }
        }
        if let Some(key) = &self.master {
            match &mut record.master {
                Some(master) if master.object == key.object.text() => {}
                // Another master key: what the one before has signed is worth nothing any more.
                _ => record = CrossSigningRecord { master: Some(key.bare()), ..CrossSigningRecord::default() },
            }
            if let Some(master) = &mut record.master {
                let by_devices = device_signatures(changes.view(), user, &key.object)?;
                master.signatures.extend(by_devices);
                if master.signatures.len() > SIGNATURES_MAX {
                    return Err(Error::TooLarge("the number of signatures"));
                }
            }
        }
        if self.self_signing.is_some() || self.user_signing.is_some() {
            let master = record.master.as_ref().and_then(|master| public_key_of(&master.object));
            let master = master.ok_or(Error::NoMasterKey)?;
            let sign = |key: &Option<Key>| key.as_ref().map(|key| key.signed_by(&master, user)).transpose();
            record.self_signing = sign(&self.self_signing)?.or(record.self_signing);
            record.user_signing = sign(&self.user_signing)?.or(record.user_signing);
        }
        if record == known {
            return Ok(());
        }
        if object_of(record.user_signing.as_ref()) != object_of(known.user_signing.as_ref()) {
            changes.clear_user_signatures(user);
        }
        let gone = known
            .self_signing
            .as_ref()
            .filter(|_| object_of(record.self_signing.as_ref()) != object_of(known.self_signing.as_ref()));
        if let Some(gone) = gone.and_then(|gone| public_key_of(&gone.object)) {
            drop_device_signatures(changes, user, &format!("ed25519:{gone}"))?;
        }
        changes.put_cross_signing(user, &record)?;
        Ok(changes.change_device_list(user)?)
    }
}

impl Devices {
    /// Whether a user must prove who they are to upload these keys (MSC3967).
    pub fn needs_proof(&self, upload: &CheckedCrossSigning) -> Result<bool, Error> {
        Ok(upload.needs_proof(&self.view().cross_signing(&upload.user_id)?))
    }

    /// Stores cross-signing keys. Another master key puts all that belonged to the one before away.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSignature`] unless the master key has signed the others, and if a signature of the user's
    /// device on the master key is wrong; [`Error::NoMasterKey`]; [`Error::Forbidden`] if a device has a key as
    /// its id; [`Error::ProofNeeded`].
    pub async fn upload_cross_signing(&self, upload: &CheckedCrossSigning, identity: Identity) -> Result<(), Error> {
        self.change(|changes| {
            // Of two first uploads at once the second replaces keys.
            let known = changes.view().cross_signing(&upload.user_id)?;
            if identity == Identity::Assumed && upload.needs_proof(&known) {
                return Err(Error::ProofNeeded);
            }
            upload.decide(changes)
        })
        .await
    }
}

/// What a user's devices have signed of the user's master key. Signatures by keys that are not known are left out.
fn device_signatures(view: &View, user: &UserId, object: &SignedObject) -> Result<signed::Signatures, Error> {
    let mut right = signed::Signatures::new();
    for (key_id, signature) in object.signatures_of(user.as_str()) {
        let Some(key) = device_key(view, user, &key_id)? else { continue };
        if !signed::is_signed(object.text(), &key, &signature) {
            return Err(Error::InvalidSignature("a device's signature of the master key is wrong"));
        }
        right.insert(key_id, signature);
    }
    Ok(right)
}

/// The public key of a user's device by its id, such as `ed25519:DEVICE`.
pub(crate) fn device_key(view: &View, user: &UserId, key_id: &str) -> Result<Option<String>, Error> {
    let Some(device) = key_id.strip_prefix("ed25519:") else { return Ok(None) };
    let keys = view.device_keys(user, <&DeviceId>::from(device))?;
    Ok(keys.and_then(|keys| keys_of(&keys.object).remove(key_id)))
}

/// Removes a key's signatures from all devices of a user.
fn drop_device_signatures(changes: &mut Changes, user: &UserId, key_id: &str) -> Result<(), Error> {
    for (device, mut keys) in changes.view().all_device_keys(user)? {
        if keys.signatures.remove(key_id).is_some() {
            changes.put_device_keys(user, &device, &keys)?;
        }
    }
    Ok(())
}

fn object_of(key: Option<&SignedKey>) -> Option<&str> {
    key.map(|key| key.object.as_str())
}

/// The public key of a cross-signing key.
pub(crate) fn public_key_of(object: &str) -> Option<String> {
    keys_of(object).into_iter().next().map(|(_, key)| key)
}
