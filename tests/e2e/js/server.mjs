// A homeserver process of a test's own: started on a free port with an empty data directory, killed and
// started again on the same data when a test asks for it.
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const COMMAND = process.env.E2E_SERVER_COMMAND ?? 'exec "$CHANCERY_BIN" dev --data-dir "$DATA_DIR" --port "$PORT"';
const START_MS_MAX = 60_000;

export const SERVER_NAME = process.env.E2E_SERVER_NAME ?? "localhost";

async function freePort() {
  const probe = net.createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

export class Server {
  static async start() {
    const server = new Server();
    server.dir = await mkdtemp(path.join(os.tmpdir(), "chancery-e2e-"));
    server.port = await freePort();
    server.url = `http://127.0.0.1:${server.port}`;
    await server.launch();
    return server;
  }

  /** Starts the process and waits until it answers. */
  async launch() {
    const log = openSync(path.join(this.dir, "server.log"), "a");
    this.child = spawn("bash", ["-c", COMMAND], {
      env: { ...process.env, DATA_DIR: path.join(this.dir, "data"), PORT: String(this.port) },
      stdio: ["ignore", log, log],
    });
    this.ended = new Promise((resolve) => this.child.once("exit", resolve));
    const deadline = Date.now() + START_MS_MAX;
    while (Date.now() < deadline && this.child.exitCode === null) {
      const answer = await fetch(`${this.url}/_matrix/client/versions`).catch(() => undefined);
      if (answer?.ok) return;
      await pause(20);
    }
    throw new Error(`the server does not answer; its log:\n${await this.log()}`);
  }

  /** Ends the process with no chance to write anything more. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.ended;
    await rm(this.dir, { recursive: true, force: true });
  }

  async log() {
    return (await readFile(path.join(this.dir, "server.log"), "utf8")).slice(-4000);
  }
}
