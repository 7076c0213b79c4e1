//! By what users are known outside of Matrix: mail addresses and phone numbers, and how it is proven whose they are.

use crate::accounts::TokenHash;
use crate::codec::RecordsError;
use crate::tables::{THREEPID, THREEPID_OF, VALIDATION, VALIDATION_BY_TIME, VALIDATION_OF};
use crate::{Changes, View};
use base::UnixMillis;
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// To whom an identifier belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreepidRecord {
    /// The user.
    pub user: OwnedUserId,
    /// When it was proven to be theirs.
    pub validated_at: UnixMillis,
    /// When it came to their account.
    pub added_at: UnixMillis,
}

/// An identifier of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threepid {
    /// `email` or `msisdn`.
    pub medium: String,
    /// The identifier, in its canonical form.
    pub address: String,
    /// To whom it belongs.
    pub record: ThreepidRecord,
}

/// For what somebody proves that an address is theirs. A proof is good for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To register.
    Register,
    /// To add it to their account.
    Add,
    /// To set a new password.
    Reset,
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Self::Register => 1,
            Self::Add => 2,
            Self::Reset => 3,
        }
    }
}

/// A proof that is under way, or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// For what.
    pub purpose: Purpose,
    /// The mail address.
    pub address: String,
    /// The hash of the secret that the client chose.
    pub client_secret: TokenHash,
    /// The hashes of the tokens that were mailed.
    pub tokens: Vec<TokenHash>,
    /// Which attempt of the client was the last.
    pub send_attempt: u64,
    /// Where to go afterwards.
    pub next_link: Option<String>,
    /// When it began.
    pub begun_at: UnixMillis,
    /// When it was done.
    pub validated_at: Option<UnixMillis>,
}

fn threepid_key(medium: &str, address: &str) -> Vec<u8> {
    THREEPID.key().text(medium).text(address).build()
}

fn of_user(user: &UserId) -> KeyBuilder {
    THREEPID_OF.key().text(user.as_str())
}

fn validation_key(sid: &str) -> Vec<u8> {
    VALIDATION.key().text(sid).build()
}

fn validation_of_key(purpose: Purpose, address: &str, client_secret: &TokenHash) -> Vec<u8> {
    VALIDATION_OF.key().byte(purpose.byte()).text(address).fixed(client_secret).build()
}

impl View {
    /// To whom an identifier belongs.
    pub fn threepid(&self, medium: &str, address: &str) -> Result<Option<ThreepidRecord>, RecordsError> {
        self.get(THREEPID, &threepid_key(medium, address))
    }

    /// The identifiers of a user. Whoever adds one keeps them few.
    pub fn threepids(&self, user: &UserId) -> Result<Vec<Threepid>, RecordsError> {
        let mut found = Vec::new();
        for (key, _) in self.scan_all(THREEPID_OF, of_user(user).prefix_range())? {
            let mut reader = KeyReader::new(&key);
            let (Some(_), Some(medium), Some(address)) = (reader.text(), reader.text(), reader.text()) else {
                return Err(THREEPID_OF.corrupt());
            };
            let record = self.threepid(medium, address)?.filter(|record| record.user == user);
            let record = record.ok_or_else(|| THREEPID.corrupt())?;
            found.push(Threepid { medium: medium.to_owned(), address: address.to_owned(), record });
        }
        Ok(found)
    }

    /// A proof by its id.
    pub fn validation(&self, sid: &str) -> Result<Option<ValidationRecord>, RecordsError> {
        self.get(VALIDATION, &validation_key(sid))
    }

    /// The id of the proof that a client has begun.
    pub fn validation_of(
        &self,
        purpose: Purpose,
        address: &str,
        client_secret: &TokenHash,
    ) -> Result<Option<String>, RecordsError> {
        self.get(VALIDATION_OF, &validation_of_key(purpose, address, client_secret))
    }

    /// The ids of proofs that began before a time, the oldest first, at most `rows_max`.
    pub fn validations_before(&self, before: UnixMillis, rows_max: usize) -> Result<Vec<String>, RecordsError> {
        let range = (VALIDATION_BY_TIME.key().build(), VALIDATION_BY_TIME.key().number(before.0).build());
        let rows = self.scan(VALIDATION_BY_TIME, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let sid = reader.number().and_then(|_| reader.text()).ok_or_else(|| VALIDATION_BY_TIME.corrupt())?;
                Ok(sid.to_owned())
            })
            .collect()
    }
}

impl Changes {
    /// Writes to whom an identifier belongs, on condition that this is still as the view shows it. Of one that was
    /// another user's, that user's row is the caller's to remove.
    pub fn put_threepid(&mut self, medium: &str, address: &str, record: &ThreepidRecord) -> Result<(), RecordsError> {
        let key = threepid_key(medium, address);
        self.expect_unchanged(THREEPID, key.clone())?;
        self.put(THREEPID, key, record);
        self.put(THREEPID_OF, of_user(&record.user).text(medium).text(address).build(), &());
        Ok(())
    }

    /// Removes an identifier of a user, on condition that it is still as the view shows it.
    pub fn clear_threepid(&mut self, user: &UserId, medium: &str, address: &str) -> Result<(), RecordsError> {
        let key = threepid_key(medium, address);
        self.expect_unchanged(THREEPID, key.clone())?;
        self.clear(THREEPID, key);
        self.clear(THREEPID_OF, of_user(user).text(medium).text(address).build());
        Ok(())
    }

    /// Writes a proof, on condition that it is still as the view shows it.
    pub fn put_validation(&mut self, sid: &str, record: &ValidationRecord) -> Result<(), RecordsError> {
        let of = validation_of_key(record.purpose, &record.address, &record.client_secret);
        self.expect_unchanged(VALIDATION, validation_key(sid))?;
        self.expect_unchanged(VALIDATION_OF, of.clone())?;
        self.put(VALIDATION, validation_key(sid), record);
        self.put(VALIDATION_OF, of, &sid);
        self.put(VALIDATION_BY_TIME, VALIDATION_BY_TIME.key().number(record.begun_at.0).text(sid).build(), &());
        Ok(())
    }

    /// Removes a proof, on condition that it is still as the view shows it.
    pub fn clear_validation(&mut self, sid: &str) -> Result<(), RecordsError> {
        let Some(record) = self.view().validation(sid)? else { return Ok(()) };
        self.expect_unchanged(VALIDATION, validation_key(sid))?;
        self.clear(VALIDATION, validation_key(sid));
        self.clear(VALIDATION_BY_TIME, VALIDATION_BY_TIME.key().number(record.begun_at.0).text(sid).build());
        let of = validation_of_key(record.purpose, &record.address, &record.client_secret);
        if self.view().get::<String>(VALIDATION_OF, &of)?.as_deref() == Some(sid) {
            self.clear(VALIDATION_OF, of);
        }
        Ok(())
    }
}
