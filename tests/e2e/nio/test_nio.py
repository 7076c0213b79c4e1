"""Drives the server with matrix-nio, without encryption."""

import asyncio
import json
import sys
import unittest

import nio
from server import SERVER_NAME, Server

MESSAGES = 510
SEEN_S_MAX = 25


class Case(unittest.IsolatedAsyncioTestCase):
    """One server for all tests of a class; each test has people of its own."""

    server: Server
    people = 0

    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    async def asyncSetUp(self):
        self.clients = []

    async def asyncTearDown(self):
        for client in self.clients:
            await client.close()

    def client(self, user=""):
        # Errors are to be seen at once, not tried again.
        config = nio.AsyncClientConfig(encryption_enabled=False, max_limit_exceeded=0, max_timeouts=2)
        client = nio.AsyncClient(self.server.url, user, config=config)
        self.clients.append(client)
        return client

    async def person(self, name):
        Case.people += 1
        client = self.client()
        name = f"{name}-{Case.people}"
        self.ok(await client.register(name, f"password of {name}", f"{name}'s laptop"), nio.RegisterResponse)
        self.assertEqual(client.user_id, f"@{name}:{SERVER_NAME}")
        return client

    def ok(self, response, kind):
        self.assertIsInstance(response, kind, str(response))
        return response

    def refused(self, response, errcode):
        self.assertIsInstance(response, nio.ErrorResponse, str(response))
        self.assertEqual(response.status_code, errcode, str(response))

    async def say(self, client, room_id, body, **content):
        content = {"msgtype": "m.text", "body": body, **content}
        return self.ok(await client.room_send(room_id, "m.room.message", content), nio.RoomSendResponse).event_id

    async def room_of(self, owner, *others, **options):
        options.setdefault("preset", nio.RoomPreset.private_chat)
        invite = [other.user_id for other in others]
        room_id = self.ok(await owner.room_create(invite=invite, **options), nio.RoomCreateResponse).room_id
        for other in others:
            self.ok(await other.join(room_id), nio.JoinResponse)
        return room_id

    async def sync_until(self, client, what, look):
        """Syncs on until `look(response)` finds something."""

        async def on():
            while True:
                response = self.ok(await client.sync(timeout=10_000), nio.SyncResponse)
                found = look(response)
                if found:
                    return found

        try:
            return await asyncio.wait_for(on(), SEEN_S_MAX)
        except TimeoutError:
            self.fail(f"{client.user_id} did not see {what}")

    async def sync(self, client, **options):
        return self.ok(await client.sync(timeout=0, **options), nio.SyncResponse)

    async def history(self, client, room_id, start="", limit=100, **options):
        """All events from a token back to the beginning, newest first."""
        events = []
        for _ in range(60):
            page = self.ok(
                await client.room_messages(room_id, start, limit=limit, **options), nio.RoomMessagesResponse
            )
            self.assertLessEqual(len(page.chunk), limit)
            events += page.chunk
            if not page.end:
                return events
            start = page.end
        self.fail("paging back does not come to an end")


def bodies(events):
    return [event.body for event in events if isinstance(event, nio.RoomMessageText)]


def in_room(room_id, kind, **fields):
    """Finds an event of this kind and fields in the timeline of a sync."""

    def look(response):
        room = response.rooms.join.get(room_id)
        for event in room.timeline.events if room else []:
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                return event
        return None

    return look


class Accounts(Case):
    async def test_a_password_logs_in_on_a_new_device_and_a_wrong_one_does_not(self):
        alice = await self.person("alice")
        name = alice.user_id.split(":")[0][1:]
        again = self.client(alice.user_id)
        self.ok(await again.login(f"password of {name}", "phone"), nio.LoginResponse)
        self.assertNotEqual(again.device_id, alice.device_id)
        self.assertEqual(self.ok(await again.whoami(), nio.WhoamiResponse).device_id, again.device_id)
        devices = self.ok(await alice.devices(), nio.DevicesResponse).devices
        names = {device.id: device.display_name for device in devices}
        self.assertEqual(names, {alice.device_id: f"{name}'s laptop", again.device_id: "phone"})
        self.refused(await self.client(alice.user_id).login("wrong"), "M_FORBIDDEN")
        flows = self.ok(await self.client().login_info(), nio.LoginInfoResponse).flows
        self.assertIn("m.login.password", flows)

    async def test_a_deleted_device_is_logged_out(self):
        alice = await self.person("alice")
        name = alice.user_id.split(":")[0][1:]
        phone = self.client(alice.user_id)
        self.ok(await phone.login(f"password of {name}", "phone"), nio.LoginResponse)
        asked = self.ok(await alice.delete_devices([phone.device_id]), nio.DeleteDevicesAuthResponse)
        auth = {
            "type": "m.login.password",
            "session": asked.session,
            "identifier": {"type": "m.id.user", "user": alice.user_id},
            "user": alice.user_id,
            "password": f"password of {name}",
        }
        self.ok(await alice.delete_devices([phone.device_id], auth), nio.DeleteDevicesResponse)
        self.refused(await phone.whoami(), "M_UNKNOWN_TOKEN")

    async def test_a_log_out_ends_the_session(self):
        alice = await self.person("alice")
        name = alice.user_id.split(":")[0][1:]
        token = alice.access_token
        self.ok(await alice.logout(), nio.LogoutResponse)
        alice.access_token = token
        self.refused(await alice.sync(timeout=0), "M_UNKNOWN_TOKEN")
        self.ok(await self.client(alice.user_id).login(f"password of {name}"), nio.LoginResponse)

    async def test_a_profile_is_read_by_others_and_follows_into_rooms(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        await self.sync(bob)
        self.ok(await alice.set_displayname("Alice Ünïcode"), nio.ProfileSetDisplayNameResponse)
        self.ok(await alice.set_avatar("mxc://localhost/face"), nio.ProfileSetAvatarResponse)
        profile = self.ok(await bob.get_profile(alice.user_id), nio.ProfileGetResponse)
        self.assertEqual((profile.displayname, profile.avatar_url), ("Alice Ünïcode", "mxc://localhost/face"))
        await self.sync_until(
            bob,
            "the new name",
            lambda _: bob.rooms[room_id].users[alice.user_id].avatar_url == "mxc://localhost/face",
        )
        self.assertEqual(bob.rooms[room_id].user_name(alice.user_id), "Alice Ünïcode")


class Rooms(Case):
    async def test_an_invitation_leads_to_a_conversation(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        created = await alice.room_create(
            name="Council", topic="Roads", invite=[bob.user_id], preset=nio.RoomPreset.private_chat
        )
        room_id = self.ok(created, nio.RoomCreateResponse).room_id
        await self.sync_until(bob, "the invitation", lambda response: room_id in response.rooms.invite)
        self.assertEqual(bob.invited_rooms[room_id].inviter, alice.user_id)
        self.assertEqual(bob.invited_rooms[room_id].name, "Council")
        self.ok(await bob.join(room_id), nio.JoinResponse)
        await self.sync_until(bob, "the room", lambda response: room_id in response.rooms.join)
        room = bob.rooms[room_id]
        self.assertEqual((room.name, room.topic), ("Council", "Roads"))
        self.assertEqual(set(room.users), {alice.user_id, bob.user_id})
        self.assertEqual(room.power_levels.get_user_level(bob.user_id), 0)

        await self.sync(alice)
        for body in ["first", "second — żółć", "third"]:
            event_id = await self.say(alice, room_id, body)
            seen = await self.sync_until(bob, body, in_room(room_id, nio.RoomMessageText, event_id=event_id))
            self.assertEqual((seen.body, seen.sender), (body, alice.user_id))
            answer = await self.say(bob, room_id, f"yes, {body}")
            await self.sync_until(alice, "the answer", in_room(room_id, nio.RoomMessageText, event_id=answer))

    async def test_an_edit_and_a_redaction_are_seen(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        await self.sync(bob)
        original = await self.say(alice, room_id, "teh")
        edit = await self.say(
            alice,
            room_id,
            "* the",
            **{
                "m.new_content": {"msgtype": "m.text", "body": "the"},
                "m.relates_to": {"rel_type": "m.replace", "event_id": original},
            },
        )
        event = await self.sync_until(bob, "the edit", in_room(room_id, nio.RoomMessageText, event_id=edit))
        self.assertEqual(event.source["content"]["m.new_content"]["body"], "the")
        self.assertEqual(event.source["content"]["m.relates_to"]["event_id"], original)

        self.ok(await alice.room_redact(room_id, edit, "both"), nio.RoomRedactResponse)
        redaction = await self.sync_until(bob, "the redaction", in_room(room_id, nio.RedactionEvent, redacts=edit))
        self.assertEqual(redaction.reason, "both")
        read = self.ok(await bob.room_get_event(room_id, edit), nio.RoomGetEventResponse).event
        self.assertIsInstance(read, nio.RedactedEvent)
        self.assertEqual(read.source["content"], {})
        kept = self.ok(await bob.room_get_event(room_id, original), nio.RoomGetEventResponse).event
        self.assertEqual(kept.body, "teh")

    async def test_state_is_set_read_and_guarded(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        self.ok(await alice.room_put_state(room_id, "org.example.seal", {"wax": "red"}, "left"), nio.RoomPutStateResponse)
        read = self.ok(
            await bob.room_get_state_event(room_id, "org.example.seal", "left"), nio.RoomGetStateEventResponse
        )
        self.assertEqual(read.content, {"wax": "red"})
        everything = self.ok(await bob.room_get_state(room_id), nio.RoomGetStateResponse).events
        kinds = {(event["type"], event["state_key"]) for event in everything}
        self.assertLessEqual(
            {
                ("m.room.create", ""),
                ("m.room.power_levels", ""),
                ("m.room.join_rules", ""),
                ("m.room.history_visibility", ""),
                ("m.room.member", alice.user_id),
                ("m.room.member", bob.user_id),
                ("org.example.seal", "left"),
            },
            kinds,
        )
        refusal = await bob.room_put_state(room_id, "m.room.name", {"name": "Bob's"})
        self.refused(refusal, "M_FORBIDDEN")
        self.refused(await bob.room_get_state_event(room_id, "m.room.name"), "M_NOT_FOUND")
        members = self.ok(await bob.joined_members(room_id), nio.JoinedMembersResponse).members
        self.assertEqual({member.user_id for member in members}, {alice.user_id, bob.user_id})

    async def test_kick_ban_unban_and_leave(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob, preset=nio.RoomPreset.public_chat)
        self.refused(await bob.room_kick(room_id, alice.user_id), "M_FORBIDDEN")
        await self.sync(bob)
        self.ok(await alice.room_kick(room_id, bob.user_id, "out"), nio.RoomKickResponse)
        await self.sync_until(bob, "the kick", lambda response: room_id in response.rooms.leave)
        self.ok(await bob.join(room_id), nio.JoinResponse)
        self.ok(await alice.room_ban(room_id, bob.user_id, "for good"), nio.RoomBanResponse)
        self.refused(await bob.join(room_id), "M_FORBIDDEN")
        self.ok(await alice.room_unban(room_id, bob.user_id), nio.RoomUnbanResponse)
        self.ok(await bob.join(room_id), nio.JoinResponse)
        self.ok(await bob.room_leave(room_id), nio.RoomLeaveResponse)
        self.assertEqual(self.ok(await bob.joined_rooms(), nio.JoinedRoomsResponse).rooms, [])
        self.refused(await bob.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": "x"}), "M_FORBIDDEN")
        self.ok(await bob.room_forget(room_id), nio.RoomForgetResponse)

    async def test_an_alias_leads_to_its_room(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, preset=nio.RoomPreset.public_chat)
        alias = f"#forum-{Case.people}:{SERVER_NAME}"
        self.ok(await alice.room_put_alias(alias, room_id), nio.RoomPutAliasResponse)
        found = self.ok(await bob.room_resolve_alias(alias), nio.RoomResolveAliasResponse)
        self.assertEqual((found.room_id, found.servers), (room_id, [SERVER_NAME]))
        self.assertEqual(self.ok(await bob.join(alias), nio.JoinResponse).room_id, room_id)
        self.ok(await alice.room_delete_alias(alias), nio.RoomDeleteAliasResponse)
        self.refused(await bob.room_resolve_alias(alias), "M_NOT_FOUND")

    async def test_typing_receipts_and_markers_are_seen(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        event_id = await self.say(alice, room_id, "read me")
        await self.sync(alice)
        await self.sync(bob)

        def ephemeral(kind, check):
            def look(response):
                room = response.rooms.join.get(room_id)
                return room and any(isinstance(event, kind) and check(event) for event in room.ephemeral)

            return look

        self.ok(await alice.room_typing(room_id, True, 20_000), nio.RoomTypingResponse)
        typing = ephemeral(nio.TypingNoticeEvent, lambda event: event.users == [alice.user_id])
        await self.sync_until(bob, "typing", typing)
        self.ok(await alice.room_typing(room_id, False), nio.RoomTypingResponse)
        await self.sync_until(bob, "its end", ephemeral(nio.TypingNoticeEvent, lambda event: event.users == []))

        self.ok(await bob.update_receipt_marker(room_id, event_id), nio.UpdateReceiptMarkerResponse)
        read = ephemeral(
            nio.ReceiptEvent,
            lambda event: any(
                (receipt.event_id, receipt.user_id, receipt.receipt_type) == (event_id, bob.user_id, "m.read")
                for receipt in event.receipts
            ),
        )
        await self.sync_until(alice, "the receipt", read)

        self.ok(await bob.room_read_markers(room_id, event_id, event_id), nio.RoomReadMarkersResponse)
        marker = await self.sync_until(
            bob,
            "the marker",
            lambda response: next(
                (
                    event
                    for event in (response.rooms.join[room_id].account_data if room_id in response.rooms.join else [])
                    if isinstance(event, nio.FullyReadEvent)
                ),
                None,
            ),
        )
        self.assertEqual(marker.event_id, event_id)

    async def test_a_filter_holds_back_what_it_says(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        await self.say(alice, room_id, "from alice")
        await self.say(bob, room_id, "from bob")
        for n in range(5):
            await alice.room_send(room_id, "org.example.other", {"n": n})
        room = {"timeline": {"types": ["m.room.message"], "senders": [alice.user_id], "limit": 5}}
        stored = self.ok(await bob.upload_filter(room=room), nio.UploadFilterResponse).filter_id
        for sync_filter in (stored, {"room": room}):
            response = await self.sync(bob, sync_filter=sync_filter, full_state=True, since=None)
            self.assertEqual(bodies(response.rooms.join[room_id].timeline.events), ["from alice"])
            self.assertEqual(len(response.rooms.join[room_id].timeline.events), 1)
            bob.next_batch = ""

    async def test_a_lazy_sync_names_only_who_spoke(self):
        people = [await self.person("member") for _ in range(6)]
        alice, bob = people[0], people[1]
        room_id = await self.room_of(alice, *people[1:], name="Quiet")
        unnamed = await self.room_of(alice, *people[1:])
        await self.say(people[4], room_id, "I speak")
        lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
        response = await self.sync(bob, sync_filter=lazy)
        room = response.rooms.join[room_id]
        members = {event.state_key for event in room.state if isinstance(event, nio.RoomMemberEvent)}
        self.assertIn(people[4].user_id, members)
        self.assertFalse({people[2].user_id, people[3].user_id, people[5].user_id} & members, members)
        self.assertEqual(room.summary.joined_member_count, 6)
        # A room without a name is named after its heroes, so theirs come as well (client-server API, "Room summary").
        room = response.rooms.join[unnamed]
        members = {event.state_key for event in room.state + room.timeline.events if isinstance(event, nio.RoomMemberEvent)}
        self.assertEqual(len(room.summary.heroes), 5)
        self.assertNotIn(bob.user_id, room.summary.heroes)
        self.assertLessEqual(set(room.summary.heroes), members)


class History(Case):
    async def test_500_messages_are_paged_back_each_once_and_in_order(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        sent = [await self.say(alice if n % 2 else bob, room_id, f"message {n}") for n in range(MESSAGES)]
        response = await self.sync(bob, sync_filter={"room": {"timeline": {"limit": 10}}})
        timeline = response.rooms.join[room_id].timeline
        self.assertTrue(timeline.limited)
        self.assertEqual(bodies(timeline.events), [f"message {n}" for n in range(MESSAGES - 10, MESSAGES)])
        older = await self.history(bob, room_id, timeline.prev_batch, limit=47)
        texts = [event for event in reversed(older) if isinstance(event, nio.RoomMessageText)]
        self.assertEqual([event.event_id for event in texts], sent[:-10])
        self.assertEqual(bodies(texts), [f"message {n}" for n in range(MESSAGES - 10)])
        self.assertIsInstance(older[-1], nio.RoomCreateEvent)

        only = await self.history(
            bob, room_id, timeline.prev_batch, message_filter={"types": ["m.room.message"], "senders": [alice.user_id]}
        )
        self.assertEqual(bodies(reversed(only)), [f"message {n}" for n in range(1, MESSAGES - 10, 2)])

        context = self.ok(await bob.room_context(room_id, sent[250], limit=10), nio.RoomContextResponse)
        self.assertEqual(context.event.body, "message 250")
        self.assertEqual(bodies(reversed(context.events_before)), [f"message {n}" for n in range(245, 250)])
        self.assertEqual(bodies(context.events_after), [f"message {n}" for n in range(251, 256)])
        page = await bob.room_messages(room_id, context.end, direction=nio.MessageDirection.front, limit=10)
        self.assertEqual(bodies(page.chunk), [f"message {n}" for n in range(256, 266)])

    async def test_incremental_syncs_joined_are_the_whole(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob)
        await self.sync(bob)
        seen = []
        for n in range(40):
            await self.say(alice, room_id, f"message {n}")
            if n % 7 == 0:
                room = (await self.sync(bob)).rooms.join[room_id]
                self.assertFalse(room.timeline.limited)
                seen += bodies(room.timeline.events)
        seen += bodies((await self.sync(bob)).rooms.join[room_id].timeline.events)
        self.assertEqual(seen, [f"message {n}" for n in range(40)])
        self.assertNotIn(room_id, (await self.sync(bob)).rooms.join)


class Restart(Case):
    async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(self):
        alice, bob = await self.person("alice"), await self.person("bob")
        room_id = await self.room_of(alice, bob, name="Kept")
        await self.sync(bob)
        sent = []
        for round_number in range(3):
            for n in range(15):
                body = f"round {round_number} message {n}"
                sent.append((await self.say(alice, room_id, body), body))
            self.server.kill()
            self.server.launch()
        seen = []
        while len(seen) < len(sent):
            response = self.ok(await bob.sync(timeout=5_000), nio.SyncResponse)
            room = response.rooms.join[room_id]
            if room.timeline.limited:
                older = await self.history(bob, room_id, room.timeline.prev_batch)
                room.timeline.events[:0] = reversed(older)
            seen += [
                (event.event_id, event.body) for event in room.timeline.events if isinstance(event, nio.RoomMessageText)
            ]
        self.assertEqual(seen, sent)
        self.assertEqual(bob.rooms[room_id].name, "Kept")
        self.assertEqual(self.ok(await alice.whoami(), nio.WhoamiResponse).user_id, alice.user_id)


if __name__ == "__main__":
    program = unittest.main(verbosity=2, exit=False)
    result = program.result
    failed = len({str(case) for case, _ in result.failures + result.errors})
    print(json.dumps({"passed": result.testsRun - failed, "failed": failed}))
    sys.exit(0 if result.wasSuccessful() else 1)
