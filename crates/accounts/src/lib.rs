//! Users, devices, sessions, login, and what a user stores.
//!
//! Here is decided who may log in and what a token stands for. How clients ask for it, and how often they may,
//! is the client API's; what follows from an account for rooms (leaving them when it is deactivated, a new
//! name in each of them) is done by the caller through `rooms`.

mod config;
mod devices;
mod error;
mod name;
mod openid;
mod password;
mod profile;
mod pushers;
mod registration_tokens;
mod reports;
mod sanctions;
mod session;
mod shared_secret;
mod stored;
mod tags;
#[cfg(test)]
mod tests;
mod threepids;
mod token;
mod user;
mod user_directory;

pub use config::{Addresses, Config, Passwords, Registration, RegistrationMode, Sessions, Terms};
pub use devices::{DEVICES_MAX, Device};
pub use error::Error;
pub use openid::OPENID_TOKEN_LIFETIME;
pub use profile::{PROFILE_BYTES_MAX, PROFILE_KEY_BYTES_MAX};
pub use pushers::{NewPusher, PUSHERS_OF_USER_MAX};
pub use registration_tokens::{REGISTRATION_TOKEN_LENGTH_MAX, is_token};
pub use reports::REPORT_REASON_BYTES_MAX;
pub use sanctions::USER_TYPE_BYTES_MAX;
pub use session::{Login, NewSession, SessionInfo};
pub use shared_secret::SignedRegistration;
pub use stored::{
    ACCOUNT_DATA_BYTES_MAX, ACCOUNT_DATA_ENTRIES_MAX, ACCOUNT_DATA_TOTAL_BYTES_MAX, FILTER_BYTES_MAX, FILTERS_MAX,
};
pub use threepids::{Begun, EMAIL, NewValidation, ProvenAddress};
pub use user::{EndSessions, Erase, NewUser, Verified};
pub use user_directory::{Fit, FoundUsers, UserTerm, words_of};

use base::{Clock, Random, UnixMillis};
use password::Hasher;
use records::{Changes, Records, TokenHash, View};
use ruma::{OwnedServerName, ServerName};
use session::Cached;
use std::sync::Arc;
use store::CommitError;
use tracing::Instrument as _;

/// How often a change is decided again after another writer was first.
const ATTEMPTS_MAX: usize = 10;

/// The accounts of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Shared>);

struct Shared {
    records: Records,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    config: Config,
    hasher: Hasher,
    cached: Cached,
}

impl Accounts {
    /// The accounts that these records hold. Hashes one password, so that it takes as long as a login.
    pub fn open(
        records: Records,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        config: Config,
    ) -> Result<Self, Error> {
        let hasher = Hasher::new(&config.password, &*random)?;
        let cached = Cached::new(&config.sessions);
        Ok(Self(Arc::new(Shared { records, server_name, clock, random, config, hasher, cached })))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The agency's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    fn view(&self) -> View {
        self.0.records.view()
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    /// Decides changes on the newest view and commits them, again if another writer was first.
    async fn change<T>(&self, decide: impl Fn(&mut Changes) -> Result<T, Error> + Send) -> Result<T, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let mut changes = self.0.records.changes(&self.view());
            let decided = decide(&mut changes)?;
            if changes.is_empty() {
                return Ok(decided);
            }
            match self.0.records.commit(changes).await {
                Ok(_) => return Ok(decided),
                Err(CommitError::Conflict) => {}
                Err(CommitError::TooLarge) => return Err(Error::TooLarge("the change")),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended)
    }

    /// As [`Self::change`], for changes that end sessions: `decide` returns the access tokens that are gone too,
    /// and they are forgotten after the commit.
    ///
    /// Both are one task, since a client that hangs up takes its request with it: the commit would still be
    /// made, and what it ended would be remembered as if it hadn't.
    async fn revoke<T: Send + 'static>(
        &self,
        decide: impl Fn(&mut Changes) -> Result<(T, Vec<TokenHash>), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let accounts = self.clone();
        let work = async move {
            let (decided, gone) = accounts.change(decide).await?;
            accounts.0.cached.forget(&gone);
            Ok(decided)
        };
        tokio::spawn(work.in_current_span()).await?
    }
}
