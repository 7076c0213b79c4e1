import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, sdk } from "./person.mjs";
import { Server } from "./server.mjs";

const MESSAGES = 520;
const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => `message ${from + index}`);

describe(`a room with ${MESSAGES} messages`, () => {
  let server;
  let alice;
  let bob;
  let roomId;
  const eventIds = [];

  before(async () => {
    server = await Server.start();
    alice = await Person.registerOnly(server, "alice");
    bob = await Person.registerOnly(server, "bob");
    roomId = await alice.roomWith([bob]);
    for (let n = 0; n < MESSAGES; n += 1) eventIds.push(await (n % 3 ? alice : bob).say(roomId, `message ${n}`));
  });
  after(async () => {
    await server?.stop();
  });

  test("a first sync is limited, and paging back finds every message once and in order", async () => {
    const device = await bob.login();
    await device.start({ initialSyncLimit: 10 });
    const room = await device.room(roomId);
    assert.deepEqual(device.bodies(roomId), numbers(MESSAGES - 10, MESSAGES));

    const timeline = room.getLiveTimeline();
    let pages = 0;
    while (await device.client.paginateEventTimeline(timeline, { backwards: true, limit: 50 })) {
      pages += 1;
      assert.ok(pages < 40, "paging comes to an end");
    }
    assert.deepEqual(device.bodies(roomId), numbers(0, MESSAGES));
    assert.deepEqual(device.messages(roomId).map((event) => event.getId()), eventIds);
    const first = timeline.getEvents()[0];
    assert.equal(first.getType(), "m.room.create");
    device.stop();
  });

  test("what is sent while paging is neither lost nor doubled", async () => {
    const device = await bob.login();
    await device.start({ initialSyncLimit: 5 });
    const room = await device.room(roomId);
    const live = [];
    for (let n = 0; n < 6; n += 1) {
      const [eventId] = await Promise.all([
        alice.say(roomId, `live ${n}`),
        device.client.scrollback(room, 100),
      ]);
      live.push(eventId);
    }
    await device.event(roomId, live.at(-1));
    const bodies = device.bodies(roomId);
    assert.deepEqual(bodies, [...numbers(0, MESSAGES), ...numbers(0, 6).map((body) => body.replace("message", "live"))]);
    device.stop();
  });

  test("a jump to an old message opens a window around it that grows both ways", async () => {
    const device = await bob.login();
    await device.start({ initialSyncLimit: 3 });
    const room = await device.room(roomId);
    const timeline = await device.client.getEventTimeline(room.getUnfilteredTimelineSet(), eventIds[200]);
    const bodies = () =>
      timeline
        .getEvents()
        .filter((event) => event.getType() === "m.room.message")
        .map((event) => event.getContent().body);
    assert.ok(bodies().includes("message 200"));
    for (let n = 0; n < 3; n += 1) {
      await device.client.paginateEventTimeline(timeline, { backwards: true, limit: 20 });
      await device.client.paginateEventTimeline(timeline, { backwards: false, limit: 20 });
    }
    const window = bodies();
    const start = Number(window[0].split(" ")[1]);
    assert.deepEqual(window, numbers(start, start + window.length));
    assert.ok(start <= 200 - 60 && start + window.length > 200 + 60, `${start}, ${window.length}`);
    assert.equal(timeline.getState(sdk.EventTimeline.FORWARDS).getStateEvents("m.room.create", "").getSender(), alice.userId);
    device.stop();
  });

  test("paging forwards from the beginning meets the newest message", async () => {
    const bodies = [];
    let from;
    for (let pages = 0; pages < 40; pages += 1) {
      const page = await bob.client.http.authedRequest("GET", `/rooms/${encodeURIComponent(roomId)}/messages`, {
        dir: "f",
        limit: 100,
        ...(from ? { from } : {}),
      });
      bodies.push(...page.chunk.filter((event) => event.type === "m.room.message").map((event) => event.content.body));
      if (!page.end) break;
      from = page.end;
    }
    assert.deepEqual(bodies.slice(0, MESSAGES), numbers(0, MESSAGES));
  });

  test("a client that was away comes back to a gap and can fill it", async () => {
    const device = await bob.login();
    await device.start({ initialSyncLimit: 5 });
    const room = await device.room(roomId);
    const release = device.holdSyncs();
    // The poll that is already waiting brings the first; the others come all at once with the next.
    for (let n = 0; n < 60; n += 1) await alice.say(roomId, `while away ${n}`);
    let gaps = 0;
    room.on(sdk.RoomEvent.TimelineReset, () => (gaps += 1));
    release();
    await device.until("the newest", () => device.bodies(roomId).at(-1) === "while away 59");
    assert.equal(gaps > 0, true, "the timeline was limited");

    const window = new sdk.TimelineWindow(device.client, room.getUnfilteredTimelineSet(), { windowLimit: 10_000 });
    await window.load();
    for (let pages = 0; await window.paginate(sdk.Direction.Backward, 100); pages += 1) {
      assert.ok(pages < 40, "paging comes to an end");
    }
    const bodies = window
      .getEvents()
      .filter((event) => event.getType() === "m.room.message")
      .map((event) => event.getContent().body);
    assert.deepEqual(bodies.slice(0, MESSAGES), numbers(0, MESSAGES));
    assert.deepEqual(bodies.slice(-60), numbers(0, 60).map((body) => body.replace("message", "while away")));
    assert.equal(new Set(bodies).size, bodies.length);
    device.stop();
  });
});
