//! Tokens: places in what a client has seen, opaque to it.
//!
//! A [`SyncToken`] is `s<stamp>_<volatile>`: everything up to the stamp was seen, and of what is only in memory
//! (typing) everything up to the volatile count. When more messages wait for the device than one response tells,
//! `_<to device>` follows: the stamp up to which those were seen. A [`PageToken`] is `t<order>`: a place between two events of a
//! timeline, just after the one with that order. Backwards from it come the events up to and with that order,
//! forwards those after it; so a sync token is a page token as well, and clients may pass either to `from`
//! (client-server API, `GET /rooms/{roomId}/messages`).

use crate::sliding::Position;
use base::{Order, Stamp};
use std::fmt;
use std::str::FromStr;

/// A token that this server did not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenError;

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a token of this server")
    }
}

impl std::error::Error for TokenError {}

/// How far a client has synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncToken {
    /// Everything that was committed up to here was seen.
    pub stamp: Stamp,
    /// Of what is only in memory, everything up to this count was seen.
    pub volatile: u64,
    /// Of the messages to the device, everything up to here was seen; never beyond `stamp`.
    pub to_device: Stamp,
}

impl SyncToken {
    /// A token of a client that has seen all messages to its device.
    #[must_use]
    pub fn new(stamp: Stamp, volatile: u64) -> Self {
        Self { stamp, volatile, to_device: stamp }
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}", self.stamp, self.volatile)?;
        if self.to_device < self.stamp { write!(f, "_{}", self.to_device) } else { Ok(()) }
    }
}

impl FromStr for SyncToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (stamp, rest) = text.strip_prefix('s').and_then(|rest| rest.split_once('_')).ok_or(TokenError)?;
        let stamp = Stamp(number(stamp)?);
        let Some((volatile, to_device)) = rest.split_once('_') else { return Ok(Self::new(stamp, number(rest)?)) };
        let to_device = Stamp(number(to_device)?);
        // What is not behind is not written.
        if to_device >= stamp {
            return Err(TokenError);
        }
        Ok(Self { stamp, volatile: number(volatile)?, to_device })
    }
}

/// A place in a room's timeline, just after the event with this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageToken(pub Order);

impl PageToken {
    /// The place that a token names, be it one of pagination, one of sync, or the position of a sliding sync
    /// (MSC4186, "Connections").
    ///
    /// # Errors
    ///
    /// [`TokenError`] if it is none of them.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let of_sync = |_| text.parse::<SyncToken>().map(Self::from);
        text.parse().or_else(of_sync).or_else(|_| text.parse::<Position>().map(Self::from))
    }
}

impl From<SyncToken> for PageToken {
    fn from(token: SyncToken) -> Self {
        Self(token.stamp.into())
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl FromStr for PageToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.strip_prefix('t').ok_or(TokenError)?;
        let order: i64 = text.parse().map_err(|_| TokenError)?;
        // One place has one token: no plus signs, no leading zeros, no minus zero.
        if order.to_string() == text { Ok(Self(Order(order))) } else { Err(TokenError) }
    }
}

/// A number as [`fmt::Display`] writes it.
fn number(text: &str) -> Result<u64, TokenError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| TokenError) } else { Err(TokenError) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_written_in_one_way_only() {
        for bad in [
            "", "s", "s1", "s_", "s1_", "s_1", "s+1_2", "s01_2", "s1_02", "s-1_2", "s1_2_3", "s1_2_1", "s3_2_1_0",
            "s3_2_01", "s 1_2", "1_2",
        ] {
            assert_eq!(bad.parse::<SyncToken>(), Err(TokenError), "{bad}");
        }
        assert_eq!("s18446744073709551616_0".parse::<SyncToken>(), Err(TokenError));
        for bad in ["", "t", "t-", "t-0", "t+1", "t01", "t1_2", "t9223372036854775808", "1"] {
            assert_eq!(bad.parse::<PageToken>(), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn a_sync_token_names_a_place_in_a_timeline() {
        assert_eq!(PageToken::parse("s7_3"), Ok(PageToken(Order(7))));
        assert_eq!(PageToken::parse("t-7"), Ok(PageToken(Order(-7))));
        assert_eq!(PageToken::parse("x7"), Err(TokenError));
    }

    proptest! {
        #[test]
        fn tokens_read_back_as_they_were_written(stamp: u64, volatile: u64, behind: u64, order: i64) {
            let to_device = Stamp(stamp.saturating_sub(behind));
            let token = SyncToken { stamp: Stamp(stamp), volatile, to_device };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
            let page = PageToken(Order(order));
            prop_assert_eq!(PageToken::parse(&page.to_string()), Ok(page));
        }

        #[test]
        fn what_parses_is_what_is_written(text in "[st][-+_0-9]{0,25}") {
            if let Ok(token) = text.parse::<SyncToken>() {
                prop_assert_eq!(token.to_string(), text.clone());
            }
            if let Ok(token) = text.parse::<PageToken>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_read_without_harm(text: String) {
            let _either = (text.parse::<SyncToken>().is_ok(), PageToken::parse(&text).is_ok());
        }
    }
}
