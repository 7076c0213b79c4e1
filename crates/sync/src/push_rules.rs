//! A user's push rules, kept as their account data, so that changes reach all of their devices.

use crate::{SyncError, Syncs};
use records::View;
use rules::push::{EditError, PUSH_RULES, Ruleset};
use ruma::UserId;
use store::CommitError;

/// How often a change is tried that meets another one of the same user.
const TRIES_MAX: usize = 8;

impl Syncs {
    /// A user's push rules.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn push_rules(&self, user: &UserId) -> Result<Ruleset, SyncError> {
        self.0.push_rules(&self.0.records.view(), user)
    }

    /// Changes a user's push rules. What changes nothing is not told to anybody.
    ///
    /// # Errors
    ///
    /// [`SyncError::PushRule`] with what `change` refuses; [`SyncError::Overloaded`] if other changes of the same
    /// user are always first.
    pub async fn change_push_rules(
        &self,
        user: &UserId,
        change: impl Fn(&mut Ruleset) -> Result<(), EditError> + Send,
    ) -> Result<(), SyncError> {
        for _ in 0..TRIES_MAX {
            let view = self.0.records.view();
            let before = self.0.push_rules(&view, user)?;
            let mut rules = before.clone();
            change(&mut rules).map_err(SyncError::PushRule)?;
            if rules == before {
                return Ok(());
            }
            let mut changes = self.0.records.changes(&view);
            changes.put_account_data(user, None, PUSH_RULES, &rules.content())?;
            drop(view);
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(SyncError::Overloaded)
    }
}

impl crate::Inner {
    pub(crate) fn push_rules(&self, view: &View, user: &UserId) -> Result<Ruleset, SyncError> {
        let stored = view.account_data(user, None, PUSH_RULES)?;
        Ok(Ruleset::read(user, self.config.predefined_push_rules(), stored.as_deref()))
    }
}
