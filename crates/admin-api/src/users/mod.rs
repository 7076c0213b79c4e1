//! Users: finding, making, changing and ending accounts.

mod account;
mod devices;
mod list;
mod redact;
mod sanctions;
mod sessions;
mod stored;

use crate::State;
use accounts::Device;
use axum::Router;
use base::UnixMillis;
use face::ApiError;
use records::{Profile, UserRecord};
use ruma::UserId;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .merge(account::routes())
        .merge(devices::routes())
        .merge(list::routes())
        .merge(redact::routes())
        .merge(sanctions::routes())
        .merge(sessions::routes())
        .merge(stored::routes())
}

impl State {
    /// A user of this server: 400 for one of another, 404 for one whom there is not.
    pub(crate) fn local_user(&self, user: &UserId) -> Result<UserRecord, ApiError> {
        if !self.accounts.is_local(user) {
            return Err(ApiError::invalid_param("the user is of another server"));
        }
        self.accounts.user(user)?.ok_or_else(|| ApiError::not_found("User not found"))
    }
}

/// A text field of a profile.
pub(crate) fn text_of(profile: &Profile, field: &str) -> Option<String> {
    profile.get(field).and_then(|json| serde_json::from_str(json).ok())
}

/// When a user was last seen at any of their devices.
fn last_seen(devices: &[Device]) -> Option<UnixMillis> {
    devices.iter().filter_map(|device| device.last_seen.as_ref()).map(|seen| seen.at).max()
}

/// What lists and single users show alike.
fn shown(user: &UserId, record: &UserRecord, profile: &Profile, devices: &[Device]) -> Value {
    json!({
        "name": user,
        "displayname": text_of(profile, "displayname"),
        "avatar_url": text_of(profile, "avatar_url"),
        "is_guest": record.guest,
        "admin": record.admin,
        "user_type": record.user_type,
        "deactivated": record.deactivated_at.is_some(),
        "erased": record.erased,
        "shadow_banned": record.sanctions.shadow_banned,
        "locked": record.sanctions.locked,
        "suspended": record.sanctions.suspended,
        "approved": true,
        "last_seen_ts": last_seen(devices).map(|at| at.0),
    })
}
