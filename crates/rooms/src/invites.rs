//! What becomes of an invitation of a user of this server: what they have set, and whom they ignore.

use crate::{Ignored, RoomError};
use records::{RecordsError, View};
use rules::InviteVerdict;
use rules::invites::{INVITE_PERMISSION_CONFIGS, InvitePermission};
use ruma::UserId;

/// Who may invite a user, as they have set it.
pub fn invite_permission(view: &View, user: &UserId) -> Result<InvitePermission, RecordsError> {
    let mut contents = Vec::new();
    for kind in INVITE_PERMISSION_CONFIGS {
        contents.extend(view.account_data(user, None, kind)?);
    }
    Ok(InvitePermission::of_contents(contents.iter().map(String::as_str)))
}

/// What becomes of an invitation of a user of this server, whichever server it comes from (client-server API,
/// "Invite permission", "Ignoring Users"). One that is blocked is refused with 403 `M_INVITE_BLOCKED`; one that is
/// ignored is made, and kept from the user.
///
/// # Errors
///
/// [`RoomError::Internal`]
pub fn invite_verdict(view: &View, inviter: &UserId, invited: &UserId) -> Result<InviteVerdict, RoomError> {
    if Ignored::of(view, invited)?.has(inviter) {
        return Ok(InviteVerdict::Ignore);
    }
    Ok(invite_permission(view, invited)?.verdict(inviter))
}

/// Refuses an invitation that is blocked.
pub(crate) fn check_invite(view: &View, inviter: &UserId, invited: &UserId) -> Result<(), RoomError> {
    match invite_verdict(view, inviter, invited)? {
        InviteVerdict::Block => Err(RoomError::InviteBlocked),
        InviteVerdict::Allow | InviteVerdict::Ignore => Ok(()),
    }
}
