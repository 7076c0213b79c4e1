//! The way to other servers, as this crate needs it.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use remote::BackOff;
use rules::Checked;
use rules::incoming::DropReason;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedServerName, ServerName};
use std::time::Duration;
use tokio::sync::broadcast;

/// A request to another server.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path and the query, encoded.
    pub path_and_query: String,
    /// The body, JSON.
    pub body: Option<Bytes>,
    /// How long the answer may take.
    pub timeout: Duration,
    /// The largest answer that is taken, in bytes.
    pub body_bytes_max: usize,
    /// Whether a server that has not answered lately is asked at all.
    pub back_off: BackOff,
}

/// Why another server gave no answer that is of use.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It can't be reached, or did not answer in time.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// This server's rules forbid to talk to it.
    #[error("{0}")]
    Forbidden(String),
    /// It refused.
    #[error("the server answered {status}: {error}")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// The code of its error, if it gave one.
        errcode: Option<String>,
        /// What it says, for people.
        error: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Its answer is too long, or not what was asked for.
    #[error("the server's answer is of no use: {0}")]
    Unusable(String),
}

/// Sends signed requests to other servers.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request, and answers the body of a response with status 200.
    fn send<'a>(&'a self, to: &'a ServerName, call: Call) -> BoxFuture<'a, Result<Bytes, PeerError>>;

    /// The servers that are there again after they had not answered; nothing where nobody notices.
    fn contacts(&self) -> Option<broadcast::Receiver<OwnedServerName>> {
        None
    }
}

/// Checks what other servers signed.
pub trait EventKeys: Send + Sync + 'static {
    /// Checks events: format, signatures with keys that are fetched in as few requests as possible, hashes. Answers in
    /// the order of the events.
    fn check<'a>(&'a self, events: Vec<String>, rules: &'a RoomVersionRules) -> BoxFuture<'a, Vec<Checked>>;
}

/// No other servers: none can be reached, nothing that they signed is right.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send<'a>(&'a self, _: &'a ServerName, _: Call) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async { Err(PeerError::Unreachable("this server talks to no others".to_owned())) })
    }
}

impl EventKeys for NoPeers {
    fn check<'a>(&'a self, events: Vec<String>, rules: &'a RoomVersionRules) -> BoxFuture<'a, Vec<Checked>> {
        let none = ruma::signatures::PublicKeyMap::new();
        let checked = events.iter().map(|event| rules::incoming::check(event, rules, &none)).collect();
        Box::pin(async move { checked })
    }
}

impl Peers for remote::Peers {
    fn send<'a>(&'a self, to: &'a ServerName, call: Call) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let body = match call.body {
                Some(body) => Some(
                    canonical(&body)
                        .ok_or_else(|| PeerError::Unusable("what would be sent is not canonical JSON".to_owned()))?,
                ),
                None => None,
            };
            let call = remote::Call {
                method: call.method,
                path_and_query: call.path_and_query,
                body,
                timeout: call.timeout,
                body_bytes_max: call.body_bytes_max,
                back_off: call.back_off,
            };
            remote::Peers::send(self, to, call).await.map_err(PeerError::from)
        })
    }

    fn contacts(&self) -> Option<broadcast::Receiver<OwnedServerName>> {
        Some(remote::Peers::contacts(self))
    }
}

/// A body as it is signed. Events of old rooms may have numbers that canonical JSON has not: they are sent as they are.
fn canonical(body: &Bytes) -> Option<remote::Body> {
    let text = std::str::from_utf8(body).ok()?;
    match rules::signed::canonical(text) {
        Some(text) => Some(remote::Body::canonical(text)),
        None => Some(remote::Body::canonical(text.to_owned())),
    }
}

impl From<remote::PeerError> for PeerError {
    fn from(error: remote::PeerError) -> Self {
        match error {
            remote::PeerError::Barred => Self::Forbidden(error.to_string()),
            remote::PeerError::Refused { status, errcode, message, retry_after, .. } => {
                Self::Refused { status, errcode, error: message, retry_after }
            }
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl EventKeys for remote::Keys {
    fn check<'a>(&'a self, events: Vec<String>, rules: &'a RoomVersionRules) -> BoxFuture<'a, Vec<Checked>> {
        Box::pin(async move {
            let count = events.len();
            match self.check_events(rules, events).await {
                Ok(checked) => checked,
                Err(error) => {
                    tracing::error!(%error, "the signatures of events can't be checked");
                    let unchecked = || Checked::Drop(DropReason::Json("it could not be checked".to_owned()));
                    std::iter::repeat_with(unchecked).take(count).collect()
                }
            }
        })
    }
}
