//! What endpoints read from queries, and pages of lists.

use axum::extract::{FromRequestParts, Query};
use face::ApiError;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// How many entries a list shows that is not told how many.
const PAGE_DEFAULT: usize = 100;
/// The most entries of one page, whatever the client asks for.
const PAGE_MAX: usize = 1000;

/// The parameters of a query: 400 `M_INVALID_PARAM` if one is wrong.
#[derive(Debug)]
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(params) =
            Query::try_from_uri(&parts.uri).map_err(|error| ApiError::invalid_param(error.body_text()))?;
        Ok(Self(params))
    }
}

/// The direction of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Dir {
    #[default]
    #[serde(rename = "f")]
    Forwards,
    #[serde(rename = "b")]
    Backwards,
}

/// Which piece of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries are passed over.
    pub from: usize,
    /// How many are wanted at most.
    pub limit: usize,
}

impl Page {
    /// The page that `from` and `limit` name.
    pub fn new(from: Option<usize>, limit: Option<usize>) -> Self {
        Self { from: from.unwrap_or(0), limit: limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX) }
    }

    /// The entries of the page.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.from).take(self.limit).collect()
    }

    /// Where the next page begins, if there are more than this one ends with.
    pub fn next(self, total: usize) -> Option<usize> {
        let next = self.from.saturating_add(self.limit);
        (next < total && self.limit > 0).then_some(next)
    }
}

/// A field that may be left out, which leaves things as they are, and may be null, which takes away what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// It is left out.
    #[default]
    Nothing,
    /// It is there.
    This(Option<T>),
}

impl<T> Given<T> {
    /// The value, if it is there and not null.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::This(Some(value)) => Some(value),
            Self::This(None) | Self::Nothing => None,
        }
    }

    /// What is there afterwards.
    pub fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::This(value) => value,
            Self::Nothing => before,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::deserialize(from).map(Self::This)
    }
}
