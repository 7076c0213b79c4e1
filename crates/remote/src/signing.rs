//! Requests that servers sign (server-server API, "Request Authentication").

use rules::SigningKey;
use ruma::{OwnedServerName, ServerName};
use std::fmt::Write as _;

/// The scheme of the header.
const SCHEME: &str = "X-Matrix";
/// The longest header that is read, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// The signature of a request, as its `Authorization` header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// Who signed.
    pub origin: OwnedServerName,
    /// Who is asked. Older servers don't say.
    pub destination: Option<OwnedServerName>,
    /// The id of the key.
    pub key: String,
    /// The signature, in Base64.
    pub sig: String,
}

impl XMatrix {
    /// Reads a header: parameters in any order, with or without quotes, names in any case, and those that are not
    /// known passed over. `None` if it is of another scheme, or not whole.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let (scheme, rest) = header.trim().split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || !rest.starts_with([' ', '\t']) {
            return None;
        }
        let (mut origin, mut destination, mut key, mut sig) = (None, None, None, None);
        let mut rest = rest.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after.trim_start())?;
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" | "signature" => &mut sig,
                _ => &mut None,
            };
            // What is said twice is not clear.
            if place.replace(value).is_some() {
                return None;
            }
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(after) => after.trim_start_matches([',', ' ', '\t']),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        let destination = destination.map(OwnedServerName::try_from).transpose().ok()?;
        Some(Self { origin: origin?.try_into().ok()?, destination, key: key?, sig: sig? })
    }

    /// Signs a request. `content` is its body as canonical JSON.
    #[must_use]
    pub fn sign(key: &SigningKey, destination: &ServerName, method: &str, uri: &str, content: Option<&str>) -> Self {
        let text = signed_text(key.server_name(), destination, method, uri, content);
        Self {
            origin: key.server_name().to_owned(),
            destination: Some(destination.to_owned()),
            key: key.key_id(),
            sig: key.sign(text.as_bytes()).base64(),
        }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> String {
        let Self { origin, destination, key, sig } = self;
        let mut header = format!("{SCHEME} origin=\"{origin}\",");
        if let Some(destination) = destination {
            // Writing to memory does not fail.
            let _written = write!(header, "destination=\"{destination}\",");
        }
        let _written = write!(header, "key=\"{key}\",sig=\"{sig}\"");
        header
    }
}

/// A value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

/// What is signed of a request: canonical JSON, put together in the order of its keys. `content` is canonical
/// already.
#[must_use]
pub fn signed_text(
    origin: &ServerName,
    destination: &ServerName,
    method: &str,
    uri: &str,
    content: Option<&str>,
) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let (origin, destination, method, uri) =
        (text(origin.as_str()), text(destination.as_str()), text(method), text(uri));
    let content = content.map(|content| format!("\"content\":{content},")).unwrap_or_default();
    format!("{{{content}\"destination\":{destination},\"method\":{method},\"origin\":{origin},\"uri\":{uri}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Secret;
    use ruma::{owned_server_name, server_name};

    fn expected() -> XMatrix {
        XMatrix {
            origin: owned_server_name!("a.example:8448"),
            destination: Some(owned_server_name!("b.example")),
            key: "ed25519:a_1".to_owned(),
            sig: "ABC/+d".to_owned(),
        }
    }

    #[test]
    fn headers_are_read_in_any_order_and_notation() {
        for header in [
            r#"X-Matrix origin="a.example:8448",destination="b.example",key="ed25519:a_1",sig="ABC/+d""#,
            r#"x-matrix   SIG=ABC/+d , key=ed25519:a_1,	Origin=a.example:8448,destination="b.example""#,
            r#"X-Matrix origin="a.exa\mple:8448",destination=b.example,key="ed25519:a_1",sig="ABC/+d",more="a,b=\"c""#,
            "X-Matrix origin=a.example:8448,destination=b.example,key=ed25519:a_1,signature=ABC/+d,",
        ] {
            assert_eq!(XMatrix::parse(header), Some(expected()), "{header}");
        }
        assert_eq!(XMatrix::parse(&expected().header()), Some(expected()));
        let old = XMatrix { destination: None, ..expected() };
        assert_eq!(XMatrix::parse(&old.header()), Some(old));
    }

    #[test]
    fn headers_that_are_not_whole_are_refused() {
        for header in [
            "",
            "X-Matrix",
            "Bearer abc",
            "X-Matrixorigin=a",
            r#"X-Matrix origin="a.example",key="ed25519:a_1""#,
            r#"X-Matrix origin="a.example,key="ed25519:a_1",sig="x""#,
            r#"X-Matrix origin="a.example",origin="b.example",key="ed25519:a_1",sig="x""#,
            r#"X-Matrix origin="a b",key="ed25519:a_1",sig="x""#,
            r#"X-Matrix origin="a.example",destination="",key="ed25519:a_1",sig="x""#,
            r#"X-Matrix origin="a.example" key="ed25519:a_1",sig="x""#,
        ] {
            assert_eq!(XMatrix::parse(header), None, "{header}");
        }
        assert_eq!(XMatrix::parse(&format!("X-Matrix origin=a,key=b,sig={}", "x".repeat(5000))), None);
    }

    #[test]
    fn what_is_signed_is_canonical_json() {
        let (a, b) = (server_name!("a.example"), server_name!("b.example"));
        let text = signed_text(a, b, "PUT", "/_matrix/x?y=\"z", Some(r#"{"a":1}"#));
        assert_eq!(rules::signed::canonical(&text).as_deref(), Some(text.as_str()));
        let bare = signed_text(a, b, "GET", "/_matrix/x", None);
        assert_eq!(bare, r#"{"destination":"b.example","method":"GET","origin":"a.example","uri":"/_matrix/x"}"#);
    }

    #[test]
    fn a_signature_is_verified_by_the_public_key() {
        let key = SigningKey::generate(owned_server_name!("a.example"), "1", Secret::new([3; 32])).unwrap();
        let to = server_name!("b.example");
        let signed = XMatrix::sign(&key, to, "GET", "/_matrix/x", None);
        let public = key.public_key().encode();
        let verifies = |uri| {
            let text = signed_text(key.server_name(), to, "GET", uri, None);
            rules::signed::is_signed(&text, &public, &signed.sig)
        };
        assert!(verifies("/_matrix/x"));
        assert!(!verifies("/_matrix/y"));
    }
}
