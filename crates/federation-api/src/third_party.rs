//! Invitations by e-mail addresses and the like, which turn into those of users (server-server API, "Third-party
//! invites").

use crate::access::{is_admitted, room};
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::{Args, Body};
use remote::{Body as CallBody, Call, segment};
use ruma::serde::JsonObject;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many invitations one binding brings.
const INVITES_MAX: usize = 50;

/// The body of `PUT /exchange_third_party_invite`: an invitation without what only the room's server can give.
#[derive(Deserialize)]
pub(crate) struct Exchange {
    #[serde(rename = "type")]
    kind: String,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    membership: String,
    third_party_invite: Value,
}

/// Sends the invitation of a user whose address was invited by somebody of this server.
pub(crate) async fn exchange(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(exchange): Body<Exchange>,
) -> Result<Json<Value>, ApiError> {
    {
        let view = state.records.view();
        let reader = room(&state, &view, &origin, &room_id)?;
        if !is_admitted(&reader, exchange.state_key.server_name())? {
            return Err(ApiError::forbidden("the room does not admit the user's server"));
        }
    }
    let is_invite = exchange.kind == "m.room.member" && exchange.content.membership == "invite";
    if !is_invite || exchange.room_id != room_id {
        return Err(ApiError::invalid_param("the event is no invitation to the room"));
    }
    if exchange.sender.server_name() != state.server_name {
        return Err(ApiError::invalid_param("the one who invites is not of this server"));
    }
    invite(&state, &room_id, &exchange.sender, &exchange.state_key, exchange.content.third_party_invite).await?;
    Ok(Json(json!({})))
}

/// Invites a user in the name of who has invited their address. Whether that was so is for the room's rules.
async fn invite(
    state: &State,
    room_id: &OwnedRoomId,
    sender: &OwnedUserId,
    user: &OwnedUserId,
    third_party_invite: Value,
) -> Result<(), ApiError> {
    let extra = JsonObject::from_iter([("third_party_invite".to_owned(), third_party_invite)]);
    if state.federation.is_remote(user.server_name()) {
        state.federation.invite(room_id, sender, user, None, Some(extra)).await?;
    } else {
        let change = rooms::MembershipChange::Invite { user: user.clone() };
        state.rooms.change_membership(room_id, sender, change, None, Some(extra)).await?;
    }
    Ok(())
}

/// The body of `PUT /3pid/onbind`.
#[derive(Deserialize)]
pub(crate) struct Binding {
    mxid: OwnedUserId,
    #[serde(default)]
    invites: Vec<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    mxid: OwnedUserId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    signed: Value,
}

/// An identity server has learnt whose an address is that was invited. The invitations are asked of the servers of
/// those who invited; the request itself proves nothing, what is `signed` in it does.
pub(crate) async fn on_bind(
    Within(state): Within<Arc<State>>,
    Body(binding): Body<Binding>,
) -> Result<Json<Value>, ApiError> {
    if binding.mxid.server_name() != state.server_name || state.records.view().user(&binding.mxid)?.is_none() {
        return Err(ApiError::not_found("there is no such user"));
    }
    if binding.invites.len() > INVITES_MAX {
        return Err(ApiError::too_large(format!("at most {INVITES_MAX} invitations are taken")));
    }
    for bound in binding.invites.into_iter().filter(|bound| bound.mxid == binding.mxid) {
        let Bound { mxid, room_id, sender, signed } = bound;
        let third_party_invite = json!({ "display_name": mxid, "signed": signed });
        let outcome = if sender.server_name() == state.server_name {
            invite(&state, &room_id, &sender, &mxid, third_party_invite).await.map_err(|error| format!("{error:?}"))
        } else {
            let event = json!({
                "type": "m.room.member",
                "room_id": room_id,
                "sender": sender,
                "state_key": mxid,
                "content": { "membership": "invite", "third_party_invite": third_party_invite },
            });
            let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{}", segment(room_id.as_str()));
            match CallBody::of(&event) {
                Some(body) => {
                    let answer = state.peers.send(sender.server_name(), Call::put(path, body)).await;
                    answer.map(drop).map_err(|error| error.to_string())
                }
                None => Err("what was signed is not canonical".to_owned()),
            }
        };
        if let Err(error) = outcome {
            tracing::info!(%room_id, error, "an invitation by address came to nothing");
        }
    }
    Ok(Json(json!({})))
}
