//! The key with which a server signs its events and requests.
//!
//! Where the random bytes come from and where the key is kept is for others to decide.

use base::Secret;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::{Ed25519KeyPair, JsonError, PublicKeyMap, PublicKeySet, Signature, sign_json};
use ruma::{CanonicalJsonObject, OwnedServerName, ServerName};
use std::fmt;

/// The bytes of an Ed25519 seed.
pub const SEED_BYTES: usize = 32;

/// A PKCS #8 document (RFC 8410) of an Ed25519 key, up to where the seed follows.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The version has a character that is not a letter, a digit or an underscore, or none at all.
    #[error("{0:?} is not the version of a key: use letters, digits and underscores")]
    Version(String),
    /// The bytes are not a key.
    #[error("not an Ed25519 key")]
    Bytes,
}

/// A server's name and the Ed25519 key with which it signs.
pub struct SigningKey {
    server_name: OwnedServerName,
    seed: Secret<[u8; SEED_BYTES]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key that `seed` makes. The same seed makes the same key, so these are also the bytes to store:
    /// see [`SigningKey::seed`]. `version` tells a server's keys apart (server-server API, "Publishing
    /// keys").
    ///
    /// # Errors
    ///
    /// [`KeyError::Version`] unless `version` matches `[a-zA-Z0-9_]+`.
    pub fn generate(
        server_name: OwnedServerName,
        version: &str,
        seed: Secret<[u8; SEED_BYTES]>,
    ) -> Result<Self, KeyError> {
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(KeyError::Version(version.to_owned()));
        }
        let document = Secret::new([PKCS8_PREFIX.as_slice(), seed.expose().as_slice()].concat());
        let pair = Ed25519KeyPair::from_der(document.expose(), version.to_owned()).map_err(|_| KeyError::Bytes)?;
        Ok(Self { server_name, seed, pair })
    }

    /// The key that was stored as `seed`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Bytes`] unless there are [`SEED_BYTES`] bytes, and as [`SigningKey::generate`].
    pub fn from_stored(server_name: OwnedServerName, version: &str, seed: &[u8]) -> Result<Self, KeyError> {
        let seed = <[u8; SEED_BYTES]>::try_from(seed).map_err(|_| KeyError::Bytes)?;
        Self::generate(server_name, version, Secret::new(seed))
    }

    /// The bytes to store, from which [`SigningKey::from_stored`] makes this key again. A secret.
    #[must_use]
    pub fn seed(&self) -> &Secret<[u8; SEED_BYTES]> {
        &self.seed
    }

    /// The server that signs with this key.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The version of the key, such as `a_Xq3v`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.pair.version()
    }

    /// The id of the key, such as `ed25519:a_Xq3v`.
    #[must_use]
    pub fn key_id(&self) -> String {
        format!("ed25519:{}", self.version())
    }

    /// The public key, in unpadded Base64, as `/_matrix/key/v2/server` publishes it.
    #[must_use]
    pub fn public_key(&self) -> Base64<Standard> {
        Base64::new(self.pair.public_key().to_vec())
    }

    /// This key as [`crate::incoming::check`] takes keys: what it signed passes.
    #[must_use]
    pub fn public_key_map(&self) -> PublicKeyMap {
        let keys = PublicKeySet::from([(self.key_id(), self.public_key())]);
        PublicKeyMap::from([(self.server_name.to_string(), keys)])
    }

    /// Signs any JSON object but an event (appendices, "Signing JSON").
    ///
    /// # Errors
    ///
    /// If `object` has `signatures` that are not an object of objects.
    pub fn sign_json(&self, object: &mut CanonicalJsonObject) -> Result<(), JsonError> {
        sign_json(self.server_name.as_str(), &self.pair, object)
    }

    /// Signs bytes as they are.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        ruma::signatures::KeyPair::sign(&self.pair, message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("server_name", &self.server_name)
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::server_name;
    use ruma::signatures::verify_json;

    /// The seed of the appendices, "Cryptographic Test Vectors".
    const SPEC_SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";

    fn spec_key() -> SigningKey {
        let seed = Base64::<Standard>::parse(SPEC_SEED).unwrap();
        SigningKey::from_stored(server_name!("domain").to_owned(), "1", seed.as_bytes()).unwrap()
    }

    // Appendices, "JSON Signing".
    #[test]
    fn json_is_signed_as_in_the_specification() {
        for (json, expected) in [
            ("{}", "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
            (
                r#"{"one":1,"two":"Two"}"#,
                "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
            ),
        ] {
            let mut object: CanonicalJsonObject = serde_json::from_str(json).unwrap();
            spec_key().sign_json(&mut object).unwrap();
            let signed = serde_json::to_value(&object).unwrap();
            assert_eq!(signed["signatures"]["domain"]["ed25519:1"], expected);
            verify_json(&spec_key().public_key_map(), &object).unwrap();
        }
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = spec_key();
        let again = SigningKey::from_stored(key.server_name().to_owned(), key.version(), key.seed().expose());
        assert_eq!(again.unwrap().public_key(), key.public_key());
        // Appendices, "Signing Details": the public key that other implementations derive from this seed.
        assert_eq!(key.public_key().encode(), "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI");
        assert_eq!(key.key_id(), "ed25519:1");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let stored = |version: &str, seed: &[u8]| {
            SigningKey::from_stored(server_name!("domain").to_owned(), version, seed).map(|_| ())
        };
        assert_eq!(stored("a_1", &[1; 31]), Err(KeyError::Bytes));
        assert_eq!(stored("a_1", &[1; 33]), Err(KeyError::Bytes));
        for version in ["", "a:b", "a b", "ä"] {
            assert_eq!(stored(version, &[1; 32]), Err(KeyError::Version(version.to_owned())));
        }
    }

    #[test]
    fn a_key_does_not_show_its_secret() {
        let shown = format!("{:?}", spec_key());
        assert!(shown.contains("ed25519:1") && !shown.contains("seed"), "{shown}");
    }
}
