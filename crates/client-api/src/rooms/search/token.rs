//! The places from which a search goes on: after which hit, and within which group.

use super::criteria::GroupKey;
use crate::ApiError;
use ::search::Place;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A `next_batch` token: JSON, encoded so that it is one word in a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchToken {
    beyond: (u64, u64),
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<OfGroup>,
}

/// The group whose results are wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct OfGroup {
    pub key: GroupKey,
    pub value: String,
}

impl BatchToken {
    pub fn new(beyond: Place, group: Option<OfGroup>) -> Self {
        Self { beyond: (beyond.0, beyond.1), group }
    }

    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let json = URL_SAFE_NO_PAD.decode(text).ok();
        let token = json.and_then(|json| serde_json::from_slice(&json).ok());
        token.ok_or_else(|| ApiError::invalid_param("`next_batch` is not a token of a search"))
    }

    pub fn place(&self) -> Place {
        Place(self.beyond.0, self.beyond.1)
    }

    pub fn text(&self) -> Result<String, ApiError> {
        let json = serde_json::to_vec(self).map_err(|error| ApiError::internal(&error))?;
        Ok(URL_SAFE_NO_PAD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let group = OfGroup { key: GroupKey::Room, value: "!r:x".to_owned() };
        for token in [BatchToken::new(Place(7, u64::MAX), None), BatchToken::new(Place(0, 1), Some(group))] {
            assert_eq!(BatchToken::parse(&token.text().unwrap()).unwrap(), token);
        }
        for bad in ["", "s12", "e30", "????", "eyJiZXlvbmQiOlsxXX0"] {
            assert_eq!(BatchToken::parse(bad).unwrap_err().code(), Some("M_INVALID_PARAM"), "{bad}");
        }
    }
}
