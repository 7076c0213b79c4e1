//! Tokens: 256 random bits that a client keeps, and whose hash is stored.

use base::Random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use records::TokenHash;
use sha2::{Digest, Sha256};

/// What access tokens begin with, so that one that leaks into a log or a repository can be found.
pub(crate) const ACCESS_PREFIX: &str = "cha_";
/// What refresh tokens begin with.
pub(crate) const REFRESH_PREFIX: &str = "chr_";

/// What OpenID tokens begin with.
pub(crate) const OPENID_PREFIX: &str = "cho_";

/// A new token and its hash.
pub(crate) fn new(random: &dyn Random, prefix: &str) -> (String, TokenHash) {
    let mut bytes = [0_u8; 32];
    random.fill(&mut bytes);
    let token = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash(&token);
    (token, hash)
}

/// The hash of a token. Finding a token by its hash leaks nothing of it by the time that takes: who guesses
/// cannot choose the bytes that are compared.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}
