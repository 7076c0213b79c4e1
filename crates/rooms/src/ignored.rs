//! Whom a user ignores (client-server API, "Ignoring Users").

use crate::RoomError;
use records::View;
use rules::IgnoredUsers;
use rules::ignored::IGNORED_USER_LIST;
use ruma::{OwnedUserId, UserId};

/// The users whom somebody ignores. Nobody ignores themselves, whatever they have written down.
#[derive(Clone, Debug)]
pub struct Ignored {
    users: IgnoredUsers,
    by: OwnedUserId,
}

impl Ignored {
    /// Those whom `user` ignores.
    pub fn of(view: &View, user: &UserId) -> Result<Self, RoomError> {
        let content = view.account_data(user, None, IGNORED_USER_LIST)?;
        Ok(Self { users: IgnoredUsers::of_content(content.as_deref()), by: user.to_owned() })
    }

    /// Whether this user is ignored.
    #[must_use]
    pub fn has(&self, user: &UserId) -> bool {
        self.users.contains(user) && *self.by != *user
    }

    /// Whether nobody is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}
