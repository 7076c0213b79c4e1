//! Users, devices, sessions, login and what a user stores.

mod error;
mod session;

pub use error::Error;
pub use session::SessionInfo;

use base::{Clock, Random};
use records::Records;
use ruma::OwnedServerName;
use std::sync::Arc;

/// The accounts of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Shared>);

struct Shared {
    records: Records,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Accounts {
    /// The accounts that these records hold.
    pub fn open(
        records: Records,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        Ok(Self(Arc::new(Shared { records, server_name, clock, random })))
    }
}
