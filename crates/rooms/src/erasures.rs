//! Whose accounts were erased, in memory: they are few, and each event that a newcomer reads asks.

use crate::RoomError;
use base::Stamp;
use records::View;
use std::sync::{Arc, PoisonError, RwLock};

/// The erased accounts of an agency, about a hundred bytes each.
#[derive(Default)]
pub(crate) struct Erasures {
    known: RwLock<Known>,
}

#[derive(Clone, Default)]
struct Known {
    /// When the last of them was erased.
    last: Option<Stamp>,
    users: Arc<records::Erasures>,
}

impl Erasures {
    /// The erased accounts as a view has them, and maybe some that were erased since. Reads the store only if an
    /// account was erased since the last time.
    pub fn at(&self, view: &View) -> Result<Arc<records::Erasures>, RoomError> {
        let last = view.last_erasure()?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known.last >= last {
            return Ok(known.users);
        }
        let users = Arc::new(view.erasures()?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.last < last {
            *known = Known { last, users: users.clone() };
        }
        Ok(users)
    }
}
