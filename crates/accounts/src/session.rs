//! Sessions.

use crate::{Accounts, Error};
use ruma::{OwnedDeviceId, OwnedUserId};
use std::net::IpAddr;
use std::sync::Arc;

/// Who an access token stands for.
#[derive(Debug)]
pub struct SessionInfo {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
}

impl Accounts {
    /// Who an access token stands for.
    pub async fn authenticate(&self, _token: &str, _address: IpAddr) -> Result<Arc<SessionInfo>, Error> {
        Err(Error::UnknownToken { soft_logout: false })
    }
}
