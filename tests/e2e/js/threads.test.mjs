import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Person, sdk } from "./person.mjs";
import { Server } from "./server.mjs";

const RELATES = "m.relates_to";

describe("threads, edits and reactions", () => {
  let server;
  let alice;
  let bob;
  let roomId;

  before(async () => {
    server = await Server.start();
    alice = await Person.register(server, "alice", { threadSupport: true });
    bob = await Person.register(server, "bob", { threadSupport: true });
    roomId = await alice.roomWith([bob]);
    await alice.room(roomId);
    await bob.room(roomId);
  });
  after(async () => {
    alice?.stop();
    bob?.stop();
    await server?.stop();
  });

  // Sent past the client's local echoes, which it does not expect to come back before the answer to the request.
  let transactions = 0;
  const reply = async (person, root, body) => {
    transactions += 1;
    const { event_id: eventId } = await person.client.http.authedRequest(
      "PUT",
      `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/reply-${transactions}`,
      undefined,
      {
        msgtype: "m.text",
        body,
        [RELATES]: { rel_type: "m.thread", event_id: root, is_falling_back: true, "m.in_reply_to": { event_id: root } },
      },
    );
    return eventId;
  };

  test("a thread's summary says how many replies there are, which is the last, and whether one took part", async () => {
    const root = await alice.say(roomId, "what about the budget?");
    const replies = [];
    for (let n = 0; n < 5; n += 1) replies.push(await reply(n % 2 ? alice : bob, root, `answer ${n}`));
    await alice.until("the thread", () => alice.client.getRoom(roomId).getThread(root)?.length === 5);
    const seen = await bob.client.fetchRoomEvent(roomId, root);
    const summary = seen.unsigned["m.relations"]["m.thread"];
    assert.equal(summary.count, 5);
    assert.equal(summary.current_user_participated, true);
    assert.equal(summary.latest_event.event_id, replies.at(-1));
    assert.equal(summary.latest_event.content.body, "answer 4");
  });

  test("a device that comes later finds the thread and pages through its replies", async () => {
    const root = await alice.say(roomId, "a long discussion");
    const replies = [];
    for (let n = 0; n < 40; n += 1) replies.push(await reply(bob, root, `point ${n}`));
    const tablet = await alice.login();
    await tablet.start({ threadSupport: true });
    await tablet.room(roomId);
    const found = [];
    let from;
    do {
      const page = await tablet.client.relations(roomId, root, "m.thread", null, { dir: "b", limit: 15, from });
      found.push(...page.events.map((event) => event.getId()));
      from = page.nextBatch;
    } while (from);
    assert.deepEqual(found, replies.toReversed());
    tablet.stop();
  });

  test("the list of threads has the latest first, and those in which one took part", async () => {
    const hers = await alice.say(roomId, "only alice");
    await reply(alice, hers, "talking to myself");
    const his = await bob.say(roomId, "only bob");
    await reply(bob, his, "me too");
    const list = async (person, include) => {
      const page = await person.client.createThreadListMessagesRequest(
        roomId,
        null,
        50,
        sdk.Direction.Backward,
        include,
      );
      // The client turns the page over: the latest comes last.
      return page.chunk.map((event) => event.event_id).toReversed();
    };
    assert.deepEqual((await list(alice, sdk.ThreadFilterType.All)).slice(0, 2), [his, hers]);
    const mine = await list(alice, sdk.ThreadFilterType.My);
    assert.ok(mine.includes(hers));
    assert.ok(!mine.includes(his));
  });

  test("an edit is bundled with the message that it replaces, and only the author's edit counts", async () => {
    const original = await alice.say(roomId, "teh report");
    const edit = (person, body) =>
      person.client.sendMessage(roomId, {
        msgtype: "m.text",
        body: `* ${body}`,
        "m.new_content": { msgtype: "m.text", body },
        [RELATES]: { rel_type: "m.replace", event_id: original },
      });
    const { event_id: hers } = await edit(alice, "the report");
    await edit(bob, "the forgery");
    const fetched = await bob.client.fetchRoomEvent(roomId, original);
    assert.equal(fetched.unsigned["m.relations"]["m.replace"].event_id, hers);
    const tablet = await bob.login();
    await tablet.start();
    const event = await tablet.event(roomId, original);
    await tablet.until("the edited text", () => event.getContent().body === "the report");
    tablet.stop();
  });

  test("a reaction is found among the relations of its message, and a redacted one is not", async () => {
    const target = await alice.say(roomId, "good news");
    const react = (person, key) =>
      person.client.sendEvent(roomId, "m.reaction", {
        [RELATES]: { rel_type: "m.annotation", event_id: target, key },
      });
    const { event_id: thumb } = await react(bob, "👍");
    const { event_id: party } = await react(bob, "🎉");
    const reactions = async () => {
      const page = await alice.client.relations(roomId, target, "m.annotation", "m.reaction");
      return page.events.map((event) => event.getId()).sort();
    };
    assert.deepEqual(await reactions(), [thumb, party].sort());
    await bob.client.redactEvent(roomId, thumb);
    assert.deepEqual(await reactions(), [party]);
    const twice = await react(bob, "🎉").catch((error) => error);
    assert.equal(twice.errcode, "M_DUPLICATE_ANNOTATION");
  });

  test("a receipt in a thread leaves the main timeline unread", async () => {
    const root = await alice.say(roomId, "the main timeline");
    const inThread = await reply(alice, root, "in the thread");
    await bob.until("the reply", () => bob.client.getRoom(roomId).getThread(root)?.length === 1);
    const thread = bob.client.getRoom(roomId).getThread(root);
    await bob.client.sendReceipt(thread.replyToEvent, sdk.ReceiptType.Read, {});
    await alice.until("the threaded receipt", () =>
      alice.client.getRoom(roomId).getThread(root)?.getEventReadUpTo(bob.userId) === inThread,
    );
    assert.notEqual(alice.client.getRoom(roomId).getEventReadUpTo(bob.userId), root);
  });
});
