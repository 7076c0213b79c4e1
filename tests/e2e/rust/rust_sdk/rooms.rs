//! The room list.

use crate::person::{Person, until, until_so};
use crate::server::Server;
use anyhow::Result;
use futures_util::{StreamExt as _, pin_mut};
use matrix_sdk::RoomState;
use matrix_sdk::ruma::OwnedRoomId;
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk_ui::eyeball_im::Vector;
use matrix_sdk_ui::room_list_service::filters::new_filter_all;
use matrix_sdk_ui::room_list_service::{RoomListItem, RoomListLoadingState};
use std::time::Duration;

/// More than the first window of the room list (20), so that it has to grow.
const ROOMS: usize = 45;

/// Applies what the room list tells until it shows what is looked for.
async fn list_until(
    person: &Person,
    what: &str,
    mut is_so: impl FnMut(&[OwnedRoomId]) -> bool,
) -> Result<Vec<OwnedRoomId>> {
    let list = person.sync.room_list_service().all_rooms().await?;
    let (entries, controller) = list.entries_with_dynamic_adapters(1_000);
    controller.set_filter(Box::new(new_filter_all(Vec::new())));
    pin_mut!(entries);
    let mut shown: Vector<RoomListItem> = Vector::new();
    loop {
        let ids: Vec<_> = shown.iter().map(|room| room.room_id().to_owned()).collect();
        if is_so(&ids) {
            return Ok(ids);
        }
        match tokio::time::timeout(Duration::from_secs(30), entries.next()).await {
            Ok(Some(diffs)) => diffs.into_iter().for_each(|diff| diff.apply(&mut shown)),
            _ => anyhow::bail!("waited in vain for {what}; the list has {} rooms", ids.len()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_list_grows_to_all_rooms_and_knows_how_many_there_are() -> Result<()> {
    let server = Server::start().await?;
    let alice = Person::register(&server, "alice").await?;
    let mut made = Vec::new();
    for n in 0..ROOMS {
        made.push(alice.open_room(&format!("Room {n}")).await?.room_id().to_owned());
    }
    // A device that has seen nothing yet.
    let phone = Person::login(&server, "alice").await?;
    let mut shown = list_until(&phone, "all rooms", |ids| ids.len() == ROOMS).await?;
    shown.sort();
    made.sort();
    assert_eq!(shown, made);
    let list = phone.sync.room_list_service().all_rooms().await?;
    let count = Some(u32::try_from(ROOMS)?);
    until_so("the number of rooms", async || {
        Ok(list.loading_state().get() == RoomListLoadingState::Loaded { maximum_number_of_rooms: count })
    })
    .await?;
    until_so("every room's name", async || {
        let names = phone.client.joined_rooms().into_iter().filter_map(|room| room.name());
        Ok(names.filter(|name| name.starts_with("Room ")).count() == ROOMS)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_in_which_something_was_said_moves_to_the_top() -> Result<()> {
    let server = Server::start().await?;
    let alice = Person::register(&server, "alice").await?;
    let bob = Person::register(&server, "bob").await?;
    let mut rooms = Vec::new();
    for n in 0..5 {
        let room = alice.open_room(&format!("Room {n}")).await?;
        bob.client.join_room_by_id(room.room_id()).await?;
        rooms.push(room);
    }
    let oldest = rooms.swap_remove(0);
    list_until(&bob, "all rooms", |ids| ids.len() == 5).await?;
    oldest.send(RoomMessageEventContent::text_plain("are you there?")).await?;
    list_until(&bob, "the room with the message at the top", |ids| {
        ids.first().is_some_and(|id| id == oldest.room_id())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_appears_and_is_accepted() -> Result<()> {
    let server = Server::start().await?;
    let alice = Person::register(&server, "alice").await?;
    let bob = Person::register(&server, "bob").await?;
    let room = alice.room_with(&bob, "Weekly report").await?;
    let invitation = bob.room(room.room_id()).await?;
    until_so("the invitation", async || Ok(invitation.state() == RoomState::Invited)).await?;
    assert_eq!(invitation.invite_details().await?.inviter_id, alice.user_id());
    assert_eq!(invitation.name().as_deref(), Some("Weekly report"));
    invitation.join().await?;
    until_so("the join", async || Ok(invitation.state() == RoomState::Joined)).await?;
    until_so("the two members", async || Ok(invitation.joined_members_count() == 2)).await?;
    invitation.leave().await?;
    until_so("the leave, at the one who invited", async || Ok(room.joined_members_count() == 1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_list_goes_on_after_the_server_was_killed() -> Result<()> {
    let mut server = Server::start().await?;
    let alice = Person::register(&server, "alice").await?;
    let bob = Person::register(&server, "bob").await?;
    let room = alice.room_with(&bob, "Plans").await?;
    bob.room(room.room_id()).await?.join().await?;
    until_so("the join", async || Ok(room.joined_members_count() == 2)).await?;
    server.crash_and_restart().await?;
    bob.sync.start().await;
    let name = until("somebody to write to", async || Ok(alice.client.get_room(room.room_id()))).await?;
    name.send(RoomMessageEventContent::text_plain("back again")).await?;
    let there = bob.room(room.room_id()).await?;
    until_so("the message from after the crash", async || {
        bob.sync.start().await;
        let event_id = there.latest_event().event_id();
        Ok(event_id.is_some())
    })
    .await
}
