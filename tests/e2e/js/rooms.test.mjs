import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, refused } from "./person.mjs";
import { SERVER_NAME, Server } from "./server.mjs";

describe("rooms and who is in them", () => {
  let server;
  let alice;
  let bob;

  before(async () => {
    server = await Server.start();
    alice = await Person.register(server, "alice");
    bob = await Person.register(server, "bob");
  });
  after(async () => {
    alice?.stop();
    bob?.stop();
    await server?.stop();
  });

  test("a room is found and joined by its alias, until the alias is deleted", async () => {
    const alias = `#notice-board:${SERVER_NAME}`;
    const created = await alice.client.createRoom({
      preset: "public_chat",
      room_alias_name: "notice-board",
      name: "Notice board",
    });
    const found = await bob.client.getRoomIdForAlias(alias);
    assert.equal(found.room_id, created.room_id);
    assert.deepEqual(found.servers, [SERVER_NAME]);
    const joined = await bob.client.joinRoom(alias);
    assert.equal(joined.roomId, created.room_id);
    const room = await bob.room(created.room_id);
    assert.equal(room.getCanonicalAlias(), alias);

    await alice.client.createAlias(`#board-2:${SERVER_NAME}`, created.room_id);
    const local = await alice.client.getLocalAliases(created.room_id);
    assert.deepEqual(local.aliases.sort(), [`#board-2:${SERVER_NAME}`, alias]);
    await refused(alice.client.createAlias(alias, created.room_id), 409, "M_UNKNOWN");
    await refused(bob.client.deleteAlias(`#board-2:${SERVER_NAME}`), 403, "M_FORBIDDEN");
    await alice.client.deleteAlias(`#board-2:${SERVER_NAME}`);
    await refused(bob.client.getRoomIdForAlias(`#board-2:${SERVER_NAME}`), 404, "M_NOT_FOUND");
  });

  test("a private room is closed to who was not invited, and an invitation can be declined", async () => {
    const { room_id: roomId } = await alice.client.createRoom({ preset: "private_chat" });
    await refused(bob.client.joinRoom(roomId), 403, "M_FORBIDDEN");
    await refused(bob.client.roomState(roomId), 403, "M_FORBIDDEN");
    await alice.client.invite(roomId, bob.userId, { reason: "come in" });
    const invited = await bob.room(roomId, "invite");
    assert.equal(invited.getMember(bob.userId).events.member.getContent().reason, "come in");
    await bob.client.leave(roomId);
    await alice.until(
      "bob declining",
      () => alice.client.getRoom(roomId)?.getMember(bob.userId)?.membership === "leave",
    );
    await refused(bob.client.joinRoom(roomId), 403, "M_FORBIDDEN");
  });

  test("a kicked member may come back to a public room and a banned one may not", async () => {
    const { room_id: roomId } = await alice.client.createRoom({ preset: "public_chat" });
    await bob.client.joinRoom(roomId);
    await bob.room(roomId);
    await refused(bob.client.kick(roomId, alice.userId), 403, "M_FORBIDDEN");
    await alice.client.kick(roomId, bob.userId, "cool down");
    const kicked = await bob.room(roomId, "leave");
    assert.equal(kicked.getMember(bob.userId).events.member.getContent().reason, "cool down");
    assert.equal(kicked.getMember(bob.userId).events.member.getSender(), alice.userId);
    await bob.client.joinRoom(roomId);
    await bob.room(roomId);
    await alice.client.ban(roomId, bob.userId, "enough");
    await bob.room(roomId, "ban");
    await refused(bob.client.joinRoom(roomId), 403, "M_FORBIDDEN");
    await alice.client.unban(roomId, bob.userId);
    await bob.client.joinRoom(roomId);
    await bob.room(roomId);
  });

  test("a knock is seen and answered", async () => {
    const { room_id: roomId } = await alice.client.createRoom({
      preset: "private_chat",
      initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
    });
    await bob.client.knockRoom(roomId, { reason: "may I?" });
    await alice.until(
      "the knock",
      () => alice.client.getRoom(roomId)?.getMember(bob.userId)?.membership === "knock",
    );
    await alice.client.invite(roomId, bob.userId);
    await bob.room(roomId, "invite");
    await bob.client.joinRoom(roomId);
    await bob.room(roomId);
  });

  test("power levels say who may do what", async () => {
    const roomId = await alice.roomWith([bob]);
    await bob.room(roomId);
    await refused(bob.client.setRoomName(roomId, "Bob's room"), 403, "M_FORBIDDEN");
    await alice.room(roomId);
    await alice.client.setPowerLevel(roomId, bob.userId, 50);
    await bob.until("power", () => bob.client.getRoom(roomId).getMember(bob.userId).powerLevel === 50);
    await bob.client.setRoomName(roomId, "Bob's room");
    await alice.until("the name", () => alice.client.getRoom(roomId).name === "Bob's room");
    const levels = await alice.client.getStateEvent(roomId, "m.room.power_levels", "");
    assert.equal(levels.users[bob.userId], 50);
  });

  test("creation takes name, topic, initial state, content and version", async () => {
    const { room_id: roomId } = await alice.client.createRoom({
      preset: "trusted_private_chat",
      name: "Archive",
      topic: "Old things",
      room_version: "10",
      creation_content: { type: "org.example.archive" },
      initial_state: [{ type: "org.example.shelf", state_key: "left", content: { books: 3 } }],
      power_level_content_override: { events_default: 10 },
      is_direct: true,
      invite: [bob.userId],
    });
    const state = await alice.client.roomState(roomId);
    const content = (type, key = "") =>
      state.find((event) => event.type === type && event.state_key === key)?.content;
    assert.equal(content("m.room.create").room_version, "10");
    assert.equal(content("m.room.create").type, "org.example.archive");
    assert.equal(content("m.room.name").name, "Archive");
    assert.equal(content("m.room.topic").topic, "Old things");
    assert.deepEqual(content("org.example.shelf", "left"), { books: 3 });
    assert.equal(content("m.room.power_levels").events_default, 10);
    assert.equal(content("m.room.power_levels").users[bob.userId], 100);
    assert.equal(content("m.room.join_rules").join_rule, "invite");
    assert.equal(content("m.room.guest_access").guest_access, "can_join");
    assert.equal(content("m.room.history_visibility").history_visibility, "shared");
    assert.equal(content("m.room.member", bob.userId).membership, "invite");
    assert.equal(content("m.room.member", bob.userId).is_direct, true);
  });

  test("who joins a room of joined history does not see what came before", async () => {
    const { room_id: roomId } = await alice.client.createRoom({
      preset: "public_chat",
      initial_state: [
        { type: "m.room.history_visibility", state_key: "", content: { history_visibility: "joined" } },
      ],
    });
    const hidden = await alice.say(roomId, "before bob");
    await bob.client.joinRoom(roomId);
    const shown = await alice.say(roomId, "after bob");
    await bob.event(roomId, shown);
    const page = await bob.client.createMessagesRequest(roomId, null, 100, "b");
    const ids = page.chunk.map((event) => event.event_id);
    assert.ok(ids.includes(shown) && !ids.includes(hidden));
    await refused(bob.client.fetchRoomEvent(roomId, hidden), 404, "M_NOT_FOUND");
    assert.ok(!bob.bodies(roomId).includes("before bob"));
  });

  test("a lazy client learns the silent members only when it asks", async () => {
    const silent = [];
    for (let n = 0; n < 10; n += 1) silent.push(await Person.registerOnly(server, `silent-${n}`));
    const roomId = await alice.roomWith([bob, ...silent], { name: "A quiet room" });
    await alice.say(roomId, "hello?");
    await silent[3].say(roomId, "I am not so silent");

    const lazy = await bob.login();
    await lazy.start({ lazyLoadMembers: true, initialSyncLimit: 2 });
    const room = await lazy.room(roomId);
    assert.equal(lazy.client.hasLazyLoadMembersEnabled(), true);
    const known = room.currentState.getMembers().map((member) => member.userId);
    assert.ok(known.includes(alice.userId) && known.includes(silent[3].userId), "senders are known");
    assert.ok(known.length < 12, `${known.length} members were sent`);
    assert.equal(room.getJoinedMemberCount(), 12, "the summary counts all");
    await room.loadMembersIfNeeded();
    const expected = [alice, bob, ...silent].map((person) => person.userId).sort();
    assert.deepEqual(room.getJoinedMembers().map((member) => member.userId).sort(), expected);

    // One who speaks for the first time comes with their member event.
    const eager = await alice.login();
    await eager.start({ lazyLoadMembers: true, initialSyncLimit: 1 });
    const eventId = await silent[7].say(roomId, "me too");
    await eager.event(roomId, eventId);
    assert.equal(eager.client.getRoom(roomId).getMember(silent[7].userId)?.membership, "join");
    lazy.stop();
    eager.stop();
  });

  test("devices are listed, renamed and deleted with the password", async () => {
    const tablet = await alice.login();
    await alice.client.setDeviceDetails(tablet.deviceId, { display_name: "The tablet" });
    const { devices } = await alice.client.getDevices();
    assert.equal(devices.find((device) => device.device_id === tablet.deviceId).display_name, "The tablet");
    const refusal = await alice.client.deleteDevice(tablet.deviceId).catch((error) => error);
    assert.equal(refusal.httpStatus, 401);
    assert.ok(refusal.data.flows.some((flow) => flow.stages.includes("m.login.password")));
    await alice.client.deleteDevice(tablet.deviceId, {
      type: "m.login.password",
      session: refusal.data.session,
      identifier: { type: "m.id.user", user: alice.userId },
      password: alice.password,
    });
    await refused(tablet.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    const left = (await alice.client.getDevices()).devices.map((device) => device.device_id);
    assert.ok(left.includes(alice.deviceId) && !left.includes(tablet.deviceId));
  });

  test("a changed password opens, the old one does not, and logging out closes", async () => {
    const dora = await Person.registerOnly(server, "dora");
    const other = await dora.login();
    const auth = (session) => ({
      type: "m.login.password",
      session,
      identifier: { type: "m.id.user", user: dora.userId },
      password: dora.password,
    });
    const refusal = await dora.client.setPassword(undefined, "a new one 4U!", true).catch((error) => error);
    assert.equal(refusal.httpStatus, 401);
    await dora.client.setPassword(auth(refusal.data.session), "a new one 4U!", true);
    await refused(other.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    await refused(dora.login(), 403, "M_FORBIDDEN");
    dora.password = "a new one 4U!";
    const again = await dora.login();
    await again.client.logout();
    await refused(again.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    assert.equal((await dora.client.whoami()).user_id, dora.userId);
  });
});
