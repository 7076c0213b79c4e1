//! Profiles (client-server API, "Profiles").

use crate::user::expect_active;
use crate::user_directory::put_found;
use crate::{Accounts, Error};
use records::Profile;
use ruma::UserId;

/// The largest profile, in bytes of JSON.
pub const PROFILE_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a field, in bytes.
pub const PROFILE_KEY_BYTES_MAX: usize = 255;

impl Accounts {
    /// The profile of a user of this agency: its fields by name, each value as JSON. `None`: there is no such
    /// user.
    pub fn profile(&self, user: &UserId) -> Result<Option<Profile>, Error> {
        let view = self.view();
        if view.user(user)?.is_none() {
            return Ok(None);
        }
        Ok(Some(view.profile(user)?))
    }

    /// Sets a field of a profile to a JSON value, or removes it. Returns whether that changed anything.
    ///
    /// What has to follow a change of `displayname` or `avatar_url` is the caller's: new membership events in
    /// the rooms that the user has joined.
    pub async fn set_profile_field(&self, user: &UserId, key: &str, value: Option<&str>) -> Result<bool, Error> {
        if key.len() > PROFILE_KEY_BYTES_MAX {
            return Err(Error::KeyTooLarge);
        }
        self.change(|changes| {
            if changes.view().user(user)?.is_none_or(|user| user.deactivated_at.is_some()) {
                return Err(Error::NoSuchUser);
            }
            let mut profile = changes.view().profile(user)?;
            let before = match value {
                Some(value) => profile.insert(key.to_owned(), value.to_owned()),
                None => profile.remove(key),
            };
            if before.as_deref() == value {
                return Ok(false);
            }
            if bytes(&profile) > PROFILE_BYTES_MAX {
                return Err(Error::ProfileTooLarge);
            }
            expect_active(changes, user)?;
            changes.put_profile(user, &profile)?;
            put_found(changes, user, &profile)?;
            Ok(true)
        })
        .await
    }
}

/// The size of a profile as JSON: braces, and each field with its quotes, colon and comma. Names of fields
/// have nothing that JSON would escape.
fn bytes(profile: &Profile) -> usize {
    2 + profile.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>()
}
