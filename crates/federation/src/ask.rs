//! Asking one server one thing.

use crate::{BackOff, Call, Federation, FederationError, PeerError};
use bytes::Bytes;
use http::Method;
use ruma::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::time::Duration;

/// How long the answer to a short question may take.
pub(crate) const SHORT: Duration = Duration::from_secs(15);
/// How long the answer to a question about a whole room may take.
pub(crate) const LONG: Duration = Duration::from_mins(2);
/// The largest answer to a question about one thing.
pub(crate) const SMALL: usize = 1024 * 1024;
/// The largest answer with some events.
pub(crate) const MEDIUM: usize = 16 * 1024 * 1024;
/// The largest answer with a room's whole state.
pub(crate) const LARGE: usize = 256 * 1024 * 1024;

/// A path with encoded segments and query.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// Begins with what needs no encoding.
    pub fn new(start: &str) -> Self {
        Self { text: start.to_owned(), has_query: false }
    }

    /// Adds a segment.
    pub fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        encode(&mut self.text, segment);
        self
    }

    /// Adds a parameter to the query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        encode(&mut self.text, value);
        self
    }
}

impl Path {
    /// The path and the query.
    pub fn text(self) -> String {
        self.text
    }
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
}

/// How long an answer may take, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub timeout: Duration,
    pub bytes_max: usize,
}

/// For one thing.
pub(crate) const QUICK: Patience = Patience { timeout: SHORT, bytes_max: SMALL };
/// For some events.
pub(crate) const SOME: Patience = Patience { timeout: Duration::from_secs(30), bytes_max: MEDIUM };
/// For a whole room.
pub(crate) const WHOLE: Patience = Patience { timeout: LONG, bytes_max: LARGE };

impl Federation {
    pub(crate) async fn get(&self, to: &ServerName, path: Path, patience: Patience) -> Result<Bytes, FederationError> {
        self.call(to, Method::GET, path, None, patience).await
    }

    pub(crate) async fn put(
        &self,
        to: &ServerName,
        path: Path,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<Bytes, FederationError> {
        self.call(to, Method::PUT, path, Some(json(body)?), patience).await
    }

    pub(crate) async fn post(
        &self,
        to: &ServerName,
        path: Path,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<Bytes, FederationError> {
        self.call(to, Method::POST, path, Some(json(body)?), patience).await
    }

    async fn call(
        &self,
        to: &ServerName,
        method: Method,
        path: Path,
        body: Option<Bytes>,
        patience: Patience,
    ) -> Result<Bytes, FederationError> {
        let Patience { timeout, bytes_max } = patience;
        let call = Call {
            method,
            path_and_query: path.text,
            body,
            timeout,
            body_bytes_max: bytes_max,
            back_off: BackOff::Respect,
        };
        let answer = tokio::time::timeout(timeout, self.0.peers.send(to, call)).await;
        Ok(answer.map_err(|_| PeerError::Unreachable("no answer in time".to_owned()))??)
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, FederationError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(FederationError::unusable)
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(answer: &Bytes) -> Result<T, FederationError> {
    serde_json::from_slice(answer).map_err(FederationError::unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_path_is_encoded() {
        let path =
            Path::new("/_matrix/federation/v1/state").segment("!a/b:c").query("event_id", "$x+y&z").query("v", "1");
        assert_eq!(path.text, "/_matrix/federation/v1/state/%21a%2Fb%3Ac?event_id=%24x%2By%26z&v=1");
    }
}
