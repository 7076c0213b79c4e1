//! Making others come and go, and going oneself: `POST /rooms/{roomId}/…` `invite`, `kick`, `ban`, `unban`,
//! `leave` and `forget`.

use super::federation;
use crate::account::to_the_end;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use http::StatusCode;
use records::Membership;
use rooms::MembershipChange;
use ruma::api::client::membership::invite_user::v3::InvitationRecipient;
use ruma::api::client::membership::{ban_user, forget_room, invite_user, kick_user, leave_room, unban_user};
use ruma::{RoomId, UserId};
use std::sync::Arc;

/// `POST /rooms/{roomId}/invite`, in both of its forms: by user id, and by third-party identifier, which takes
/// an identity server that this server does not have.
pub(super) async fn invite(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<invite_user::v3::Request>,
) -> Result<Reply<invite_user::v3::Response>, ApiError> {
    state.limit(Class::Invite, &session)?;
    let InvitationRecipient::UserId(invited) = request.recipient else {
        return Err(ApiError::threepid_denied("invitations by third-party identifiers are not supported"));
    };
    if session.sanctions.shadow_banned {
        return Ok(Reply(invite_user::v3::Response::new()));
    }
    let change = MembershipChange::Invite { user: invited.user_id };
    act(&state, &session, &request.room_id, change, invited.reason).await?;
    Ok(Reply(invite_user::v3::Response::new()))
}

/// `POST /rooms/{roomId}/kick`
pub(super) async fn kick(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<kick_user::v3::Request>,
) -> Result<Reply<kick_user::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let change = MembershipChange::Kick { user: request.user_id };
    act(&state, &session, &request.room_id, change, request.reason).await?;
    Ok(Reply(kick_user::v3::Response::new()))
}

/// `POST /rooms/{roomId}/ban`
pub(super) async fn ban(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<ban_user::v3::Request>,
) -> Result<Reply<ban_user::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let change = MembershipChange::Ban { user: request.user_id };
    act(&state, &session, &request.room_id, change, request.reason).await?;
    Ok(Reply(ban_user::v3::Response::new()))
}

/// `POST /rooms/{roomId}/unban`
pub(super) async fn unban(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<unban_user::v3::Request>,
) -> Result<Reply<unban_user::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let change = MembershipChange::Unban { user: request.user_id };
    act(&state, &session, &request.room_id, change, request.reason).await?;
    Ok(Reply(unban_user::v3::Response::new()))
}

/// `POST /rooms/{roomId}/leave`
pub(super) async fn leave(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<leave_room::v3::Request>,
) -> Result<Reply<leave_room::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    check_may_decline(&state, &session.user_id, &request.room_id)?;
    let change = MembershipChange::Leave;
    act(&state, &session, &request.room_id, change, request.reason).await?;
    Ok(Reply(leave_room::v3::Response::new()))
}

/// `POST /rooms/{roomId}/forget`
pub(super) async fn forget(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<forget_room::v3::Request>,
) -> Result<Reply<forget_room::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let view = state.records.view();
    let membership = match view.room_num(&request.room_id)? {
        Some(num) => view.membership(&session.user_id, num)?.map(|(_, record)| record.membership),
        None => None,
    };
    drop(view);
    match membership {
        None => Err(ApiError::not_found("there is nothing to forget: you never were in the room")),
        Some(Membership::Leave | Membership::Ban) => {
            state.rooms.forget(&request.room_id, &session.user_id).await?;
            Ok(Reply(forget_room::v3::Response::new()))
        }
        Some(Membership::Join | Membership::Invite | Membership::Knock) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "leave the room before you forget it"))
        }
    }
}

/// The room of server notices can't be declined; who has entered it may leave (client-server API, "Server Notices").
pub(super) fn check_may_decline(state: &State, user: &UserId, room_id: &RoomId) -> Result<(), ApiError> {
    let view = state.records.view();
    if view.notice_room(user)?.is_none_or(|notices| notices != room_id) {
        return Ok(());
    }
    let Some(num) = view.room_num(room_id)? else { return Ok(()) };
    match view.membership(user, num)? {
        Some((_, record)) if record.membership == Membership::Invite => {
            Err(ApiError::cannot_leave_server_notice_room("the messages of the administrators can't be declined"))
        }
        _ => Ok(()),
    }
}

async fn act(
    state: &Arc<State>,
    session: &Session,
    room_id: &RoomId,
    change: MembershipChange,
    reason: Option<String>,
) -> Result<(), ApiError> {
    let (state, user, room_id) = (state.clone(), session.user_id.clone(), room_id.to_owned());
    // What other servers were told is not left half-way.
    to_the_end(async move { federation::change(&state, &user, &room_id, change, reason, None).await.map(drop) }).await
}
