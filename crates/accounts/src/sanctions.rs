//! What administrators lay upon users, and whom they make administrators.
//!
//! Sessions know it. So whatever changes it makes the user's sessions be read again, in the same way as the end of a
//! session does: after the commit that changed it, no request goes by what was before.

use crate::{Accounts, Error};
use records::{Changes, RateOverride, UserRecord};
use ruma::UserId;
use tracing::Instrument as _;

/// The longest name of a kind of users, in bytes.
pub const USER_TYPE_BYTES_MAX: usize = 64;

impl Accounts {
    /// Suspends a user, or ends that (client-server API, "Account suspension").
    pub async fn set_suspended(&self, user: &UserId, suspended: bool) -> Result<(), Error> {
        self.amend(user, move |record| record.sanctions.suspended = suspended).await
    }

    /// Locks a user's account, or unlocks it (client-server API, "Account locking"). Their sessions stay.
    pub async fn set_locked(&self, user: &UserId, locked: bool) -> Result<(), Error> {
        self.amend(user, move |record| record.sanctions.locked = locked).await
    }

    /// Lets what a user says reach nobody, without telling them; or ends that.
    pub async fn set_shadow_banned(&self, user: &UserId, banned: bool) -> Result<(), Error> {
        self.amend(user, move |record| record.sanctions.shadow_banned = banned).await
    }

    /// Sets how many events a user may send, in place of the settings; `None` for what the settings say.
    pub async fn set_rate(&self, user: &UserId, rate: Option<RateOverride>) -> Result<(), Error> {
        self.amend(user, move |record| record.sanctions.rate = rate).await
    }

    /// Makes a user an administrator, or one like others.
    pub async fn set_admin(&self, user: &UserId, admin: bool) -> Result<(), Error> {
        self.amend(user, move |record| record.admin = admin).await
    }

    /// Sets what kind of user it is, at most [`USER_TYPE_BYTES_MAX`] bytes.
    pub async fn set_user_type(&self, user: &UserId, user_type: Option<String>) -> Result<(), Error> {
        if user_type.as_ref().is_some_and(|kind| kind.len() > USER_TYPE_BYTES_MAX) {
            return Err(Error::TooLarge("the type of the user"));
        }
        self.amend(user, move |record| record.user_type.clone_from(&user_type)).await
    }

    /// Changes a user's record, and lets their sessions be read again: those that there are after the commit. One that
    /// begins later reads the record as it is then.
    ///
    /// Both are one task, as in [`Accounts::revoke`].
    async fn amend(&self, user: &UserId, amend: impl Fn(&mut UserRecord) + Send + Sync + 'static) -> Result<(), Error> {
        let (accounts, user) = (self.clone(), user.to_owned());
        let work = async move {
            let change = |changes: &mut Changes| {
                let before = changes.view().user(&user)?.ok_or(Error::NoSuchUser)?;
                let mut after = before.clone();
                amend(&mut after);
                if after != before {
                    changes.put_user(&user, &after)?;
                }
                Ok(())
            };
            accounts.change(change).await?;
            accounts.0.cached.forget(&accounts.view().access_tokens_of(&user)?);
            Ok(())
        };
        tokio::spawn(work.in_current_span()).await?
    }
}
