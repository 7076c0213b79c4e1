//! What a user's counts depend on beside rooms: their push rules, and whom they ignore.

use super::Counted;
use crate::{Inner, SyncError};
use base::Stamp;
use quick_cache::sync::Cache;
use records::{RecordsError, View};
use rules::IgnoredUsers;
use rules::ignored::IGNORED_USER_LIST;
use rules::push::{Compiled, PUSH_RULES, Predefined, Ruleset};
use ruma::{OwnedUserId, UserId, user_id};
use std::sync::Arc;

/// Of how many users who have changed their push rules, or ignore somebody, it is kept ready what that means. At
/// some ten KiB each that is at most 100 MiB.
const READINGS_MAX: usize = 10_000;

/// When that was written on which counts are based.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    rules: Option<Stamp>,
    ignored: Option<Stamp>,
    /// What threads the user has subscribed to, where that counts.
    threads: Option<Stamp>,
}

impl Basis {
    /// When it last changed.
    pub fn changed_at(self) -> Stamp {
        self.rules.max(self.ignored).max(self.threads).unwrap_or_default()
    }

    /// Whether the user may ignore anybody.
    pub fn may_ignore(self) -> bool {
        self.ignored.is_some()
    }
}

/// How a user reads rooms, at one view: made once for a sync, and good for all rooms.
pub struct Reading {
    pub user: OwnedUserId,
    pub habits: Arc<Habits>,
}

/// Push rules and ignored users, made ready.
pub struct Habits {
    pub basis: Basis,
    pub rules: Arc<Compiled>,
    pub ignored: IgnoredUsers,
}

/// What was made ready lately.
pub struct Readings {
    pub which: Predefined,
    /// For all who have changed nothing.
    unchanged: Arc<Habits>,
    changed: Cache<OwnedUserId, Arc<Habits>>,
}

impl Readings {
    pub fn new(which: Predefined) -> Self {
        // Predefined rules serve all users alike, whoever they were made for.
        let anybody = user_id!("@anybody:anywhere.invalid");
        let rules = Arc::new(Ruleset::predefined(anybody, which).compile(anybody));
        let unchanged = Habits { basis: Basis::default(), rules, ignored: IgnoredUsers::default() };
        Self { which, unchanged: Arc::new(unchanged), changed: Cache::new(READINGS_MAX) }
    }

    fn habits(&self, view: &View, user: &UserId) -> Result<Arc<Habits>, RecordsError> {
        let written = |kind| view.account_data_written(user, None, kind);
        let threads = match self.which.threads {
            true => view.thread_subscription_count(user)?.map(|(changed, _)| changed),
            false => None,
        };
        let basis = Basis { rules: written(PUSH_RULES)?, ignored: written(IGNORED_USER_LIST)?, threads };
        if basis == Basis::default() {
            return Ok(self.unchanged.clone());
        }
        if let Some(habits) = self.changed.get(user).filter(|habits| habits.basis == basis) {
            return Ok(habits);
        }
        let rules = match basis.rules {
            None => self.unchanged.rules.clone(),
            Some(_) => {
                let stored = view.account_data(user, None, PUSH_RULES)?;
                Arc::new(Ruleset::read(user, self.which, stored.as_deref()).compile(user))
            }
        };
        let ignored = basis.ignored.map(|_| view.account_data(user, None, IGNORED_USER_LIST)).transpose()?.flatten();
        let ignored = IgnoredUsers::of_content(ignored.as_deref());
        let habits = Arc::new(Habits { basis, rules, ignored });
        self.changed.insert(user.to_owned(), habits.clone());
        Ok(habits)
    }
}

impl Counted {
    /// A user's push rules and ignored users, made ready.
    pub fn habits(&self, view: &View, user: &UserId) -> Result<Arc<Habits>, RecordsError> {
        self.readings.habits(view, user)
    }
}

impl Inner {
    /// How a user reads rooms, to count what they have not read with [`Reading::counts`].
    pub fn reading(&self, view: &View, user: &UserId) -> Result<Reading, SyncError> {
        Ok(Reading { user: user.to_owned(), habits: self.counted.readings.habits(view, user)? })
    }
}
