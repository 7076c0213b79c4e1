//! User names.

use crate::{Accounts, Error};
use base::limits::ID_BYTES_MAX;
use ruma::{OwnedUserId, UserId};

impl Accounts {
    /// The id of the user whom a text names: a localpart, or a whole id of this agency. Capitals count as small
    /// letters (appendices, "User Identifiers": no two users differ only in case).
    pub fn user_id(&self, name: &str) -> Result<OwnedUserId, Error> {
        let localpart = match name.strip_prefix('@') {
            Some(id) => match id.split_once(':') {
                Some((localpart, server)) if server == self.server_name() => localpart,
                _ => return Err(Error::InvalidUsername("it is of another server")),
            },
            None => name,
        };
        let localpart = localpart.to_ascii_lowercase();
        if localpart.is_empty() {
            return Err(Error::InvalidUsername("it is empty"));
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
        if !localpart.bytes().all(allowed) {
            return Err(Error::InvalidUsername("only a-z, 0-9 and ._=-/+ are allowed"));
        }
        let id = format!("@{localpart}:{}", self.server_name());
        if id.len() > ID_BYTES_MAX {
            return Err(Error::InvalidUsername("it is too long"));
        }
        OwnedUserId::try_from(id).map_err(|_| Error::InvalidUsername("it is not a user id"))
    }

    /// Whether a user id is of this agency.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name()
    }

    /// The id that a name would have, if it is still free.
    pub fn available(&self, name: &str) -> Result<OwnedUserId, Error> {
        let user = self.user_id(name)?;
        if self.view().user(&user)?.is_some() { Err(Error::UserInUse) } else { Ok(user) }
    }
}
