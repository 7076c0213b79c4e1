//! What identifiers may look like (appendices, "Common Namespaced Identifier Grammar", "User identifiers",
//! "Room Aliases").
//!
//! Two grammars: a strict one for what this server makes, and the historical one for what others made.

use base::limits::ID_BYTES_MAX;
use ruma::{OwnedRoomAliasId, OwnedUserId, ServerName};

/// Why a name makes no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// There is no name.
    #[error("the name is empty")]
    Empty,
    /// With the server name it has more than [`ID_BYTES_MAX`] bytes.
    #[error("the identifier is longer than {ID_BYTES_MAX} bytes")]
    TooLong,
    /// It has a character that is not allowed.
    #[error("the name has a character that is not allowed")]
    Character,
}

/// The id of a new user: the localpart must not be empty and has only `a-z`, `0-9`, `.`, `_`, `=`, `-`, `/` and
/// `+`. Upper case is refused, not folded: whoever wants that does it before.
///
/// # Errors
///
/// [`IdError`].
pub fn new_user_id(localpart: &str, server: &ServerName) -> Result<OwnedUserId, IdError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+');
    if localpart.is_empty() {
        return Err(IdError::Empty);
    }
    if !localpart.bytes().all(allowed) {
        return Err(IdError::Character);
    }
    parse(format!("@{localpart}:{server}"))
}

/// The id of a user who may be older than today's grammar: any localpart without `:` and NUL.
///
/// # Errors
///
/// [`IdError`].
pub fn historical_user_id(localpart: &str, server: &ServerName) -> Result<OwnedUserId, IdError> {
    if localpart.contains([':', '\0']) {
        return Err(IdError::Character);
    }
    parse(format!("@{localpart}:{server}"))
}

/// A room alias: the localpart must not be empty and has no `:`, NUL, or white space, which the grammar would
/// allow but no client can show.
///
/// # Errors
///
/// [`IdError`].
pub fn new_room_alias(localpart: &str, server: &ServerName) -> Result<OwnedRoomAliasId, IdError> {
    if localpart.is_empty() {
        return Err(IdError::Empty);
    }
    if localpart.chars().any(|c| c == ':' || c == '\0' || c.is_whitespace()) {
        return Err(IdError::Character);
    }
    parse(format!("#{localpart}:{server}"))
}

/// Whether this is short enough for an identifier, a type or a state key.
#[must_use]
pub fn fits(text: &str) -> bool {
    text.len() <= ID_BYTES_MAX
}

fn parse<T: TryFrom<String>>(id: String) -> Result<T, IdError> {
    if !fits(&id) {
        return Err(IdError::TooLong);
    }
    T::try_from(id).map_err(|_| IdError::Character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ruma::server_name;

    fn server() -> &'static ServerName {
        server_name!("a.example")
    }

    #[test]
    fn new_users_have_plain_names() {
        for name in ["a", "a.b", "0", "a=b-c/d+e_f"] {
            assert_eq!(new_user_id(name, server()).unwrap().localpart(), name);
        }
        for name in ["A", "ä", "a b", "a:b", "a\0", "a@b", "*", "a\n"] {
            assert_eq!(new_user_id(name, server()), Err(IdError::Character), "{name:?}");
        }
        assert_eq!(new_user_id("", server()), Err(IdError::Empty));
    }

    #[test]
    fn old_users_have_any_names() {
        for name in ["A", "ä", "a b", "a@b", "*", "日本"] {
            assert_eq!(historical_user_id(name, server()).unwrap().localpart(), name);
        }
        assert_eq!(historical_user_id("a:b", server()), Err(IdError::Character));
        assert_eq!(historical_user_id("a\0b", server()), Err(IdError::Character));
    }

    #[test]
    fn an_identifier_has_at_most_255_bytes() {
        let longest = ID_BYTES_MAX - "@:a.example".len();
        assert!(new_user_id(&"a".repeat(longest), server()).is_ok());
        assert_eq!(new_user_id(&"a".repeat(longest + 1), server()), Err(IdError::TooLong));
        assert!(new_room_alias(&"ä".repeat(longest / 2), server()).is_ok());
        assert_eq!(new_room_alias(&"ä".repeat(longest / 2 + 1), server()), Err(IdError::TooLong));
    }

    #[test]
    fn an_alias_has_a_name_that_can_be_shown() {
        assert_eq!(new_room_alias("Bürgeramt*", server()).unwrap().alias(), "Bürgeramt*");
        for name in ["a b", "a:b", "a\0", "a\n"] {
            assert_eq!(new_room_alias(name, server()), Err(IdError::Character), "{name:?}");
        }
        assert_eq!(new_room_alias("", server()), Err(IdError::Empty));
    }

    proptest! {
        #[test]
        fn no_name_makes_trouble(name in any::<String>()) {
            for id in [new_user_id(&name, server()), historical_user_id(&name, server())].into_iter().flatten() {
                prop_assert!(fits(id.as_str()));
                prop_assert_eq!(id.localpart(), name.as_str());
            }
            if let Ok(alias) = new_room_alias(&name, server()) {
                prop_assert_eq!(alias.alias(), name.as_str());
            }
        }
    }
}
