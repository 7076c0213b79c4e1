//! Accounts that have ended: what has to follow, and whose events newcomers get without their content.

use crate::codec::RecordsError;
use crate::tables::{DEPARTING, ENDED, ERASED, ERASED_LAST};
use crate::{Changes, View};
use base::Stamp;
use ruma::{OwnedUserId, UserId};
use std::collections::HashMap;
use store::Direction;
use store::key::KeyReader;

/// The users who asked for what they wrote to be erased, and when.
pub type Erasures = HashMap<OwnedUserId, Stamp>;

fn ended_key(user: &UserId) -> Vec<u8> {
    ENDED.key().text(user.as_str()).build()
}

fn departing_key(user: &UserId) -> Vec<u8> {
    DEPARTING.key().text(user.as_str()).build()
}

impl View {
    /// Whether a user's account has ended.
    pub fn has_ended(&self, user: &UserId) -> Result<bool, RecordsError> {
        Ok(self.get_bytes(ENDED, &ended_key(user))?.is_some())
    }

    /// Users whose accounts have ended and who may still be in rooms, at most `rows_max`.
    pub fn departing(&self, rows_max: usize) -> Result<Vec<OwnedUserId>, RecordsError> {
        let rows = self.scan(DEPARTING, DEPARTING.key().prefix_range(), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let user = KeyReader::new(key).text().and_then(|user| OwnedUserId::try_from(user).ok());
                user.ok_or_else(|| DEPARTING.corrupt())
            })
            .collect()
    }

    /// When a user's account was erased last; none if none ever was.
    pub fn last_erasure(&self) -> Result<Option<Stamp>, RecordsError> {
        let found = self.get_stamped::<()>(ERASED_LAST, &ERASED_LAST.key().build())?;
        Ok(found.map(|(stamp, ())| stamp))
    }

    /// All users whose accounts were erased: for a memory that is renewed when [`View::last_erasure`] changes.
    pub fn erasures(&self) -> Result<Erasures, RecordsError> {
        let rows = self.scan_all(ERASED, ERASED.key().prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let user = KeyReader::new(key).text().and_then(|user| OwnedUserId::try_from(user).ok());
                let (at, ()) = ERASED.decode_stamped(value)?;
                Ok((user.ok_or_else(|| ERASED.corrupt())?, at))
            })
            .collect()
    }
}

impl Changes {
    /// Commits only if the account of a user has not ended.
    pub fn expect_not_ended(&mut self, user: &UserId) {
        self.expect_absent(ENDED, ended_key(user));
    }

    /// Whether these changes end the account of a user.
    pub(crate) fn ends(&self, user: &UserId) -> bool {
        self.is_written(ENDED, &ended_key(user))
    }

    /// Ends an account: from then on its user enters no room, and those that they are in are to be left.
    pub fn end_account(&mut self, user: &UserId) {
        self.put(ENDED, ended_key(user), &());
        self.put(DEPARTING, departing_key(user), &());
    }

    /// Lets an account be used again that has ended.
    pub fn resume_account(&mut self, user: &UserId) {
        self.clear(ENDED, ended_key(user));
        self.clear(DEPARTING, departing_key(user));
    }

    /// A user whose account has ended is in no room any more.
    pub fn departed(&mut self, user: &UserId) {
        self.clear(DEPARTING, departing_key(user));
    }

    /// From a stamp of these changes on, what a user has sent is for those only who could see it before. The first
    /// time counts.
    pub fn erase_events(&mut self, user: &UserId) -> Result<(), RecordsError> {
        let key = ERASED.key().text(user.as_str()).build();
        if self.view().get_bytes(ERASED, &key)?.is_none() {
            let nth = self.stamp();
            self.put_stamped(ERASED, key, nth, &());
            self.put_stamped(ERASED_LAST, ERASED_LAST.key().build(), nth, &());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{owned_user_id, user_id};
    use std::sync::Arc;
    use store::{CommitError, MemoryEngine};

    #[tokio::test]
    async fn whoever_decides_on_an_account_that_ends_meanwhile_is_told() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let user = owned_user_id!("@a:b");
        let mut joins = records.changes(&records.view());
        joins.expect_not_ended(&user);
        joins.put_profile(user_id!("@other:b"), &crate::Profile::new()).unwrap();
        let mut ends = records.changes(&records.view());
        ends.end_account(&user);
        records.commit(ends).await.unwrap();
        assert!(matches!(records.commit(joins).await, Err(CommitError::Conflict)));
        assert!(records.view().has_ended(&user).unwrap());
        assert_eq!(records.view().departing(10).unwrap(), std::slice::from_ref(&user));
        let mut departed = records.changes(&records.view());
        departed.departed(&user);
        records.commit(departed).await.unwrap();
        assert!(records.view().departing(10).unwrap().is_empty());
        assert!(records.view().has_ended(&user).unwrap());
    }

    #[tokio::test]
    async fn an_account_is_erased_once_and_at_a_stamp() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        assert_eq!(records.view().last_erasure().unwrap(), None);
        let mut erased = Vec::new();
        for user in [user_id!("@a:b"), user_id!("@c:b"), user_id!("@a:b")] {
            let mut changes = records.changes(&records.view());
            changes.erase_events(user).unwrap();
            if !changes.is_empty() {
                erased.push(records.commit(changes).await.unwrap().last);
            }
        }
        let [a, c] = *erased else { panic!("{erased:?}") };
        let view = records.view();
        assert_eq!(view.last_erasure().unwrap(), Some(c));
        assert_eq!(
            view.erasures().unwrap(),
            Erasures::from([(owned_user_id!("@a:b"), a), (owned_user_id!("@c:b"), c)])
        );
    }
}
