//! OpenID tokens: with one, another service asks this server who a user is (client-server API, "OpenID"; server-server
//! API, `GET /openid/userinfo`). A token does nothing else.

use crate::token::{self, OPENID_PREFIX};
use crate::{Accounts, Error};
use records::OpenIdRecord;
use ruma::{OwnedUserId, UserId};
use std::time::Duration;

/// How long a token is good for.
pub const OPENID_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// How many tokens that have expired are forgotten with each new one, so that they don't pile up.
const FORGOTTEN_AT_ONCE: usize = 16;

impl Accounts {
    /// A new token that stands for a user, for [`OPENID_TOKEN_LIFETIME`].
    pub async fn new_openid_token(&self, user: &UserId) -> Result<String, Error> {
        let (token, hash) = token::new(&*self.0.random, OPENID_PREFIX);
        let now = self.now();
        let record = OpenIdRecord { user: user.to_owned(), expires_at: now.after(OPENID_TOKEN_LIFETIME) };
        self.change(|changes| {
            changes.clear_openid_tokens(now, FORGOTTEN_AT_ONCE)?;
            changes.put_openid_token(&hash, &record);
            Ok(())
        })
        .await?;
        Ok(token)
    }

    /// Whom a token stands for; nobody if it is not known, has expired, or is of somebody whose account has ended.
    pub fn openid_user(&self, token: &str) -> Result<Option<OwnedUserId>, Error> {
        let view = self.view();
        let Some(record) = view.openid_token(&token::hash(token))? else { return Ok(None) };
        let is_good = self.now() < record.expires_at && !view.has_ended(&record.user)?;
        Ok(is_good.then_some(record.user))
    }
}
