import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { Person } from "./person.mjs";
import { Server } from "./server.mjs";

const ROOMS = 30;
const WINDOW = 10;
const REQUIRED_STATE = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.join_rules", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
];

/** Syncs a person's client through the SDK's own SlidingSync class. */
async function startSliding(person) {
  const lists = new Map([
    ["all", { ranges: [[0, WINDOW - 1]], timeline_limit: 1, required_state: REQUIRED_STATE, filters: {} }],
  ]);
  const subscription = { timeline_limit: 20, required_state: REQUIRED_STATE };
  const sliding = new SlidingSync(person.server.url, lists, subscription, person.client, 5_000);
  await person.start({ slidingSync: sliding });
  return sliding;
}

describe("sliding sync through the client's own class", () => {
  let server;
  let alice;
  let bob;
  let sliding;
  const rooms = [];

  before(async () => {
    server = await Server.start();
    alice = await Person.registerOnly(server, "alice");
    bob = await Person.registerOnly(server, "bob");
    for (let n = 0; n < ROOMS; n += 1) rooms.push(await alice.roomWith([bob], { name: `Room ${n}` }));
    sliding = await startSliding(bob);
  });
  after(async () => {
    alice?.stop();
    bob?.stop();
    await server?.stop();
  });

  const known = () => new Set(bob.client.getRooms().map((room) => room.roomId));

  test("the first window has the latest rooms, with their names, and the number of all", async () => {
    await bob.until("the window", () => known().size >= WINDOW);
    assert.equal(sliding.getListData("all").joinedCount, ROOMS);
    assert.deepEqual([...known()].sort(), rooms.slice(-WINDOW).sort());
    assert.equal(bob.client.getRoom(rooms.at(-1)).name, `Room ${ROOMS - 1}`);
    assert.equal(bob.client.getRoom(rooms[0]), null);
  });

  test("a message brings an old room into the window", async () => {
    const eventId = await alice.say(rooms[0], "look here");
    const event = await bob.event(rooms[0], eventId);
    assert.equal(event.getContent().body, "look here");
    assert.equal(bob.client.getRoom(rooms[0]).name, "Room 0");
  });

  test("a wider window brings the rest, and nothing is missing", async () => {
    sliding.setListRanges("all", [[0, ROOMS - 1]]);
    await bob.until("all rooms", () => known().size === ROOMS);
    assert.deepEqual([...known()].sort(), rooms.toSorted());
  });

  test("a subscription brings a room's last messages", async () => {
    const said = [];
    for (let n = 0; n < 15; n += 1) said.push(await alice.say(rooms[3], `message ${n}`));
    sliding.modifyRoomSubscriptions(new Set([rooms[3]]));
    await bob.event(rooms[3], said[0]);
    await bob.event(rooms[3], said.at(-1));
    const bodies = bob.bodies(rooms[3]);
    assert.deepEqual(bodies.slice(-15), said.map((_, n) => `message ${n}`));
  });

  test("account data, receipts and typing come through the extensions", async () => {
    const room = rooms[3];
    await bob.client.setAccountData("org.example.drawer", { open: true });
    await bob.until("the drawer", () => bob.client.getAccountData("org.example.drawer"));
    const eventId = await bob.say(room, "did you see?");
    await bob.event(room, eventId);
    await alice.client.sendReceipt(bob.findEvent(room, eventId), "m.read", {});
    await bob.until("alice's receipt", () => bob.client.getRoom(room).getEventReadUpTo(alice.userId) === eventId);
    await alice.client.sendTyping(room, true, 20_000);
    await bob.until("alice typing", () => bob.client.getRoom(room).getMember(alice.userId)?.typing);
  });

  test("a restart of the server in between loses nothing", async () => {
    await server.kill();
    await server.launch();
    const eventId = await alice.say(rooms[5], "after the crash");
    await bob.event(rooms[5], eventId);
  });
});
