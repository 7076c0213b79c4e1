//! `pos`: a place in what one connection has been told, opaque to the client.

use crate::token::{PageToken, SyncToken, TokenError};
use base::Stamp;
use ruma::{DeviceId, UserId};
use std::fmt;
use std::str::FromStr;

/// A place in a connection: `p<version>_<owner>_<stamp>_<volatile>`.
///
/// The version says what the connection has been told of which rooms, the rest up to when. A response that
/// only goes on with rooms that the client has already keeps the version, so that nothing need be written for
/// it; and a client that lost it comes back with its old position, from which the answer is the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The version of what was told.
    pub version: u64,
    /// Whose connection it is; see [`Position::owner`].
    pub owner: u64,
    /// Up to when.
    pub token: SyncToken,
}

impl Position {
    /// What stands for a connection in its positions, so that no other device's position is taken for one of
    /// this device. It keeps nothing secret and grants nothing.
    #[must_use]
    pub fn owner(user: &UserId, device: &DeviceId, connection: &str) -> u64 {
        // FNV-1a: the same in every version of this program, as positions outlive it.
        let texts = [user.as_str(), device.as_str(), connection];
        let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncToken { stamp, volatile, .. } = self.token;
        write!(f, "p{}_{}_{stamp}_{volatile}", self.version, self.owner)
    }
}

impl FromStr for Position {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.strip_prefix('p').ok_or(TokenError)?.split('_');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(TokenError);
        let (version, owner, stamp, volatile) = (number()?, number()?, number()?, number()?);
        let position = Self { version, owner, token: SyncToken::new(Stamp(stamp), volatile) };
        // One place has one text: no plus signs, no leading zeros, nothing behind.
        if position.to_string() == text { Ok(position) } else { Err(TokenError) }
    }
}

impl From<Position> for PageToken {
    fn from(position: Position) -> Self {
        Self::from(position.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Order;
    use proptest::prelude::*;
    use ruma::{device_id, user_id};

    #[test]
    fn a_position_is_a_place_in_a_timeline_as_well() {
        assert_eq!(PageToken::parse("p4_7_12_3"), Ok(PageToken(Order(12))));
        for bad in ["", "p", "p1_2_3", "p1_2_3_4_5", "p01_2_3_4", "p+1_2_3_4", "1_2_3_4", "p1_2_3_-4"] {
            assert_eq!(bad.parse::<Position>(), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn every_connection_has_an_owner_of_its_own() {
        let (user, device) = (user_id!("@a:x"), device_id!("D"));
        let owner = Position::owner(user, device, "c");
        assert_eq!(owner, Position::owner(user, device, "c"));
        assert_ne!(owner, Position::owner(user, device, "d"));
        assert_ne!(owner, Position::owner(user, device_id!("Dc"), ""));
        assert_ne!(owner, Position::owner(user_id!("@b:x"), device, "c"));
    }

    proptest! {
        #[test]
        fn positions_read_back_as_they_were_written(version: u64, owner: u64, stamp: u64, volatile: u64) {
            let position = Position { version, owner, token: SyncToken::new(Stamp(stamp), volatile) };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn any_text_is_read_without_harm(text in "p?[-+_0-9]{0,30}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
