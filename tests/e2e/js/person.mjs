// A person with an account and a matrix-js-sdk client, and ways to wait for what that client sees.
import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";

export { sdk };

// The SDK tells all it does on the console.
if (!process.env.E2E_VERBOSE) for (const level of ["trace", "debug", "info", "warn", "error"]) console[level] = () => {};
const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };

/** How long a client may take to see something. */
const SEEN_MS_MAX = 25_000;

/** What fires when a client learns something. */
const NEWS = [
  sdk.ClientEvent.Sync,
  sdk.ClientEvent.Room,
  sdk.ClientEvent.Event,
  sdk.ClientEvent.AccountData,
  sdk.RoomEvent.Timeline,
  sdk.RoomEvent.MyMembership,
  sdk.RoomEvent.Receipt,
  sdk.RoomEvent.Redaction,
  sdk.RoomEvent.AccountData,
  sdk.RoomEvent.LocalEchoUpdated,
  sdk.RoomMemberEvent.Typing,
  sdk.RoomMemberEvent.Membership,
  sdk.RoomMemberEvent.Name,
  sdk.MatrixEventEvent.Replaced,
];

let devices = 0;

export class Person {
  /** Registers an account and begins to sync with it. */
  static async register(server, name, startOptions) {
    const person = await Person.registerOnly(server, name);
    await person.start(startOptions);
    return person;
  }

  /** Registers an account whose client does not sync. */
  static async registerOnly(server, name) {
    const password = `the password of ${name}`;
    const anonymous = sdk.createClient({ baseUrl: server.url, logger: quiet });
    // A first attempt without authentication tells the flows, as a client finds them out.
    const refusal = await anonymous.registerRequest({ username: name, password }).catch((error) => error);
    assert.equal(refusal.httpStatus, 401);
    assert.ok(
      refusal.data.flows.some((flow) => flow.stages.length === 1 && flow.stages[0] === "m.login.dummy"),
      "registration is open",
    );
    const session = await anonymous.registerRequest({
      username: name,
      password,
      initial_device_display_name: `${name}'s first`,
      auth: { type: "m.login.dummy", session: refusal.data.session },
    });
    return new Person(server, session, password);
  }

  /** The same person on another device. */
  async login() {
    devices += 1;
    const anonymous = sdk.createClient({ baseUrl: this.server.url, logger: quiet });
    const session = await anonymous.loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user: this.userId },
      password: this.password,
      initial_device_display_name: `device ${devices}`,
    });
    return new Person(this.server, session, this.password);
  }

  constructor(server, session, password) {
    this.server = server;
    this.userId = session.user_id;
    this.deviceId = session.device_id;
    this.accessToken = session.access_token;
    this.password = password;
    this.line = Promise.resolve();
    this.client = sdk.createClient({
      baseUrl: server.url,
      userId: session.user_id,
      deviceId: session.device_id,
      accessToken: session.access_token,
      timelineSupport: true,
      fetchFn: async (url, options) => {
        if (String(url).includes("/v3/sync")) await this.line;
        return fetch(url, options);
      },
      logger: quiet,
    });
  }

  async start(options = {}) {
    await this.client.startClient({ initialSyncLimit: 20, pollTimeout: 10_000, ...options });
    await this.until("the first sync", () => this.client.isInitialSyncComplete());
  }

  /** Holds back the next syncs, as a bad line does, until the answered function is called. */
  holdSyncs() {
    const line = Promise.withResolvers();
    this.line = line.promise;
    return line.resolve;
  }

  stop() {
    this.client.stopClient();
  }

  /** Waits until `look()` finds something (not null, undefined, false), looking again at all news. */
  async until(what, look) {
    const found = () => {
      const seen = look();
      return seen === null || seen === undefined || seen === false ? undefined : { seen };
    };
    const already = found();
    if (already) return already.seen;
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        for (const name of NEWS) this.client.off(name, check);
      };
      const check = () => {
        try {
          const now = found();
          if (!now) return;
          stop();
          resolve(now.seen);
        } catch (error) {
          stop();
          reject(error);
        }
      };
      const timer = setTimeout(() => {
        stop();
        reject(new Error(`${this.userId} did not see ${what} (sync state ${this.client.getSyncState()})`));
      }, SEEN_MS_MAX);
      for (const name of NEWS) this.client.on(name, check);
    });
  }

  /** Waits for the room to be known with this membership of one's own. */
  room(roomId, membership = "join") {
    return this.until(`${membership} in ${roomId}`, () => {
      const room = this.client.getRoom(roomId);
      return room?.getMyMembership() === membership ? room : undefined;
    });
  }

  /** Waits for an event of the live timeline, and for the server to have sent it back if it is one's own. */
  event(roomId, eventId) {
    return this.until(`${eventId} in ${roomId}`, () => this.findEvent(roomId, eventId));
  }

  findEvent(roomId, eventId) {
    const event = this.client.getRoom(roomId)?.findEventById(eventId);
    return event && !event.status ? event : undefined;
  }

  /** The bodies of the messages in the live timeline. */
  bodies(roomId) {
    return this.messages(roomId).map((event) => event.getContent().body);
  }

  messages(roomId) {
    return this.client
      .getRoom(roomId)
      .getLiveTimeline()
      .getEvents()
      .filter((event) => event.getType() === "m.room.message");
  }

  async say(roomId, body) {
    const { event_id: eventId } = await this.client.sendMessage(roomId, { msgtype: "m.text", body });
    return eventId;
  }

  /** Creates a room and brings these people into it through invitations. */
  async roomWith(people, options = {}) {
    const { room_id: roomId } = await this.client.createRoom({
      preset: "private_chat",
      invite: people.map((person) => person.userId),
      ...options,
    });
    for (const person of people) await person.client.joinRoom(roomId);
    return roomId;
  }
}

/** The Matrix error that a call ends with. */
export async function refused(promise, status, errcode) {
  const error = await promise.then(
    (answer) => assert.fail(`answered ${JSON.stringify(answer)} instead of ${errcode}`),
    (reason) => reason,
  );
  assert.equal(error.errcode, errcode, String(error));
  assert.equal(error.httpStatus, status);
  return error;
}
