//! Registration tokens: those of the settings, and those that administrators have made.

use crate::{Accounts, Error};
use records::{Changes, RegistrationTokenRecord};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// The most tokens that administrators can make.
pub const REGISTRATION_TOKENS_MAX: usize = 10_000;
/// The longest token (client-server API, "Token-authenticated registration").
pub const REGISTRATION_TOKEN_LENGTH_MAX: usize = 64;

/// Whether a text can be a registration token: an opaque identifier (client-server API, "Token-authenticated
/// registration").
#[must_use]
pub fn is_token(text: &str) -> bool {
    (1..=REGISTRATION_TOKEN_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Accounts {
    /// Whether one can register with a token now. How long it takes tells nothing of the tokens that there are.
    pub fn is_registration_token(&self, token: &str) -> Result<bool, Error> {
        if self.is_token_of_settings(token) {
            return Ok(true);
        }
        let record = self.view().registration_token(&hash(token))?;
        Ok(record.is_some_and(|record| record.is_valid(self.now())))
    }

    fn is_token_of_settings(&self, token: &str) -> bool {
        let tokens = self.config().registration.tokens.iter();
        let equal = tokens.map(|known| known.expose().as_bytes().ct_eq(token.as_bytes()));
        equal.fold(subtle::Choice::from(0), |any, equal| any | equal).into()
    }

    /// Uses a token up by one. Those of the settings can be used any number of times.
    pub async fn use_registration_token(&self, token: &str) -> Result<(), Error> {
        self.change(|changes| self.spend_token(changes, token)).await
    }

    /// Uses a token up by one with what the changes do; refused if it is not valid any more.
    pub(crate) fn spend_token(&self, changes: &mut Changes, token: &str) -> Result<(), Error> {
        if self.is_token_of_settings(token) {
            return Ok(());
        }
        let hash = hash(token);
        let record = changes.view().registration_token(&hash)?.filter(|record| record.is_valid(self.now()));
        let record = record.ok_or(Error::TokenSpent)?;
        let completed = record.completed.saturating_add(1);
        Ok(changes.put_registration_token(&hash, &RegistrationTokenRecord { completed, ..record })?)
    }

    /// A token that administrators have made.
    pub fn registration_token(&self, token: &str) -> Result<Option<RegistrationTokenRecord>, Error> {
        Ok(self.view().registration_token(&hash(token))?)
    }

    /// All tokens that administrators have made, in their order.
    pub fn registration_tokens(&self) -> Result<Vec<RegistrationTokenRecord>, Error> {
        let mut tokens = self.view().registration_tokens(REGISTRATION_TOKENS_MAX)?;
        tokens.sort_by(|one, other| one.token.cmp(&other.token));
        Ok(tokens)
    }

    /// Makes a token. Answers whether there was none of this text.
    pub async fn create_registration_token(&self, record: RegistrationTokenRecord) -> Result<bool, Error> {
        let hash = hash(&record.token);
        if self.view().registration_tokens(REGISTRATION_TOKENS_MAX)?.len() >= REGISTRATION_TOKENS_MAX {
            return Err(Error::TooLarge("the number of registration tokens"));
        }
        self.change(|changes| {
            if self.is_token_of_settings(&record.token) || changes.view().registration_token(&hash)?.is_some() {
                return Ok(false);
            }
            changes.put_registration_token(&hash, &record)?;
            Ok(true)
        })
        .await
    }

    /// Changes a token. Answers what it is then; none if there is none.
    pub async fn change_registration_token(
        &self,
        token: &str,
        change: impl Fn(&mut RegistrationTokenRecord) + Send + Sync,
    ) -> Result<Option<RegistrationTokenRecord>, Error> {
        let hash = hash(token);
        self.change(|changes| {
            let Some(mut record) = changes.view().registration_token(&hash)? else { return Ok(None) };
            change(&mut record);
            changes.put_registration_token(&hash, &record)?;
            Ok(Some(record))
        })
        .await
    }

    /// Removes a token. Answers whether there was one.
    pub async fn delete_registration_token(&self, token: &str) -> Result<bool, Error> {
        let hash = hash(token);
        self.change(|changes| {
            let is_there = changes.view().registration_token(&hash)?.is_some();
            if is_there {
                changes.clear_registration_token(&hash);
            }
            Ok(is_there)
        })
        .await
    }
}
