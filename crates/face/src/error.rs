//! Errors as clients see them (client-server API, "Standard error response").

use accounts::Error as AccountsError;
use axum::response::{IntoResponse, Response};
use devices::Error as DevicesError;
use federation::{FederationError, PeerError};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use media::Error as MediaError;
use records::RecordsError;
use rooms::RoomError;
use rules::push::EditError;
use search::SearchError;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::time::Duration;
use sync::SyncError;

/// When to try again, if the server or a room has too much to do.
const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// When to try again, if a user has too many uploads under way.
const MEDIA_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request failed: a status, an error code, a sentence for people, and what else the body has.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    /// `None` only for the first answer of user-interactive authentication, which is not quite an error.
    code: Option<&'static str>,
    message: Cow<'static, str>,
    extra: Map<String, Value>,
    retry_after: Option<Duration>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident: $status:ident, $code:literal;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(StatusCode::$status, $code, message)
        }
    )*};
}

/// One constructor an error code, with the status that the specification gives it where it gives one.
impl ApiError {
    codes! {
        /// The asker may not do this.
        forbidden: FORBIDDEN, "M_FORBIDDEN";
        /// The body is JSON, but not of the right shape.
        bad_json: BAD_REQUEST, "M_BAD_JSON";
        /// The body is not JSON.
        not_json: BAD_REQUEST, "M_NOT_JSON";
        /// What was asked for does not exist.
        not_found: NOT_FOUND, "M_NOT_FOUND";
        /// A parameter has a wrong value.
        invalid_param: BAD_REQUEST, "M_INVALID_PARAM";
        /// A parameter is missing.
        missing_param: BAD_REQUEST, "M_MISSING_PARAM";
        /// The request, or what it would make, is too large.
        too_large: PAYLOAD_TOO_LARGE, "M_TOO_LARGE";
        /// The account is deactivated.
        user_deactivated: FORBIDDEN, "M_USER_DEACTIVATED";
        /// The user id is taken.
        user_in_use: BAD_REQUEST, "M_USER_IN_USE";
        /// The user id is not valid.
        invalid_username: BAD_REQUEST, "M_INVALID_USERNAME";
        /// The user id belongs to an application service.
        exclusive: BAD_REQUEST, "M_EXCLUSIVE";
        /// The password is too weak.
        weak_password: BAD_REQUEST, "M_WEAK_PASSWORD";
        /// Guests may not do this.
        guest_access_forbidden: FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN";
        /// The alias is taken.
        room_in_use: BAD_REQUEST, "M_ROOM_IN_USE";
        /// The initial state of a room is not valid.
        invalid_room_state: BAD_REQUEST, "M_INVALID_ROOM_STATE";
        /// The room version is not supported.
        unsupported_room_version: BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION";
        /// The alias of a canonical-alias event is not one of the room.
        bad_alias: BAD_REQUEST, "M_BAD_ALIAS";
        /// The user has annotated the event in the same way already.
        duplicate_annotation: BAD_REQUEST, "M_DUPLICATE_ANNOTATION";
        /// What has no error code of its own.
        unknown: BAD_REQUEST, "M_UNKNOWN";
        /// The room is not in the state that the request needs.
        bad_state: FORBIDDEN, "M_BAD_STATE";
        /// No server could say whether the user may join a restricted room.
        unable_to_authorise_join: BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN";
        /// The server may not let others into a restricted room.
        unable_to_grant_join: BAD_REQUEST, "M_UNABLE_TO_GRANT_JOIN";
        /// The profile would be too large.
        profile_too_large: BAD_REQUEST, "M_PROFILE_TOO_LARGE";
        /// A name of a profile field is too long.
        key_too_large: BAD_REQUEST, "M_KEY_TOO_LARGE";
        /// The position of a sliding sync is not known any more (MSC4186).
        unknown_pos: BAD_REQUEST, "M_UNKNOWN_POS";
        /// Third-party identifiers are not supported.
        threepid_denied: FORBIDDEN, "M_THREEPID_DENIED";
        /// A signature is wrong or missing.
        invalid_signature: BAD_REQUEST, "M_INVALID_SIGNATURE";
        /// Keys are for another version of the backup than the current one.
        wrong_room_keys_version: FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION";
        /// The account is suspended, and may not do this.
        user_suspended: FORBIDDEN, "M_USER_SUSPENDED";
        /// The room of server notices can't be declined.
        cannot_leave_server_notice_room: FORBIDDEN, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
        /// The token is of no use.
        unauthorized: UNAUTHORIZED, "M_UNAUTHORIZED";
    }

    /// An error with this status and code.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: Some(code), message: message.into(), extra: Map::new(), retry_after: None }
    }

    /// The same error with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same error with one more field.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.extra.insert(field.to_owned(), value);
        self
    }

    /// What user-interactive authentication still wants: 401 with these fields, and a code if a stage failed.
    #[must_use]
    pub fn interactive(fields: Map<String, Value>, failed: Option<(&'static str, Cow<'static, str>)>) -> Self {
        let (code, message) = failed.map_or((None, Cow::Borrowed("")), |(code, message)| (Some(code), message));
        Self { status: StatusCode::UNAUTHORIZED, code, message, extra: fields, retry_after: None }
    }

    /// No such endpoint.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "there is no such endpoint")
    }

    /// The endpoint exists, but not with this method.
    #[must_use]
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "the endpoint does not have this method")
    }

    /// No access token.
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "an access token is needed")
    }

    /// A token that means nothing. With `soft_logout` the client keeps what it stored and logs in again.
    #[must_use]
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "the token is not known or has expired")
            .with("soft_logout", json!(soft_logout))
    }

    /// The account is locked (client-server API, "Account locking").
    #[must_use]
    pub fn user_locked() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", "the account is locked").with("soft_logout", json!(true))
    }

    /// Its status.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// The body that clients get.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = self.extra.clone();
        if let Some(code) = self.code {
            body.insert("errcode".to_owned(), json!(code));
            body.insert("error".to_owned(), json!(self.message));
        }
        Value::Object(body)
    }

    /// What it says to people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the server is at fault.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.status.is_server_error()
    }

    /// Too much, too often; `retry_after` tells when to try again.
    #[must_use]
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests");
        Self { retry_after: Some(retry_after), ..error.with("retry_after_ms", json!(millis)) }
    }

    /// The room has a version that this server does not support.
    #[must_use]
    pub fn incompatible_room_version(version: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", "the room's version is not supported")
            .with("room_version", json!(version))
    }

    /// Something failed that should not. Logged here, once: somebody must look.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed within the server");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "the server failed; its log says why")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(retry_after) = self.retry_after {
            // Whole seconds, rounded up: a client that waits less would be refused again.
            let seconds = u64::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<RecordsError> for ApiError {
    fn from(error: RecordsError) -> Self {
        Self::internal(&error)
    }
}

impl From<AccountsError> for ApiError {
    fn from(error: AccountsError) -> Self {
        let message = error.to_string();
        match error {
            AccountsError::UnknownToken { soft_logout } => Self::unknown_token(soft_logout),
            AccountsError::WrongPassword
            | AccountsError::TooManyDevices
            | AccountsError::TooManyPushers
            | AccountsError::TooManyThreepids
            | AccountsError::DeviceIdTaken => Self::forbidden(message),
            AccountsError::TokenSpent => Self::unauthorized(message),
            AccountsError::Locked => Self::user_locked(),
            AccountsError::Deactivated => Self::user_deactivated(message),
            AccountsError::NoSuchUser | AccountsError::NoSuchDevice => Self::not_found(message),
            AccountsError::UserInUse => Self::user_in_use(message),
            AccountsError::ThreepidInUse => Self::new(StatusCode::BAD_REQUEST, "M_THREEPID_IN_USE", message),
            AccountsError::NoSuchValidation => Self::invalid_param(message),
            AccountsError::ValidationExpired => Self::new(StatusCode::BAD_REQUEST, "M_SESSION_EXPIRED", message),
            AccountsError::WrongToken => Self::new(StatusCode::BAD_REQUEST, "M_TOKEN_INCORRECT", message),
            AccountsError::InvalidUsername(_) => Self::invalid_username(message),
            AccountsError::WeakPassword(_) => Self::weak_password(message),
            AccountsError::Busy | AccountsError::Contended => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            AccountsError::TooLarge(_) => Self::too_large(message),
            AccountsError::KeyTooLarge => Self::key_too_large(message),
            AccountsError::ProfileTooLarge => Self::profile_too_large(message),
            AccountsError::Hashing(_)
            | AccountsError::CutOff(_)
            | AccountsError::Records(_)
            | AccountsError::Commit(_) => Self::internal(&message),
        }
    }
}

// The one conversion of what rooms refuse; `rooms/` uses it.
impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        let message = error.to_string();
        match error {
            RoomError::NotFound(_) => Self::not_found(message),
            RoomError::Forbidden(_) => Self::forbidden(message),
            RoomError::GuestsForbidden => Self::guest_access_forbidden(message),
            RoomError::InviteBlocked => Self::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message),
            RoomError::BadJson(_) => Self::bad_json(message),
            RoomError::InvalidParam(_) => Self::invalid_param(message),
            RoomError::TooLarge(_) => Self::too_large(message),
            RoomError::UnsupportedVersion(_) => Self::unsupported_room_version(message),
            RoomError::InvalidRoomState(_) => Self::invalid_room_state(message),
            RoomError::AliasTaken => Self::room_in_use(message),
            RoomError::InvalidRelation(_) => Self::unknown(message),
            RoomError::DuplicateAnnotation => Self::duplicate_annotation(message),
            RoomError::Overloaded => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            error => Self::internal(&error),
        }
    }
}

/// The codes of other servers' refusals that mean the same to clients of this one.
const PASSED_ON: [&str; 9] = [
    "M_BAD_STATE",
    "M_FORBIDDEN",
    "M_GUEST_ACCESS_FORBIDDEN",
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_INVALID_PARAM",
    "M_NOT_FOUND",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNSUPPORTED_ROOM_VERSION",
];

impl From<FederationError> for ApiError {
    fn from(error: FederationError) -> Self {
        let message = error.to_string();
        match error {
            FederationError::Room(error) => error.into(),
            FederationError::NobodyToAsk => Self::not_found(message),
            FederationError::Peer(PeerError::Forbidden(_)) => Self::forbidden(message),
            FederationError::Peer(PeerError::Refused { status, errcode, error, .. }) => {
                let code = PASSED_ON.into_iter().find(|code| errcode.as_deref() == Some(*code));
                let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error);
                match status.zip(code) {
                    Some((status, code)) => Self::new(status, code, error),
                    None => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
                }
            }
            FederationError::Peer(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
            error => Self::internal(&error),
        }
    }
}

impl From<DevicesError> for ApiError {
    fn from(error: DevicesError) -> Self {
        let message = error.to_string();
        match error {
            DevicesError::BadJson(_) => Self::bad_json(message),
            DevicesError::InvalidParam(_) | DevicesError::KeyExists(_) => Self::invalid_param(message),
            DevicesError::InvalidSignature(_) => Self::invalid_signature(message),
            DevicesError::NoMasterKey => Self::missing_param(message),
            DevicesError::Forbidden(_) | DevicesError::ProofNeeded => Self::forbidden(message),
            DevicesError::NoSuchDevice => Self::unknown_token(false),
            DevicesError::NotFound(_) => Self::not_found(message),
            DevicesError::WrongBackupVersion { current } => {
                Self::wrong_room_keys_version(message).with("current_version", json!(current.to_string()))
            }
            DevicesError::TooLarge(_) => Self::too_large(message),
            DevicesError::Contended | DevicesError::Stopped => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            DevicesError::Shared(shared) if matches!(*shared, DevicesError::Contended) => {
                Self::from(DevicesError::Contended)
            }
            DevicesError::Shared(_) | DevicesError::Records(_) | DevicesError::Commit(_) => Self::internal(&message),
        }
    }
}

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        match error {
            MediaError::NotFound => Self::not_found(message),
            MediaError::NotYetUploaded => Self::new(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED", message),
            MediaError::TooLarge(_) | MediaError::ImageTooLarge { remote: false } => Self::too_large(message),
            MediaError::RemoteTooLarge | MediaError::ImageTooLarge { remote: true } => {
                Self::too_large(message).status(StatusCode::BAD_GATEWAY)
            }
            MediaError::QuotaReached
            | MediaError::NotTheCreator
            | MediaError::Refused
            | MediaError::Protected
            | MediaError::PageRefused => Self::forbidden(message),
            MediaError::TooManyPending | MediaError::Busy => Self::limit_exceeded(MEDIA_RETRY_AFTER),
            MediaError::CannotOverwrite => Self::new(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA", message),
            MediaError::NoPreviews => Self::unrecognized(),
            MediaError::InvalidParam(_) => Self::invalid_param(message),
            MediaError::CutOff(_) | MediaError::NotAnImage => Self::unknown(message),
            MediaError::Remote(_) => Self::unknown(message).status(StatusCode::BAD_GATEWAY),
            MediaError::Contended => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            MediaError::Blobs(_) | MediaError::Stopped | MediaError::Records(_) | MediaError::Commit(_) => {
                Self::internal(&message)
            }
        }
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        let message = error.to_string();
        match error {
            SyncError::BadFilter(_) => Self::bad_json(message),
            SyncError::NoSuchFilter | SyncError::InvalidParam(_) => Self::invalid_param(message),
            SyncError::UnknownPosition => Self::unknown_pos(message),
            SyncError::Forbidden(_) => Self::forbidden(message),
            SyncError::PushRule(error) => Self::from(error),
            SyncError::Overloaded => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            SyncError::Internal(_) => Self::internal(&message),
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let message = error.to_string();
        match error {
            SearchError::Off => Self::forbidden(message),
            SearchError::Overloaded | SearchError::NotReady => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            SearchError::Room(error) => Self::from(error),
            error => Self::internal(&error),
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::NotFound => Self::not_found(message),
            EditError::BadId(_) => Self::invalid_param(message),
            EditError::BadRule(_) => Self::bad_json(message),
            EditError::NoSuchNeighbour(_) => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message),
            EditError::TooLarge(_) => Self::too_large(message),
        }
    }
}
