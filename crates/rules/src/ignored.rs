//! Whom a user does not want to hear of (client-server API, "Ignoring Users").

use crate::pdu::Pdu;
use ruma::UserId;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The type of the account data that names them.
pub const IGNORED_USER_LIST: &str = "m.ignored_user_list";

/// The users that somebody ignores.
#[derive(Clone, Debug, Default)]
pub struct IgnoredUsers(HashSet<String>);

impl IgnoredUsers {
    /// Those whom the content of somebody's `m.ignored_user_list` names; nobody if it is missing or not
    /// understood. How many there can be follows from how large account data can be.
    #[must_use]
    pub fn of_content(content: Option<&str>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            ignored_users: Map<String, Value>,
        }
        let content = content.and_then(|content| serde_json::from_str::<Content>(content).ok());
        Self(
            content
                .map(|content| content.ignored_users.into_iter().map(|(user, _)| user).collect())
                .unwrap_or_default(),
        )
    }

    /// Whether `user` is among them.
    #[must_use]
    pub fn contains(&self, user: &UserId) -> bool {
        self.0.contains(user.as_str())
    }

    /// Who they are, as the list names them: anything may be in it.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there is nobody among them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an event is kept from `user`, who ignores these: one of somebody ignored that sets no state.
    /// What a room is like does not depend on whom one ignores, and nobody can ignore themselves.
    #[must_use]
    pub fn hide(&self, event: &Pdu, user: &UserId) -> bool {
        !self.0.is_empty() && event.state_key().is_none() && self.contains(event.sender()) && event.sender() != user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::user_id;

    #[test]
    fn a_list_that_is_not_understood_names_nobody() {
        let (bob, carol) = (user_id!("@bob:x"), user_id!("@carol:x"));
        let list = IgnoredUsers::of_content(Some(r#"{"ignored_users":{"@bob:x":{},"what":7}}"#));
        assert!(list.contains(bob) && !list.contains(carol));
        for odd in [None, Some("{}"), Some(r#"{"ignored_users":["@bob:x"]}"#), Some(r#"{"ignored_users":null}"#)] {
            assert!(!IgnoredUsers::of_content(odd).contains(bob), "{odd:?}");
        }
    }
}
