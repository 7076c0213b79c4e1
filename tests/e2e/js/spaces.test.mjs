import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, refused } from "./person.mjs";
import { SERVER_NAME, Server } from "./server.mjs";

describe("spaces, the room directory and upgrades", () => {
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

  const create = async (name, options = {}) => {
    const { room_id: roomId } = await alice.client.createRoom({ name, preset: "public_chat", ...options });
    return roomId;
  };
  const put = (parent, child, content = {}) =>
    alice.client.sendStateEvent(parent, "m.space.child", { via: [SERVER_NAME], ...content }, child);

  test("a space shows its rooms in order, and not those that the asker may not see", async () => {
    const space = await create("Ministry", { creation_content: { type: "m.space" } });
    const [first, second, hidden] = [
      await create("First"),
      await create("Second"),
      await create("Hidden", { preset: "private_chat" }),
    ];
    await put(space, second, { order: "b" });
    await put(space, first, { order: "a", suggested: true });
    await put(space, hidden, { order: "c" });
    const { rooms } = await bob.client.getRoomHierarchy(space);
    assert.deepEqual(rooms.map((room) => room.name), ["Ministry", "First", "Second"]);
    assert.equal(rooms[0].room_type, "m.space");
    assert.deepEqual(rooms[0].children_state.map((event) => event.state_key).sort(), [first, second, hidden].sort());
    const suggested = await bob.client.getRoomHierarchy(space, 50, 1, true);
    assert.deepEqual(suggested.rooms.map((room) => room.name), ["Ministry", "First"]);
    const own = await alice.client.getRoomHierarchy(space);
    assert.deepEqual(own.rooms.map((room) => room.name), ["Ministry", "First", "Second", "Hidden"]);
    const one = await bob.client.getRoomHierarchy(space, 2);
    const rest = await bob.client.getRoomHierarchy(space, 2, undefined, false, one.next_batch);
    assert.deepEqual([...one.rooms, ...rest.rooms].map((room) => room.name), ["Ministry", "First", "Second"]);
  });

  test("members of a space may join its restricted rooms, and others may not", async () => {
    const space = await create("Department", { creation_content: { type: "m.space" } });
    const room = await create("Staff", {
      preset: "private_chat",
      initial_state: [
        {
          type: "m.room.join_rules",
          state_key: "",
          content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: space }] },
        },
      ],
    });
    await put(space, room);
    await refused(bob.client.joinRoom(room), 403, "M_FORBIDDEN");
    await bob.client.joinRoom(space);
    await bob.client.joinRoom(room);
    await bob.room(room);
  });

  test("a published room is found by its name, and no longer when it is taken from the directory", async () => {
    const roomId = await create("Zemstvo statistics", { visibility: "public", topic: "figures", room_alias_name: "zemstvo" });
    const search = (term) => bob.client.publicRooms({ limit: 10, filter: { generic_search_term: term } });
    const { chunk, total_room_count_estimate: total } = await search("zemstvo");
    assert.equal(chunk.length, 1);
    assert.equal(chunk[0].room_id, roomId);
    assert.equal(chunk[0].num_joined_members, 1);
    assert.equal(chunk[0].canonical_alias, `#zemstvo:${SERVER_NAME}`);
    assert.ok(total >= 1);
    assert.equal((await search("no such thing")).chunk.length, 0);
    await alice.client.setRoomDirectoryVisibility(roomId, "private");
    assert.equal((await search("zemstvo")).chunk.length, 0);
  });

  test("an upgraded room points to its successor, which has its name, its rules and its address", async () => {
    const old = await create("Long-lived", { room_version: "10", topic: "kept", room_alias_name: "longlived" });
    await bob.client.joinRoom(old);
    await bob.room(old);
    const { replacement_room: successor } = await alice.client.upgradeRoom(old, "12");
    const tombstone = await bob.until("the tombstone", () =>
      bob.client.getRoom(old).currentState.getStateEvents("m.room.tombstone", ""),
    );
    assert.equal(tombstone.getContent().replacement_room, successor);
    await bob.client.joinRoom(successor);
    const room = await bob.room(successor);
    assert.equal(room.name, "Long-lived");
    assert.equal(room.getVersion(), "12");
    assert.equal(room.currentState.getStateEvents("m.room.topic", "").getContent().topic, "kept");
    assert.equal(room.findPredecessor().roomId, old);
    const alias = await bob.client.getRoomIdForAlias(`#longlived:${SERVER_NAME}`);
    assert.equal(alias.room_id, successor);
    await refused(bob.client.sendTextMessage(old, "too late"), 403, "M_FORBIDDEN");
  });

  test("a summary of a room is there for those who may see it", async () => {
    const open = await create("Open house", { topic: "come in" });
    const closed = await create("Closed", { preset: "private_chat" });
    const summary = await bob.client.getRoomSummary(open);
    assert.equal(summary.name, "Open house");
    assert.equal(summary.topic, "come in");
    assert.equal(summary.num_joined_members, 1);
    assert.equal(summary.join_rule, "public");
    await refused(bob.client.getRoomSummary(closed), 404, "M_NOT_FOUND");
  });
});
