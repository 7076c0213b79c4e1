//! Why something about an account failed.

use records::RecordsError;
use store::CommitError;

/// Why something about an account failed: a variant for each thing that the caller can tell the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token means nothing to this server, or not any more.
    #[error("the token is not known or has expired")]
    UnknownToken {
        /// The session still exists: the client keeps what it has and refreshes or logs in again
        /// (client-server API, "Soft logout").
        soft_logout: bool,
    },
    /// The user name or the password is wrong. Which of them is not said.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// The account is deactivated.
    #[error("the account is deactivated")]
    Deactivated,
    /// The account is locked.
    #[error("the account is locked")]
    Locked,
    /// There is no such user here.
    #[error("there is no such user")]
    NoSuchUser,
    /// The user has no such device.
    #[error("there is no such device")]
    NoSuchDevice,
    /// The user has as many devices as one can have.
    #[error("there are too many devices: log out some that are not in use any more")]
    TooManyDevices,
    /// The identifier is another user's.
    #[error("the identifier is in use already")]
    ThreepidInUse,
    /// The user has as many identifiers as one can have.
    #[error("there are too many addresses: remove some that are not in use any more")]
    TooManyThreepids,
    /// There is no such proof under way.
    #[error("the session is not known")]
    NoSuchValidation,
    /// The proof has taken too long.
    #[error("the session has expired: ask for another mail")]
    ValidationExpired,
    /// The token is not the one that was mailed.
    #[error("the token is incorrect")]
    WrongToken,
    /// The user has as many pushers as one can have, or as many users as can share a pushkey have it.
    #[error("there are too many pushers: remove some that are not in use any more")]
    TooManyPushers,
    /// A cross-signing key or the dehydrated device of the user has the id that a device brings.
    #[error("the device id is taken by a key or by the dehydrated device of the user")]
    DeviceIdTaken,
    /// The registration token is not valid any more.
    #[error("the registration token is not valid any more")]
    TokenSpent,
    /// The user name is taken.
    #[error("the user name is taken")]
    UserInUse,
    /// The user name is not valid; the text says why.
    #[error("the user name is not valid: {0}")]
    InvalidUsername(&'static str),
    /// The password is too weak; the text says why.
    #[error("the password is too weak: {0}")]
    WeakPassword(String),
    /// So many passwords are waiting to be checked that this one was not taken.
    #[error("too many logins at once")]
    Busy,
    /// A password could not be hashed.
    #[error("hashing a password failed: {0}")]
    Hashing(String),
    /// What would be stored is larger than its limit.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// The name of a profile field is too long.
    #[error("the name of a profile field has at most 255 bytes")]
    KeyTooLarge,
    /// The profile would be too large.
    #[error("a profile has at most 64 KiB")]
    ProfileTooLarge,
    /// Something else wrote at the same time, again and again.
    #[error("the change met others too often")]
    Contended,
    /// The task that made the change was cut off; whether it was made is not known.
    #[error("the change was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
    /// The records can't be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The change can't be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
