//! All keys of a server: the one with which it signs, and those with which it has signed before.

use crate::key::SigningKey;
use base::UnixMillis;
use ruma::ServerName;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use std::sync::{Arc, PoisonError, RwLock};

/// A key with which a server signs no more. Events that it has signed before stay valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its id, such as `ed25519:a_Xq3v`.
    pub key_id: String,
    /// The public key.
    pub public_key: Base64<Standard>,
    /// When it was given up.
    pub expired_at: UnixMillis,
}

/// The keys of a server, which change while it runs. Cheap to clone: all clones change together.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<RwLock<Keys>>);

#[derive(Clone, Debug)]
struct Keys {
    current: Arc<SigningKey>,
    old: Arc<[OldKey]>,
}

impl KeyRing {
    /// A key, and those before it.
    #[must_use]
    pub fn new(current: Arc<SigningKey>, old: Vec<OldKey>) -> Self {
        Self(Arc::new(RwLock::new(Keys { current, old: old.into() })))
    }

    /// The key to sign with.
    #[must_use]
    pub fn current(&self) -> Arc<SigningKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// The keys with which the server signs no more.
    #[must_use]
    pub fn old(&self) -> Arc<[OldKey]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).old.clone()
    }

    /// Signs with another key from now on. `old` are all that came before it.
    pub fn replace(&self, current: Arc<SigningKey>, old: Vec<OldKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Keys { current, old: old.into() };
    }

    /// Whether the keys are those of a server.
    #[must_use]
    pub fn is_of(&self, server: &ServerName) -> bool {
        self.current().server_name() == server
    }
}

impl From<Arc<SigningKey>> for KeyRing {
    fn from(current: Arc<SigningKey>) -> Self {
        Self::new(current, Vec::new())
    }
}

impl From<SigningKey> for KeyRing {
    fn from(current: SigningKey) -> Self {
        Self::new(Arc::new(current), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Secret;
    use ruma::owned_server_name;

    #[test]
    fn all_clones_sign_with_the_new_key() {
        let key = |version| {
            Arc::new(SigningKey::generate(owned_server_name!("a.example"), version, Secret::new([1; 32])).unwrap())
        };
        let ring = KeyRing::from(key("1"));
        let clone = ring.clone();
        let first = ring.current();
        let old = OldKey { key_id: first.key_id(), public_key: first.public_key(), expired_at: UnixMillis(7) };
        ring.replace(key("2"), vec![old.clone()]);
        assert_eq!(clone.current().version(), "2");
        assert_eq!(*clone.old(), [old]);
    }
}
