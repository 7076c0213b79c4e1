//! Users: making, checking and ending accounts.

use crate::password::PASSWORD_BYTES_MAX;
use crate::user_directory::put_found;
use crate::{Accounts, Error};
use base::Secret;
use records::{AcceptedTerms, TokenHash, UserRecord};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::collections::BTreeSet;

/// The length of the localparts that are made up for users who choose none.
const LOCALPART_LENGTH: usize = 12;

/// An account to be made.
#[derive(Debug)]
pub struct NewUser {
    /// The user's id, as [`Accounts::available`] or [`Accounts::user_id`] gave it.
    pub user_id: OwnedUserId,
    /// The password; `None` for an account that cannot log in with one.
    pub password: Option<Secret<String>>,
    /// Whether the user has accepted the policies of the settings.
    pub accepted_terms: bool,
    /// Whether the user administers the agency.
    pub admin: bool,
}

/// Which sessions end with a change of the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndSessions {
    /// None.
    None,
    /// All.
    All,
    /// All but that of one device.
    AllBut(OwnedDeviceId),
}

/// What is left of a deactivated account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// Everything but its sessions.
    Nothing,
    /// Nothing but its name, so that nobody else takes it.
    Everything,
}

/// Which password was found to be right, so that what follows can tell whether it still is.
#[derive(Clone, Debug)]
pub struct Verified(Secret<String>);

impl Verified {
    /// Whether the password of the user is still the one that was checked.
    pub(crate) fn is_of(&self, user: &UserRecord) -> bool {
        user.password.as_ref() == Some(self.0.expose())
    }
}

impl Accounts {
    /// A localpart for a user who chose none.
    #[must_use]
    pub fn made_up_name(&self) -> String {
        base::random_string(&*self.0.random, LOCALPART_LENGTH).to_ascii_lowercase()
    }

    /// Refuses a password that is too weak to be set.
    pub fn check_strength(&self, password: &Secret<String>) -> Result<(), Error> {
        let (password, length_min) = (password.expose(), self.config().password.length_min);
        if password.chars().count() < length_min {
            return Err(Error::WeakPassword(format!("it needs at least {length_min} characters")));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Error::WeakPassword(format!("it has more than {PASSWORD_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Makes an account.
    pub async fn create_user(&self, user: NewUser) -> Result<(), Error> {
        self.register_user(user, None).await
    }

    /// Makes an account for who registers with this token, if one is needed, and uses it up by one.
    pub async fn register_user(&self, user: NewUser, token: Option<&str>) -> Result<(), Error> {
        let password = match user.password {
            Some(password) => {
                self.check_strength(&password)?;
                Some(self.0.hasher.hash(password, &*self.0.random).await?)
            }
            None => None,
        };
        let terms = if user.accepted_terms { self.accepted_terms() } else { Vec::new() };
        let record = UserRecord { terms, admin: user.admin, ..self.new_record(password) };
        self.change(|changes| {
            if changes.view().user(&user.user_id)?.is_some() {
                return Err(Error::UserInUse);
            }
            if let Some(token) = token {
                self.spend_token(changes, token)?;
            }
            changes.put_user(&user.user_id, &record)?;
            put_found(changes, &user.user_id, &changes.view().profile(&user.user_id)?)
        })
        .await
    }

    /// Makes an account for a guest, whose name is made up (client-server API, "Guest Access"). It cannot be logged
    /// in to: what it has is the session that is begun for it.
    pub async fn create_guest(&self) -> Result<OwnedUserId, Error> {
        let user = self.user_id(&self.made_up_name())?;
        let record = UserRecord { guest: true, ..self.new_record(None) };
        self.change(|changes| {
            if changes.view().user(&user)?.is_some() {
                return Err(Error::UserInUse);
            }
            changes.put_user(&user, &record)?;
            Ok(())
        })
        .await?;
        Ok(user)
    }

    /// Makes a guest a user like others, with this password. The access tokens of the guest end, their devices
    /// stay.
    pub async fn upgrade_guest(&self, user: &UserId, password: Secret<String>) -> Result<(), Error> {
        self.check_strength(&password)?;
        let password = self.0.hasher.hash(password, &*self.0.random).await?;
        let upgraded = UserRecord { terms: self.accepted_terms(), ..self.new_record(Some(password)) };
        let user = user.to_owned();
        self.revoke(move |changes| {
            let record = changes.view().user(&user)?.ok_or(Error::NoSuchUser)?;
            if !record.guest {
                return Err(Error::UserInUse);
            }
            if record.deactivated_at.is_some() {
                return Err(Error::Deactivated);
            }
            let UserRecord { created_at, sessions_begun, sanctions, .. } = record;
            changes.put_user(&user, &UserRecord { created_at, sessions_begun, sanctions, ..upgraded.clone() })?;
            let mut gone = Vec::new();
            for (device, _) in changes.view().devices(&user)? {
                gone.extend(changes.clear_device_tokens(&user, &device)?);
            }
            Ok(((), gone))
        })
        .await
    }

    /// What is stored of a new user.
    fn new_record(&self, password: Option<String>) -> UserRecord {
        UserRecord {
            password,
            created_at: self.now(),
            deactivated_at: None,
            erased: false,
            admin: false,
            terms: Vec::new(),
            sessions_begun: 0,
            guest: false,
            sanctions: records::Sanctions::default(),
            user_type: None,
        }
    }

    /// The policies of the settings, as accepted now.
    fn accepted_terms(&self) -> Vec<AcceptedTerms> {
        let terms = self.config().registration.terms.iter();
        let accepted: BTreeSet<(String, String)> =
            terms.map(|terms| (terms.policy.clone(), terms.version.clone())).collect();
        let at = self.now();
        accepted.into_iter().map(|(policy, version)| AcceptedTerms { policy, version, at }).collect()
    }

    /// A user of this agency, deactivated ones included.
    pub fn user(&self, user: &UserId) -> Result<Option<UserRecord>, Error> {
        Ok(self.view().user(user)?)
    }

    /// Users in the order of their ids, from the one after `after`, at most `rows_max`.
    pub fn users(&self, after: Option<&UserId>, rows_max: usize) -> Result<Vec<(OwnedUserId, UserRecord)>, Error> {
        Ok(self.view().users(after, rows_max)?)
    }

    /// Checks a user's password. Whether the user or the password is wrong can be told neither by the error nor
    /// by the time it takes. That the account is deactivated is said only to who knows its password.
    pub async fn check_password(&self, user: &UserId, password: Secret<String>) -> Result<Verified, Error> {
        if password.expose().len() > PASSWORD_BYTES_MAX {
            return Err(Error::WrongPassword);
        }
        let record = self.view().user(user)?;
        let deactivated = record.as_ref().is_some_and(|record| record.deactivated_at.is_some());
        let hash = record.and_then(|record| record.password);
        match (self.0.hasher.verify(password, hash.clone()).await?, hash) {
            (false, _) | (true, None) => Err(Error::WrongPassword),
            (true, Some(_)) if deactivated => Err(Error::Deactivated),
            (true, Some(hash)) => Ok(Verified(Secret::new(hash))),
        }
    }

    /// Sets a user's password.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: Secret<String>,
        end_sessions: EndSessions,
    ) -> Result<(), Error> {
        self.check_strength(&password)?;
        let password = self.0.hasher.hash(password, &*self.0.random).await?;
        let user = user.to_owned();
        self.revoke(move |changes| {
            let record = changes.view().user(&user)?.ok_or(Error::NoSuchUser)?;
            if record.deactivated_at.is_some() {
                return Err(Error::Deactivated);
            }
            changes.put_user(&user, &UserRecord { password: Some(password.clone()), ..record })?;
            let gone = match &end_sessions {
                EndSessions::None => Vec::new(),
                EndSessions::All => end_all(changes, &user, None)?,
                EndSessions::AllBut(device) => end_all(changes, &user, Some(device))?,
            };
            Ok(((), gone))
        })
        .await
    }

    /// Deactivates an account for good: nobody can log in to it or take its name. Its sessions and devices end;
    /// with [`Erase::Everything`] its password, profile, account data and filters are removed too.
    ///
    /// What has to follow, and is the caller's: the user leaves all rooms and declines all invitations and knocks
    /// (`Rooms::leave_all`; it is done at the next start if it is cut off). From here on they enter none, and with
    /// [`Erase::Everything`] what they have sent is served redacted to those who could not see it as members.
    /// Keys and their backups go with the devices, and so do pushers.
    pub async fn deactivate(&self, user: &UserId, erase: Erase) -> Result<(), Error> {
        let now = self.now();
        let user = user.to_owned();
        self.revoke(move |changes| {
            let mut record = changes.view().user(&user)?.ok_or(Error::NoSuchUser)?;
            record.deactivated_at = record.deactivated_at.or(Some(now));
            changes.end_account(&user);
            changes.clear_all_delayed(&user)?;
            if erase == Erase::Everything {
                changes.erase_events(&user)?;
                record.erased = true;
                record.password = None;
                changes.clear_stored(&user);
            }
            changes.put_user(&user, &record)?;
            changes.put_found_user(&user, None)?;
            changes.clear_keys_of_user(&user)?;
            changes.clear_pushers_of_account(&user)?;
            crate::threepids::remove_all(changes, &user)?;
            Ok(((), end_all(changes, &user, None)?))
        })
        .await
    }
}

impl Accounts {
    /// Lets a deactivated account be used again, with this password if one is given. What was erased with it stays so,
    /// and it is in no room.
    pub async fn reactivate(&self, user: &UserId, password: Option<Secret<String>>) -> Result<(), Error> {
        let password = match password {
            Some(password) => {
                self.check_strength(&password)?;
                Some(self.0.hasher.hash(password, &*self.0.random).await?)
            }
            None => None,
        };
        self.change(|changes| {
            let mut record = changes.view().user(user)?.ok_or(Error::NoSuchUser)?;
            if record.deactivated_at.take().is_none() {
                return Ok(());
            }
            record.erased = false;
            record.password = password.clone().or(record.password.take());
            changes.put_user(user, &record)?;
            changes.resume_account(user);
            put_found(changes, user, &changes.view().profile(user)?)
        })
        .await
    }
}

/// Writes nothing for a user whose account has ended, nor if it ends meanwhile: what was erased stays so.
pub(crate) fn expect_active(changes: &mut records::Changes, user: &UserId) -> Result<(), Error> {
    if changes.view().has_ended(user)? {
        return Err(Error::NoSuchUser);
    }
    changes.expect_not_ended(user);
    Ok(())
}

/// Removes all devices of a user, but one. Returns the access tokens that are gone.
pub(crate) fn end_all(
    changes: &mut records::Changes,
    user: &UserId,
    but: Option<&DeviceId>,
) -> Result<Vec<TokenHash>, Error> {
    // A session that begins after this view conflicts with what is decided here.
    changes.expect_user(user)?;
    let mut gone = Vec::new();
    for (device, _) in changes.view().devices(user)? {
        if Some(&*device) != but {
            gone.extend(changes.clear_device(user, &device)?);
        }
    }
    Ok(gone)
}
