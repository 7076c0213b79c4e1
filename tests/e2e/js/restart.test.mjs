import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, refused, sdk } from "./person.mjs";
import { Server } from "./server.mjs";

describe("a server that is killed and started again", () => {
  let server;
  let alice;
  let bob;
  let roomId;

  before(async () => {
    server = await Server.start();
    alice = await Person.register(server, "alice");
    bob = await Person.register(server, "bob");
    roomId = await alice.roomWith([bob], { name: "Survivors" });
    await bob.room(roomId);
    await alice.room(roomId);
  });
  after(async () => {
    alice?.stop();
    bob?.stop();
    await server?.stop();
  });

  /** Every message of the room, oldest first, as the server has them now. */
  async function history() {
    const events = [];
    let from = null;
    do {
      const page = await bob.client.createMessagesRequest(roomId, from, 100, "b");
      events.push(...page.chunk);
      from = page.end;
    } while (from);
    return events.filter((event) => event.type === "m.room.message").reverse();
  }

  test("every acknowledged message is there once, and half-sent ones are whole or absent", async () => {
    const acknowledged = new Map();
    let attempted = 0;
    const enough = Promise.withResolvers();
    const workers = Array.from({ length: 4 }, async (_, worker) => {
      for (let n = 0; ; n += 1) {
        const body = `worker ${worker} message ${n}`;
        attempted += 1;
        try {
          acknowledged.set(body, await alice.say(roomId, body));
        } catch {
          return;
        }
        if (acknowledged.size >= 60) enough.resolve();
      }
    });
    await enough.promise;
    await server.kill();
    await Promise.all(workers);
    await server.launch();

    const stored = await history();
    const bodies = stored.map((event) => event.content.body);
    assert.equal(new Set(bodies).size, bodies.length, "nothing is doubled");
    const byBody = new Map(stored.map((event) => [event.content.body, event.event_id]));
    for (const [body, eventId] of acknowledged) assert.equal(byBody.get(body), eventId, body);
    assert.ok(stored.length <= attempted);
  });

  test("a client that was syncing goes on by itself and misses nothing", async () => {
    const seen = await alice.say(roomId, "before the second kill");
    await bob.event(roomId, seen);
    await server.kill();
    await server.launch();
    const later = await alice.say(roomId, "after the second kill");
    await bob.event(roomId, later);
    const bodies = bob.bodies(roomId);
    assert.equal(bodies.filter((body) => body === "before the second kill").length, 1);
    assert.equal(bodies.at(-1), "after the second kill");
  });

  test("a transaction id is remembered over the kill", async () => {
    const path = `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/over-the-kill`;
    const content = { msgtype: "m.text", body: "only once" };
    const first = await alice.client.http.authedRequest("PUT", path, undefined, content);
    await server.kill();
    await server.launch();
    const second = await alice.client.http.authedRequest("PUT", path, undefined, content);
    assert.equal(second.event_id, first.event_id);
    assert.equal((await history()).filter((event) => event.content.body === "only once").length, 1);
  });

  test("accounts, devices, tokens, profiles, aliases and state are as they were", async () => {
    const alias = `#survivors:${alice.userId.split(":").slice(1).join(":")}`;
    await alice.client.setDisplayName("Alice the Survivor");
    await alice.client.createAlias(alias, roomId);
    await alice.client.sendStateEvent(roomId, "m.room.topic", { topic: "still here" }, "");
    await alice.client.setAccountData("org.example.kept", { kept: true });
    const tablet = await alice.login();
    await tablet.client.logout();
    await server.kill();
    await server.launch();

    assert.equal((await alice.client.whoami()).device_id, alice.deviceId);
    assert.equal((await bob.client.getProfileInfo(alice.userId)).displayname, "Alice the Survivor");
    assert.equal((await bob.client.getRoomIdForAlias(alias)).room_id, roomId);
    assert.equal((await bob.client.getStateEvent(roomId, "m.room.topic", "")).topic, "still here");
    assert.deepEqual(await alice.client.getAccountDataFromServer("org.example.kept"), { kept: true });
    await refused(tablet.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    const again = await alice.login();
    await again.start({ initialSyncLimit: 5 });
    const room = await again.room(roomId);
    assert.equal(room.name, "Survivors");
    assert.deepEqual(room.getJoinedMembers().map((member) => member.userId).sort(), [alice.userId, bob.userId]);
    assert.equal(again.client.getSyncState() !== sdk.SyncState.Error, true);
    again.stop();
  });
});
