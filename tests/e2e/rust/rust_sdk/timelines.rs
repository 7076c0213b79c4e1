//! Timelines: paging back, edits, reactions, redactions, threads, receipts, typing.

use crate::person::{Person, until, until_so};
use crate::server::Server;
use anyhow::{Context as _, Result};
use matrix_sdk::Room;
use matrix_sdk::room::edit::EditedContent;
use matrix_sdk::ruma::events::relation::Thread;
use matrix_sdk::ruma::events::room::message::{
    Relation, RoomMessageEventContent, RoomMessageEventContentWithoutRelation,
};
use matrix_sdk::ruma::{OwnedEventId, UserId};
use matrix_sdk_ui::Timeline;
use matrix_sdk_ui::timeline::{EventTimelineItem, RoomExt as _, TimelineFocus};

/// Alice and Bob, joined to one room.
async fn two_in_a_room(server: &Server) -> Result<(Person, Room, Person, Room)> {
    let alice = Person::register(server, "alice").await?;
    let bob = Person::register(server, "bob").await?;
    let hers = alice.room_with(&bob, "Work").await?;
    let his = bob.room(hers.room_id()).await?;
    his.join().await?;
    until_so("the two members", async || Ok(hers.joined_members_count() == 2)).await?;
    Ok((alice, hers, bob, his))
}

async fn say(room: &Room, text: &str) -> Result<OwnedEventId> {
    Ok(room.send(RoomMessageEventContent::text_plain(text)).await?.response.event_id)
}

/// The items that are messages.
async fn bodies(timeline: &Timeline) -> Vec<String> {
    let items = timeline.items().await;
    let events = items.iter().filter_map(|item| item.as_event());
    events.filter_map(|event| Some(event.content().as_message()?.body().to_owned())).collect()
}

async fn item(timeline: &Timeline, event_id: &OwnedEventId) -> Result<EventTimelineItem> {
    until("an event in the timeline", async || Ok(timeline.item_by_event_id(event_id).await)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_pages_back_over_all_messages_in_order_each_once() -> Result<()> {
    const MESSAGES: usize = 150;
    let server = Server::start().await?;
    let (alice, hers, _bob, _his) = two_in_a_room(&server).await?;
    let mut said = Vec::new();
    for n in 0..MESSAGES {
        said.push(format!("message {n}"));
        say(&hers, &format!("message {n}")).await?;
    }
    let phone = Person::login(&server, "alice").await?;
    let room = phone.room(hers.room_id()).await?;
    let timeline = room.timeline().await?;
    while !timeline.paginate_backwards(30).await? {}
    assert_eq!(bodies(&timeline).await, said);
    assert_eq!(phone.user_id(), alice.user_id());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reactions_and_redactions_reach_the_other() -> Result<()> {
    let server = Server::start().await?;
    let (_alice, hers, bob, his) = two_in_a_room(&server).await?;
    let mine = hers.timeline().await?;
    let theirs = his.timeline().await?;
    let event_id = say(&hers, "teh report").await?;
    let own = item(&mine, &event_id).await?;
    item(&theirs, &event_id).await?;

    let edited = EditedContent::RoomMessage(RoomMessageEventContentWithoutRelation::text_plain("the report"));
    mine.edit(&own.identifier(), edited).await?;
    until_so("the edit", async || {
        let item = theirs.item_by_event_id(&event_id).await;
        Ok(item.is_some_and(|item| item.content().as_message().is_some_and(|message| message.body() == "the report")))
    })
    .await?;

    theirs.toggle_reaction(&item(&theirs, &event_id).await?.identifier(), "👍").await?;
    until_so("the reaction", async || {
        let item = mine.item_by_event_id(&event_id).await;
        let reactions = item.and_then(|item| item.content().reactions().cloned());
        Ok(reactions.is_some_and(|all| all.get("👍").is_some_and(|by| by.contains_key(&bob.user_id()))))
    })
    .await?;

    // Who comes later gets the edited text from the bundled aggregation.
    let phone = Person::login(&server, "bob").await?;
    let late = phone.room(hers.room_id()).await?.timeline().await?;
    late.paginate_backwards(20).await?;
    let seen = item(&late, &event_id).await?;
    assert_eq!(seen.content().as_message().context("no message")?.body(), "the report");

    hers.redact(&event_id, Some("wrong room"), None).await?;
    until_so("the redaction", async || {
        let item = theirs.item_by_event_id(&event_id).await;
        Ok(item.is_none_or(|item| item.content().is_redacted()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_has_a_summary_and_a_timeline_of_its_own() -> Result<()> {
    let server = Server::start().await?;
    let (_alice, hers, _bob, his) = two_in_a_room(&server).await?;
    let root = say(&hers, "What about the budget?").await?;
    let mut last = root.clone();
    for n in 0..30 {
        let mut reply = RoomMessageEventContent::text_plain(format!("answer {n}"));
        reply.relates_to = Some(Relation::Thread(Thread::plain(root.clone(), last.clone())));
        last = his.send(reply).await?.response.event_id;
    }
    // On a device to which the replies don't come one by one: what the client has of a thread already makes it stop
    // paging before the root.
    let phone = Person::login(&server, "alice").await?;
    let room = phone.room(hers.room_id()).await?;
    let focus = TimelineFocus::Thread { root_event_id: root.clone() };
    let thread = room.timeline_builder().with_focus(focus).build().await?;
    while !thread.paginate_backwards(10).await? {}
    let mut expected = vec!["What about the budget?".to_owned()];
    expected.extend((0..30).map(|n| format!("answer {n}")));
    until_so("the root and all replies, in order", async || Ok(bodies(&thread).await == expected)).await?;

    let late = room.timeline().await?;
    while !late.paginate_backwards(50).await? {}
    until_so("the summary", async || {
        let summary = late.item_by_event_id(&root).await.and_then(|item| item.content().thread_summary());
        Ok(summary.is_some_and(|summary| summary.num_replies == 30))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_typing_reach_the_other() -> Result<()> {
    use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
    use matrix_sdk::ruma::events::receipt::ReceiptThread;
    let server = Server::start().await?;
    let (alice, hers, bob, his) = two_in_a_room(&server).await?;
    let mine = hers.timeline().await?;
    // Typing and receipts are told for the rooms that are looked at.
    alice.sync.room_list_service().subscribe_to_rooms(&[hers.room_id()]).await;
    bob.sync.room_list_service().subscribe_to_rooms(&[his.room_id()]).await;
    let event_id = say(&hers, "read this").await?;
    item(&mine, &event_id).await?;
    his.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, event_id.clone()).await?;
    let reader = bob.user_id();
    until_so("the receipt", async || {
        let item = mine.item_by_event_id(&event_id).await;
        Ok(item.is_some_and(|item| item.read_receipts().contains_key(&reader)))
    })
    .await?;

    let (_guard, mut typing) = hers.subscribe_to_typing_notifications();
    his.typing_notice(true).await?;
    let typists = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let typists = typing.recv().await?;
            if typists.iter().any(|user: &matrix_sdk::ruma::OwnedUserId| <UserId as PartialEq>::eq(user, &reader)) {
                return anyhow::Ok(typists);
            }
        }
    })
    .await??;
    assert_eq!(typists, [reader]);
    Ok(())
}
