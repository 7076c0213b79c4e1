//! What administrators ask on the command line: of the server if it runs, through a socket in the data
//! folder that only its owner can open, and otherwise of the data itself.
//!
//! The socket speaks HTTP/1.1 with one request, `POST /ask`: an [`Ask`] as JSON, answered by an [`Answer`]
//! or by a status that is not 200 and a text. It is for the same version of the same program only.

use crate::agency::{self, Agency, Shared};
use crate::body::{self, Body};
use crate::config::Config;
use anyhow::{Context, bail};
use base::Secret;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The largest question and the largest answer.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_mins(2);

/// What an administrator asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Create a user.
    CreateUser {
        /// The part of the user id before the colon.
        localpart: String,
        /// The password.
        password: Password,
        /// Whether the user administers the agency.
        admin: bool,
    },
    /// Make a user an administrator, or one like others.
    SetAdmin {
        /// The part of the user id before the colon.
        localpart: String,
        /// Whether the user administers the agency.
        admin: bool,
    },
    /// List users, in the order of their names.
    ListUsers {
        /// Only those after this localpart.
        after: Option<String>,
        /// The most users.
        users_max: usize,
    },
    /// Close an account for ever.
    DeactivateUser {
        /// The part of the user id before the colon.
        localpart: String,
        /// Whether profile and stored data are removed as well.
        erase: bool,
    },
    /// Set another password, and end all sessions.
    ResetPassword {
        /// The part of the user id before the colon.
        localpart: String,
        /// The new password.
        password: Password,
    },
}

/// A password on its way; it never shows itself.
#[derive(Clone, Debug)]
pub struct Password(pub Secret<String>);

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(Self)
    }
}

/// What the answer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, to this user.
    Done {
        /// The user id.
        user_id: String,
    },
    /// Users.
    Users {
        /// The users, in the order of their names.
        users: Vec<User>,
    },
}

/// A user, as administrators see one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub user_id: String,
    /// Whether the account is closed.
    pub deactivated: bool,
    /// When the account was created, in milliseconds since 1970.
    pub created_ms: u64,
}

/// The socket of an agency that runs.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    file: PathBuf,
}

impl AdminSocket {
    /// Removes the socket.
    pub(crate) fn close(self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn socket_of(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// Serves the socket of an agency until the server stops. A server works without, so that a file system
/// that has no sockets is only worth a warning.
pub(crate) fn serve(agency: &Arc<Agency>, stopping: &CancellationToken) -> Option<AdminSocket> {
    let file = socket_of(&agency.data_dir);
    // The store is locked, so nobody else serves this agency: what is there was left by a crash.
    let _ = std::fs::remove_file(&file);
    let bound = UnixListener::bind(&file).and_then(|listener| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            let file = file.display();
            tracing::warn!(%error, %file, "no socket for administrators: chancery user needs the server stopped");
            return None;
        }
    };
    let (agency, stopping) = (agency.clone(), stopping.clone());
    tokio::spawn(async move {
        let _ = stopping.run_until_cancelled_owned(accept_all(listener, agency)).await;
    });
    Some(AdminSocket { file })
}

async fn accept_all(listener: UnixListener, agency: Arc<Agency>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let agency = agency.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(agency.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(TIMEOUT, connection).await {
                tracing::debug!(%error, "a connection of an administrator failed");
            }
        });
    }
}

async fn answer(agency: Arc<Agency>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let refuse = |status, message: String| Ok(body::respond(status, "text/plain; charset=utf-8", message));
    if (request.method(), request.uri().path()) != (&Method::POST, "/ask") {
        return refuse(StatusCode::NOT_FOUND, "this socket is for the chancery command".to_owned());
    }
    let bytes = match Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect().await {
        Ok(bytes) => bytes.to_bytes(),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let ask: Ask = match serde_json::from_slice(&bytes) {
        Ok(ask) => ask,
        Err(error) => {
            let message = format!("the server doesn't understand the command, is it another version? {error}");
            return refuse(StatusCode::BAD_REQUEST, message);
        }
    };
    match agency.obey(ask).await.and_then(|answer| Ok(serde_json::to_vec(&answer)?)) {
        Ok(bytes) => Ok(body::respond(StatusCode::OK, "application/json", bytes)),
        Err(error) => refuse(StatusCode::CONFLICT, format!("{error:#}")),
    }
}

/// Asks an agency of this configuration, whether its server runs or not.
pub async fn ask(config: &Config, of: &crate::config::Agency, ask: Ask) -> anyhow::Result<Answer> {
    if let Ok(stream) = UnixStream::connect(socket_of(&of.data_dir)).await {
        return tokio::time::timeout(TIMEOUT, ask_socket(stream, &ask)).await.context("the server doesn't answer")?;
    }
    let shared = Shared::new(config, CancellationToken::new());
    let opened = Agency::open(of, &shared).await?;
    let answer = opened.obey(ask).await;
    shared.stopping.cancel();
    agency::close(vec![Arc::new(opened)]).await;
    answer
}

async fn ask_socket(stream: UnixStream, ask: &Ask) -> anyhow::Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = Full::new(Bytes::from(serde_json::to_vec(ask)?));
    let request = Request::post("/ask").header("host", "admin").body(body)?;
    let response = sender.send_request(request).await.context("the server hung up")?;
    let status = response.status();
    let bytes = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|error| anyhow::anyhow!("the answer can't be read: {error}"))?.to_bytes();
    if status != StatusCode::OK {
        bail!("{}", String::from_utf8_lossy(&bytes));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_travels_and_does_not_show_itself() {
        let password = Password(Secret::new("hunter2".to_owned()));
        let ask = Ask::ResetPassword { localpart: "alice".to_owned(), password };
        assert!(!format!("{ask:?}").contains("hunter2"));
        let text = serde_json::to_string(&ask).unwrap();
        let Ask::ResetPassword { password, .. } = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(password.0.expose(), "hunter2");
    }
}
