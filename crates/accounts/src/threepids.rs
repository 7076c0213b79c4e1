//! Mail addresses and phone numbers of users, and the proofs of whose they are.

use crate::user::expect_active;
use crate::{Accounts, Error};
use base::UnixMillis;
use records::{Changes, Purpose, Threepid, ThreepidRecord, TokenHash, ValidationRecord};
use ruma::{OwnedUserId, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The medium of mail addresses.
pub const EMAIL: &str = "email";
/// How many identifiers a user can have.
const THREEPIDS_MAX: usize = 20;
/// The length of the ids of proofs, and of the tokens that are mailed.
const SECRET_LENGTH: usize = 32;
/// How many tokens of one proof are good: that of the last mail, and of those before it that may still be read.
const TOKENS_MAX: usize = 4;
/// How many proofs that have expired are removed when one begins.
const EXPIRED_AT_ONCE: usize = 10;

/// A proof that a client asks for.
#[derive(Clone, Debug)]
pub struct NewValidation<'a> {
    /// For what.
    pub purpose: Purpose,
    /// The mail address, in its canonical form.
    pub address: &'a str,
    /// The secret that the client chose.
    pub client_secret: &'a str,
    /// Which attempt this is: only a later one than before is answered with another mail.
    pub send_attempt: u64,
    /// Where to go afterwards.
    pub next_link: Option<&'a str>,
}

/// A proof that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its id.
    pub sid: String,
    /// What has to be mailed. `None`: it was mailed already.
    pub token: Option<String>,
}

/// An address that was proven to be somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenAddress {
    /// The proof.
    pub sid: String,
    /// The address.
    pub address: String,
    /// When.
    pub at: UnixMillis,
}

impl Accounts {
    /// The identifiers of a user.
    pub fn threepids(&self, user: &UserId) -> Result<Vec<Threepid>, Error> {
        Ok(self.view().threepids(user)?)
    }

    /// To whom an identifier belongs.
    pub fn threepid_user(&self, medium: &str, address: &str) -> Result<Option<OwnedUserId>, Error> {
        Ok(self.view().threepid(medium, address)?.map(|record| record.user))
    }

    /// Adds an address that was proven to be a user's to their account, and ends the proof.
    ///
    /// # Errors
    ///
    /// [`Error::ThreepidInUse`] if it is another user's; [`Error::TooManyThreepids`].
    pub async fn add_address(&self, user: &UserId, proven: &ProvenAddress) -> Result<(), Error> {
        let added_at = self.now();
        self.change(|changes| {
            expect_active(changes, user)?;
            let before = changes.view().threepid(EMAIL, &proven.address)?;
            if before.as_ref().is_some_and(|before| before.user != user) {
                return Err(Error::ThreepidInUse);
            }
            if before.is_none() && changes.view().threepids(user)?.len() >= THREEPIDS_MAX {
                return Err(Error::TooManyThreepids);
            }
            let added_at = before.map_or(added_at, |before| before.added_at);
            let record = ThreepidRecord { user: user.to_owned(), validated_at: proven.at, added_at };
            changes.put_threepid(EMAIL, &proven.address, &record)?;
            Ok(changes.clear_validation(&proven.sid)?)
        })
        .await
    }

    /// Removes an identifier from a user's account, and pushers that send mails there. Answers whether it was theirs.
    pub async fn remove_threepid(&self, user: &UserId, medium: &str, address: &str) -> Result<bool, Error> {
        self.change(|changes| {
            if changes.view().threepid(medium, address)?.is_none_or(|record| record.user != user) {
                return Ok(false);
            }
            remove(changes, user, medium, address)?;
            Ok(true)
        })
        .await
    }

    /// Begins a proof, or goes on with the one that the client has begun with this secret.
    pub async fn begin_validation(&self, new: NewValidation<'_>) -> Result<Begun, Error> {
        let now = self.now();
        let client_secret = hash(new.client_secret);
        let sid = base::random_string(&*self.0.random, SECRET_LENGTH);
        let token = base::random_string(&*self.0.random, SECRET_LENGTH);
        let lifetime = self.config().addresses.link_lifetime;
        self.change(|changes| {
            let expired = UnixMillis(now.0.saturating_sub(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)));
            for sid in changes.view().validations_before(expired, EXPIRED_AT_ONCE)? {
                changes.clear_validation(&sid)?;
            }
            let known = changes.view().validation_of(new.purpose, new.address, &client_secret)?;
            let known = match known {
                Some(sid) => changes.view().validation(&sid)?.map(|record| (sid, record)),
                None => None,
            };
            let known = known.filter(|(_, record)| now.since(record.begun_at) <= lifetime);
            let (sid, mut record) = known.unwrap_or_else(|| {
                let record = ValidationRecord {
                    purpose: new.purpose,
                    address: new.address.to_owned(),
                    client_secret,
                    tokens: Vec::new(),
                    send_attempt: 0,
                    next_link: None,
                    begun_at: now,
                    validated_at: None,
                };
                (sid.clone(), record)
            });
            if !record.tokens.is_empty() && new.send_attempt <= record.send_attempt {
                return Ok(Begun { sid, token: None });
            }
            record.tokens.push(hash(&token));
            let excess = record.tokens.len().saturating_sub(TOKENS_MAX);
            record.tokens.drain(..excess);
            record.send_attempt = new.send_attempt;
            record.next_link = new.next_link.map(ToOwned::to_owned);
            changes.put_validation(&sid, &record)?;
            Ok(Begun { sid, token: Some(token.clone()) })
        })
        .await
    }

    /// A proof that has begun, if this is its secret and it has not expired.
    fn validation(&self, sid: &str, client_secret: &str) -> Result<ValidationRecord, Error> {
        let record = self.view().validation(sid)?;
        let is_it = |record: &ValidationRecord| bool::from(record.client_secret.ct_eq(&hash(client_secret)));
        let record = record.filter(is_it).ok_or(Error::NoSuchValidation)?;
        if self.now().since(record.begun_at) > self.config().addresses.link_lifetime {
            return Err(Error::ValidationExpired);
        }
        Ok(record)
    }

    /// Finishes a proof with the token that was mailed. Answers where to go afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchValidation`], [`Error::ValidationExpired`] or [`Error::WrongToken`].
    pub async fn submit_validation(
        &self,
        sid: &str,
        client_secret: &str,
        token: &str,
    ) -> Result<Option<String>, Error> {
        let record = self.validation(sid, client_secret)?;
        let given = hash(token);
        let known = record.tokens.iter().map(|known| known.ct_eq(&given));
        if !bool::from(known.fold(subtle::Choice::from(0), |any, equal| any | equal)) {
            return Err(Error::WrongToken);
        }
        let now = self.now();
        self.change(|changes| {
            let record = changes.view().validation(sid)?.ok_or(Error::NoSuchValidation)?;
            let validated_at = record.validated_at.or(Some(now));
            if record.validated_at.is_none() {
                changes.put_validation(sid, &ValidationRecord { validated_at, ..record })?;
            }
            Ok(())
        })
        .await?;
        Ok(record.next_link)
    }

    /// What a proof has proven for this purpose; `None` as long as nobody has followed the link.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchValidation`] or [`Error::ValidationExpired`].
    pub fn proven_address(
        &self,
        sid: &str,
        client_secret: &str,
        purpose: Purpose,
    ) -> Result<Option<ProvenAddress>, Error> {
        let record = self.validation(sid, client_secret)?;
        if record.purpose != purpose {
            return Err(Error::NoSuchValidation);
        }
        let at = record.validated_at;
        Ok(at.map(|at| ProvenAddress { sid: sid.to_owned(), address: record.address, at }))
    }

    /// Ends a proof that was used.
    pub async fn end_validation(&self, sid: &str) -> Result<(), Error> {
        self.change(|changes| Ok(changes.clear_validation(sid)?)).await
    }
}

fn remove(changes: &mut Changes, user: &UserId, medium: &str, address: &str) -> Result<(), Error> {
    changes.clear_threepid(user, medium, address)?;
    for pusher in changes.view().pushers(user)? {
        if pusher.record.kind == records::PusherKind::Email && pusher.pushkey == address {
            changes.clear_pusher(user, &pusher)?;
        }
    }
    Ok(())
}

/// Removes all identifiers of a user whose account ends; pushers go by themselves.
pub(crate) fn remove_all(changes: &mut Changes, user: &UserId) -> Result<(), Error> {
    for threepid in changes.view().threepids(user)? {
        changes.clear_threepid(user, &threepid.medium, &threepid.address)?;
    }
    Ok(())
}

fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret).into()
}
