//! Whom a user ignores (client-server API, "Ignoring Users").

use crate::RoomError;
use records::View;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{HashMap, HashSet};

/// The account data that says so.
const KIND: &str = "m.ignored_user_list";

/// The users whom somebody ignores. Nobody ignores themselves, whatever they have written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored(HashSet<OwnedUserId>);

impl Ignored {
    /// Those whom `user` ignores.
    pub fn of(view: &View, user: &UserId) -> Result<Self, RoomError> {
        #[derive(Default, Deserialize)]
        #[expect(
            clippy::zero_sized_map_values,
            reason = "it is the map of the specification, of which only keys count"
        )]
        struct Content {
            ignored_users: HashMap<String, IgnoredAny>,
        }

        let content = view.account_data(user, None, KIND)?;
        // Clients may write anything there. What is no list ignores nobody.
        let content: Content = content.and_then(|content| serde_json::from_str(&content).ok()).unwrap_or_default();
        let users = content.ignored_users.into_keys().filter_map(|id| OwnedUserId::try_from(id).ok());
        Ok(Self(users.filter(|ignored| ignored != user).collect()))
    }

    /// Whether this user is ignored.
    #[must_use]
    pub fn has(&self, user: &UserId) -> bool {
        self.0.contains(user)
    }

    /// Whether nobody is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
