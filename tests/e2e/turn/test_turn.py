"""Relays packets through a real coturn with the credentials that the server gives."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

SECRET = "a secret that is shared"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TURN_PORT = free_port()

# The server is started as for the other suites, from a configuration of its own.
os.environ["E2E_SERVER_COMMAND"] = f"""
cat >"$DATA_DIR.toml" <<END
[[listen]]
address = "127.0.0.1:$PORT"
[[agency]]
server_name = "localhost"
data_dir = "$DATA_DIR"
public_base_url = "http://127.0.0.1:$PORT"
[agency.accounts.registration]
mode = "open"
[agency.clients.calls.turn]
uris = ["turn:127.0.0.1:{TURN_PORT}?transport=udp"]
shared_secret = "{SECRET}"
ttl = "10m"
END
exec "$CHANCERY_BIN" serve --config "$DATA_DIR.toml"
"""
sys.path.insert(0, str(Path(__file__).parent.parent / "nio"))
from server import Server  # noqa: E402


def ask(url, path, token=None, body=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_matrix/client/v3/{path}", data, headers)) as answer:
        return json.load(answer)


class Relay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.folder = tempfile.mkdtemp(prefix="chancery-e2e-turn-")
        with open(os.path.join(cls.folder, "log"), "wb") as log:
            cls.turn = subprocess.Popen(
                [
                    "turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--simple-log",
                    "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={TURN_PORT}",
                    "--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=localhost", "--log-file=stdout",
                    f"--pidfile={cls.folder}/pid", f"--userdb={cls.folder}/users",
                ],
                stdout=log, stderr=log, cwd=cls.folder,
            )
        cls.wait_for_relay()

    @classmethod
    def wait_for_relay(cls):
        """Until it answers a STUN binding request."""
        request = bytes.fromhex("000100002112a442") + os.urandom(12)
        deadline = time.monotonic() + 30
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            while time.monotonic() < deadline:
                try:
                    probe.sendto(request, ("127.0.0.1", TURN_PORT))
                    if probe.recv(1500)[8:20] == request[8:]:
                        return
                except OSError:
                    continue
        raise RuntimeError(Path(cls.folder, "log").read_text(errors="replace")[-2000:])

    @classmethod
    def tearDownClass(cls):
        cls.turn.terminate()
        cls.turn.wait()
        cls.server.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def relayed(self, username, password):
        """What the client of coturn says of packets that it sends to itself through the relay."""
        command = ["turnutils_uclient", "-y", "-n", "3", "-p", str(TURN_PORT), "-u", username, "-w", password]
        done = subprocess.run([*command, "127.0.0.1"], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def credentials(self):
        body = {"username": "alice", "password": "correct horse battery", "auth": {"type": "m.login.dummy"}}
        token = ask(self.server.url, "register", body=body)["access_token"]
        return ask(self.server.url, "voip/turnServer", token)

    def test_packets_are_relayed_for_who_has_credentials_and_for_nobody_else(self):
        told = self.credentials()
        self.assertEqual(told["uris"], [f"turn:127.0.0.1:{TURN_PORT}?transport=udp"])
        self.assertEqual(told["ttl"], 600)
        self.assertIn("Total lost packets 0 ", self.relayed(told["username"], told["password"]))
        self.assertIn("Cannot complete Allocation", self.relayed(told["username"], "guessed"))
        # Nor with the password for another time.
        expiry, user = told["username"].split(":", 1)
        self.assertIn("Cannot complete Allocation", self.relayed(f"{int(expiry) + 1}:{user}", told["password"]))


if __name__ == "__main__":
    if not (shutil.which("turnserver") and shutil.which("turnutils_uclient")):
        print("NOT RUN: the relay for calls: coturn is not installed (apt-get install coturn)", file=sys.stderr)
        print(json.dumps({"passed": 0, "failed": 0}))
        sys.exit(0)
    result = unittest.main(verbosity=2, exit=False).result
    failed = len({str(case) for case, _ in result.failures + result.errors})
    print(json.dumps({"passed": result.testsRun - failed, "failed": failed}))
    sys.exit(0 if result.wasSuccessful() else 1)
