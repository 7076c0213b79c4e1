//! Objects that users and devices sign: their public keys (appendices, "Signing JSON"; client-server API,
//! "Cross-signing").

use crate::json::{Numbers, Object};
use ruma::SigningKeyAlgorithm;
use ruma::canonical_json::CanonicalJsonValue;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::verify_canonical_json_bytes;
use std::collections::BTreeMap;

/// The bytes of an Ed25519 or Curve25519 public key.
const PUBLIC_KEY_BYTES: usize = 32;

/// Signatures by the id of the key that made them.
pub type Signatures = BTreeMap<String, String>;

/// An object with signatures, read from JSON.
#[derive(Clone, Debug)]
pub struct SignedObject {
    object: Object,
    text: String,
    signatures: BTreeMap<String, Signatures>,
}

impl SignedObject {
    /// Reads an object. None if it is not one, has numbers that canonical JSON has not, or has signatures of
    /// another shape.
    #[must_use]
    pub fn parse(json: &str) -> Option<Self> {
        let object = Object::parse(json, Numbers::Canonical).ok()?;
        let text = object.text_without(&["signatures", "unsigned"], None)?;
        let mut signatures = BTreeMap::new();
        if let Some(by_signer) = object.map.get("signatures") {
            for (signer, by_key) in by_signer.as_object()? {
                let texts = by_key.as_object()?.iter();
                let texts = texts.map(|(key, signature)| Some((key.clone(), signature.as_str()?.to_owned())));
                signatures.insert(signer.clone(), texts.collect::<Option<Signatures>>()?);
            }
        }
        Some(Self { object, text, signatures })
    }

    /// What is signed: the object as canonical JSON, without `signatures` and `unsigned`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What one signer has signed.
    #[must_use]
    pub fn signatures_of(&self, signer: &str) -> Signatures {
        self.signatures.get(signer).cloned().unwrap_or_default()
    }

    /// The text of a field.
    #[must_use]
    pub fn str(&self, field: &str) -> Option<&str> {
        self.object.str(field)
    }

    /// The texts of a field that is a list of texts.
    #[must_use]
    pub fn strs(&self, field: &str) -> Option<Vec<&str>> {
        self.object.map.get(field)?.as_array()?.iter().map(CanonicalJsonValue::as_str).collect()
    }

    /// The texts of a field that is an object of texts, by their names.
    #[must_use]
    pub fn texts(&self, field: &str) -> Option<BTreeMap<&str, &str>> {
        let object = self.object.map.get(field)?.as_object()?;
        object.iter().map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    /// Whether it has a field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.object.map.contains_key(field)
    }
}

/// An object as canonical JSON, or a text as JSON. None if it is neither.
#[must_use]
pub fn canonical(json: &str) -> Option<String> {
    if json.trim_start().starts_with('"') {
        let text: String = serde_json::from_str(json).ok()?;
        return serde_json::to_string(&text).ok();
    }
    Object::parse(json, Numbers::Canonical).ok()?.text().ok()
}

/// The object that a request has, as canonical JSON. The events of old rooms may be in it, with numbers that canonical
/// JSON has not: those are written as their servers write them. None if it is not an object.
#[must_use]
pub fn canonical_request(json: &str) -> Option<String> {
    Object::parse(json, Numbers::Any).ok()?.text().ok()
}

/// Whether a text is a public key of 32 bytes in unpadded Base64.
#[must_use]
pub fn is_public_key(text: &str) -> bool {
    !text.ends_with('=') && Base64::<Standard>::parse(text).is_ok_and(|key| key.as_bytes().len() == PUBLIC_KEY_BYTES)
}

/// Whether an Ed25519 key has signed an object, given as [`SignedObject::text`].
#[must_use]
pub fn is_signed(text: &str, public_key: &str, signature: &str) -> bool {
    let decode = |text: &str| Base64::<Standard>::parse(text).ok();
    let (Some(key), Some(signature)) = (decode(public_key), decode(signature)) else { return false };
    let algorithm = SigningKeyAlgorithm::Ed25519;
    verify_canonical_json_bytes(&algorithm, key.as_bytes(), signature.as_bytes(), text.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use base::Secret;
    use ruma::{CanonicalJsonObject, owned_server_name};

    #[test]
    fn a_signature_is_of_everything_but_signatures_and_unsigned() {
        let key = SigningKey::generate(owned_server_name!("a.example"), "1", Secret::new([3; 32])).unwrap();
        let mut object: CanonicalJsonObject = serde_json::from_str(r#"{"z":1,"a":{"y":2,"b":[]}}"#).unwrap();
        key.sign_json(&mut object).unwrap();
        let mut json = serde_json::to_value(&object).unwrap();
        json["unsigned"] = serde_json::json!({ "device_display_name": "Phone" });
        let signed = SignedObject::parse(&json.to_string()).unwrap();
        assert_eq!(signed.text(), r#"{"a":{"b":[],"y":2},"z":1}"#);
        let signatures = signed.signatures_of("a.example");
        let signature = &signatures["ed25519:1"];
        let public_key = key.public_key().encode();
        assert!(is_public_key(&public_key));
        assert!(is_signed(signed.text(), &public_key, signature));
        assert!(!is_signed(r#"{"a":{"b":[],"y":3},"z":1}"#, &public_key, signature));
        assert!(!is_signed(signed.text(), &public_key, &signature.replacen(['A', 'B', 'C', 'D', 'E'], "z", 3)));
        assert!(!is_signed(signed.text(), "no key", signature));
    }

    #[test]
    fn odd_objects_are_not_read() {
        for json in [
            "[]",
            "7",
            r#"{"a":1.5}"#,
            r#"{"signatures":[]}"#,
            r#"{"signatures":{"@a:b":[]}}"#,
            r#"{"signatures":{"@a:b":{"ed25519:X":1}}}"#,
        ] {
            assert!(SignedObject::parse(json).is_none(), "{json}");
        }
        assert_eq!(canonical(r#"{"b":1, "a":"\u0041"}"#).as_deref(), Some(r#"{"a":"A","b":1}"#));
        assert_eq!(canonical(r#" "\u0041" "#).as_deref(), Some(r#""A""#));
        assert_eq!(canonical("7"), None);
    }
}
