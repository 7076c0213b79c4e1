//! Registration by tools that know the shared secret of the settings, in the form that Synapse's
//! `register_new_matrix_user` gave it.

use crate::Accounts;
use base::Secret;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use std::fmt::Write as _;
use subtle::ConstantTimeEq as _;

/// What a tool has signed: the user it wants to make.
#[derive(Clone, Copy, Debug)]
pub struct SignedRegistration<'a> {
    /// What this server gave it to sign, so that no signature can be used twice.
    pub nonce: &'a str,
    /// The user name as the tool wrote it.
    pub username: &'a str,
    /// The password.
    pub password: &'a Secret<String>,
    /// Whether the user is to administer the agency.
    pub admin: bool,
    /// What kind of user it is to be.
    pub user_type: Option<&'a str>,
}

impl Accounts {
    /// Whether accounts can be made by those who know the shared secret.
    #[must_use]
    pub fn has_shared_secret(&self) -> bool {
        self.config().registration.shared_secret.is_some()
    }

    /// Whether `mac` is the signature of a registration by the shared secret: HMAC-SHA1 in hexadecimal over its
    /// parts, with NUL between them. No part may have a NUL in it.
    #[must_use]
    pub fn is_signed(&self, registration: &SignedRegistration<'_>, mac: &str) -> bool {
        let Some(secret) = &self.config().registration.shared_secret else { return false };
        let Ok(mut hmac) = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()) else { return false };
        let admin = if registration.admin { "admin" } else { "notadmin" };
        let parts = [registration.nonce, registration.username, registration.password.expose(), admin];
        for (index, part) in parts.into_iter().chain(registration.user_type).enumerate() {
            if part.contains('\0') {
                return false;
            }
            if index > 0 {
                hmac.update(b"\0");
            }
            hmac.update(part.as_bytes());
        }
        let mut expected = String::with_capacity(40);
        for byte in hmac.finalize().into_bytes() {
            // Writing to a text can't fail.
            let _ = write!(expected, "{byte:02x}");
        }
        expected.as_bytes().ct_eq(mac.to_ascii_lowercase().as_bytes()).into()
    }
}
