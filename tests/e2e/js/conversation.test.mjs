import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, refused, sdk } from "./person.mjs";
import { SERVER_NAME, Server } from "./server.mjs";

describe("two people in two clients", () => {
  let server;
  let alice;
  let bob;
  let roomId;

  before(async () => {
    server = await Server.start();
    alice = await Person.register(server, "alice");
    bob = await Person.register(server, "bob");
    roomId = await alice.roomWith([bob]);
    await alice.room(roomId);
    await bob.room(roomId);
  });
  after(async () => {
    alice?.stop();
    bob?.stop();
    await server?.stop();
  });

  test("registration answers a user of this server and a device", async () => {
    assert.equal(alice.userId, `@alice:${SERVER_NAME}`);
    const who = await alice.client.whoami();
    assert.equal(who.user_id, alice.userId);
    assert.equal(who.device_id, alice.deviceId);
  });

  test("a taken name and a wrong password are refused", async () => {
    const anonymous = sdk.createClient({ baseUrl: server.url });
    assert.equal(await anonymous.isUsernameAvailable("carol"), true);
    await refused(
      anonymous.registerRequest({ username: "alice", password: "x", auth: { type: "m.login.dummy" } }),
      400,
      "M_USER_IN_USE",
    );
    await refused(
      anonymous.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: "alice" },
        password: "not hers",
      }),
      403,
      "M_FORBIDDEN",
    );
  });

  test("an invitation shows who invites to what, and joining shows both", async () => {
    const { room_id: meeting } = await alice.client.createRoom({
      preset: "private_chat",
      name: "Weekly report",
      topic: "What was done",
      is_direct: true,
      invite: [bob.userId],
    });
    const invited = await bob.room(meeting, "invite");
    assert.equal(invited.name, "Weekly report");
    assert.equal(invited.getDMInviter(), alice.userId);
    assert.equal(invited.getMember(bob.userId).events.member.getSender(), alice.userId);

    await bob.client.joinRoom(meeting);
    const room = await bob.room(meeting);
    assert.equal(room.currentState.getStateEvents("m.room.topic", "").getContent().topic, "What was done");
    assert.deepEqual(room.getJoinedMembers().map((member) => member.userId).sort(), [alice.userId, bob.userId]);
    await alice.until("bob's join", () => alice.client.getRoom(meeting)?.getMember(bob.userId)?.membership === "join");
    assert.deepEqual((await bob.client.getJoinedRooms()).joined_rooms.sort(), [meeting, roomId].sort());
    await bob.client.leave(meeting);
  });

  test("messages arrive both ways, in order, once, and the sender's echo is matched", async () => {
    const sent = [];
    for (let n = 0; n < 10; n += 1) {
      const [from, body] = n % 2 ? [bob, `bob says ${n}`] : [alice, `alice says ${n} — ünï¢ödé 🖋`];
      const eventId = await from.say(roomId, body);
      sent.push([eventId, body, from.userId]);
      // Each is seen by both before the other answers, so that both have the one order.
      for (const person of [alice, bob]) await person.event(roomId, eventId);
    }
    for (const person of [alice, bob]) {
      assert.deepEqual(
        person.messages(roomId).map((event) => [event.getId(), event.getContent().body, event.getSender()]),
        sent,
      );
    }
    assert.equal(alice.client.getRoom(roomId).getPendingEvents?.length ?? 0, 0);
  });

  test("the transaction id comes back to the device that sent, and only to it", async () => {
    const phone = await alice.login();
    await phone.start();
    const { event_id: eventId } = await alice.client.sendEvent(
      roomId,
      "m.room.message",
      { msgtype: "m.text", body: "from the desk" },
      "my-own-transaction",
    );
    const desk = await alice.event(roomId, eventId);
    assert.equal(desk.getUnsigned().transaction_id, "my-own-transaction");
    for (const other of [phone, bob]) {
      const event = await other.event(roomId, eventId);
      assert.equal(event.getUnsigned().transaction_id, undefined);
      assert.equal(typeof event.getUnsigned().age, "number");
    }
    const again = await alice.client.http.authedRequest(
      "PUT",
      `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/my-own-transaction`,
      undefined,
      { msgtype: "m.text", body: "from the desk" },
    );
    assert.equal(again.event_id, eventId);
    phone.stop();
  });

  test("an edit replaces what the other sees", async () => {
    const original = await alice.say(roomId, "teh report");
    const edit = await alice.client.sendMessage(roomId, {
      msgtype: "m.text",
      body: "* the report",
      "m.new_content": { msgtype: "m.text", body: "the report" },
      "m.relates_to": { rel_type: "m.replace", event_id: original },
    });
    await bob.event(roomId, edit.event_id);
    const event = await bob.until("the edit", () => {
      const found = bob.findEvent(roomId, original);
      return found?.replacingEventId() === edit.event_id ? found : undefined;
    });
    assert.equal(event.getContent().body, "the report");
    assert.equal(event.getOriginalContent().body, "teh report");
  });

  test("a redaction takes the content away everywhere and keeps who and why", async () => {
    const secret = await alice.say(roomId, "the password is swordfish");
    await bob.event(roomId, secret);
    await alice.client.redactEvent(roomId, secret, undefined, { reason: "said too much" });
    const event = await bob.until("the redaction", () => {
      const found = bob.findEvent(roomId, secret);
      return found?.isRedacted() ? found : undefined;
    });
    assert.deepEqual(event.getContent(), {});
    assert.equal(event.getUnsigned().redacted_because.content.reason, "said too much");
    const fetched = await bob.client.fetchRoomEvent(roomId, secret);
    assert.deepEqual(fetched.content, {});
    assert.equal(fetched.unsigned.redacted_because.sender, alice.userId);
  });

  test("bob may not redact what alice said", async () => {
    const hers = await alice.say(roomId, "mine");
    await refused(bob.client.redactEvent(roomId, hers), 403, "M_FORBIDDEN");
    assert.equal((await bob.client.fetchRoomEvent(roomId, hers)).content.body, "mine");
  });

  test("typing is seen, and its end too", async () => {
    const member = () => bob.client.getRoom(roomId).getMember(alice.userId);
    await alice.client.sendTyping(roomId, true, 30_000);
    await bob.until("alice typing", () => member().typing);
    await alice.client.sendTyping(roomId, false, 0);
    await bob.until("alice not typing", () => !member().typing);
  });

  test("a read receipt is seen by the other", async () => {
    const eventId = await alice.say(roomId, "please read");
    const event = await bob.event(roomId, eventId);
    await bob.client.sendReadReceipt(event);
    await alice.event(roomId, eventId);
    await alice.until("bob's receipt", () => alice.client.getRoom(roomId).getEventReadUpTo(bob.userId) === eventId);
  });

  test("a private receipt stays with its sender", async () => {
    const eventId = await alice.say(roomId, "read in silence");
    const event = await bob.event(roomId, eventId);
    await bob.client.sendReadReceipt(event, sdk.ReceiptType.ReadPrivate);
    const marker = await bob.say(roomId, "after the private receipt");
    await alice.event(roomId, marker);
    const receipts = alice.client.getRoom(roomId).getReceiptsForEvent(alice.findEvent(roomId, eventId));
    assert.equal(
      receipts.find((receipt) => receipt.userId === bob.userId && receipt.type === "m.read.private"),
      undefined,
    );
  });

  test("read markers move for all devices of their owner", async () => {
    const eventId = await alice.say(roomId, "read up to here");
    const event = await bob.event(roomId, eventId);
    const tablet = await bob.login();
    await tablet.start();
    await bob.client.setRoomReadMarkers(roomId, eventId, event);
    await tablet.until(
      "the marker",
      () => tablet.client.getRoom(roomId)?.getAccountData("m.fully_read")?.getContent().event_id === eventId,
    );
    tablet.stop();
  });

  test("account data reaches the other devices of its owner and nobody else", async () => {
    const tablet = await bob.login();
    await tablet.start();
    await bob.client.setAccountData("org.example.drawer", { open: ["a", "b"] });
    await bob.client.setRoomAccountData(roomId, "org.example.colour", { colour: "red" });
    await bob.client.setRoomAccountData(roomId, "m.tag", { tags: { "m.favourite": { order: 0.5 } } });
    await tablet.until("the drawer", () => tablet.client.getAccountData("org.example.drawer"));
    const room = tablet.client.getRoom(roomId);
    await tablet.until("the colour", () => room.getAccountData("org.example.colour"));
    await tablet.until("the tag", () => room.tags["m.favourite"]);
    assert.deepEqual(tablet.client.getAccountData("org.example.drawer").getContent(), { open: ["a", "b"] });
    assert.deepEqual(room.getAccountData("org.example.colour").getContent(), { colour: "red" });
    assert.deepEqual(room.tags, { "m.favourite": { order: 0.5 } });
    assert.deepEqual(await bob.client.getAccountDataFromServer("org.example.drawer"), { open: ["a", "b"] });
    assert.equal(alice.client.getAccountData("org.example.drawer"), undefined);
    assert.equal(alice.client.getRoom(roomId).getAccountData("org.example.colour"), undefined);
    tablet.stop();
  });

  test("a new display name is the profile and is seen in the room", async () => {
    await alice.client.setDisplayName("Alice Example");
    await alice.client.setAvatarUrl("mxc://localhost/portrait");
    const profile = await bob.client.getProfileInfo(alice.userId);
    assert.equal(profile.displayname, "Alice Example");
    assert.equal(profile.avatar_url, "mxc://localhost/portrait");
    const member = () => bob.client.getRoom(roomId).getMember(alice.userId);
    await bob.until("the name", () => member().rawDisplayName === "Alice Example");
    await bob.until("the avatar", () => member().getMxcAvatarUrl() === "mxc://localhost/portrait");
    await refused(bob.client.getProfileInfo(`@nobody:${SERVER_NAME}`), 404, "M_NOT_FOUND");
  });

  test("leaving ends what is seen and forgetting removes the room", async () => {
    await bob.client.leave(roomId);
    await bob.room(roomId, "leave");
    await alice.until("bob's leave", () => alice.client.getRoom(roomId).getMember(bob.userId).membership === "leave");
    const unseen = await alice.say(roomId, "now that he is gone");
    await refused(bob.client.fetchRoomEvent(roomId, unseen), 404, "M_NOT_FOUND");
    await refused(bob.client.sendTextMessage(roomId, "still here?"), 403, "M_FORBIDDEN");
    assert.deepEqual((await bob.client.getJoinedRooms()).joined_rooms, []);
    // History from before one left stays readable.
    const page = await bob.client.createMessagesRequest(roomId, null, 10, "b");
    assert.ok(page.chunk.some((event) => event.type === "m.room.member" && event.content.membership === "leave"));
    assert.ok(page.chunk.every((event) => event.event_id !== unseen));
    await bob.client.forget(roomId);
    await refused(bob.client.createMessagesRequest(roomId, null, 10, "b"), 403, "M_FORBIDDEN");
  });
});
