"""Files, as the real server keeps them: in a folder, and in an S3-compatible store (moto, a real process).

    test_media.py        needs CHANCERY_BIN and a python with requirements.txt

CHANCERY_MEDIA_BYTES  how large the large file is; 64 MiB if not set
"""

import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

BINARY = os.environ["CHANCERY_BIN"]
LARGE_BYTES = int(os.environ.get("CHANCERY_MEDIA_BYTES", 64 << 20))
# How much more memory the server may take while a file moves that is larger than this.
MEMORY_BYTES_MAX = 48 << 20
START_S_MAX = 60
BUCKET = "agency-media"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, process):
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise RuntimeError(f"nobody answers at {url}")


class Server:
    """A server whose configuration has this section of files."""

    def __init__(self, media):
        self.dir = tempfile.mkdtemp(prefix="chancery-media-")
        self.port = free_port()
        self.config = os.path.join(self.dir, "chancery.toml")
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(
                f"""
[[listen]]
address = "127.0.0.1:{self.port}"
[[agency]]
server_name = "agency.example"
data_dir = "data"
public_base_url = "http://127.0.0.1:{self.port}"
[agency.accounts.registration]
mode = "open"
[agency.accounts.password]
argon2_memory = "8 MiB"
argon2_passes = 1
[agency.clients.limits]
enabled = false
[agency.media]
upload_bytes_max = "2 GiB"
{media}
"""
            )
        self.launch()
        self.token = self.ask("POST", "/_matrix/client/v3/register", self.registration())["access_token"]

    @staticmethod
    def registration():
        return {"username": "alice", "password": "correct horse", "auth": {"type": "m.login.dummy"}}

    def launch(self):
        with open(os.path.join(self.dir, "server.log"), "ab") as log:
            self.process = subprocess.Popen([BINARY, "serve", "--config", self.config], stdout=log, stderr=log)
        wait_for(f"http://127.0.0.1:{self.port}/_matrix/client/versions", self.process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def memory(self):
        """The most memory that the process has taken."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))

    def ask(self, method, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def upload(self, body, length):
        """Uploads what `body` gives, and answers `server/id`; None if the server did not acknowledge it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
        }
        try:
            connection.request("POST", "/_matrix/media/v3/upload", body, headers)
            answer = connection.getresponse()
            content = json.load(answer)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content}")
        return content["content_uri"].removeprefix("mxc://")

    def download(self, medium, headers=None):
        url = f"http://127.0.0.1:{self.port}/_matrix/client/v1/media/download/{medium}"
        return urllib.request.urlopen(
            urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}", **(headers or {})}), timeout=300
        )


def chunks(total, seed):
    source = random.Random(seed)
    block = source.randbytes(1 << 20)
    for start in range(0, total, len(block)):
        yield start.to_bytes(8, "big") + block[8 : min(len(block), total - start)]


def digest_of(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class Files:
    """What holds wherever the files are."""

    large_bytes = LARGE_BYTES

    def test_a_large_file_moves_with_little_memory(self):
        self.server.upload(b"first", 5)
        before = self.server.memory()
        medium = self.server.upload(chunks(self.large_bytes, 1), self.large_bytes)
        self.assertIsNotNone(medium)
        with self.server.download(medium) as answer:
            self.assertEqual(int(answer.headers["Content-Length"]), self.large_bytes)
            got = digest_of(iter(lambda: answer.read(1 << 20), b""))
        self.assertEqual(got, digest_of(chunks(self.large_bytes, 1)))
        self.assertLess(self.server.memory() - before, MEMORY_BYTES_MAX)
        first = self.large_bytes - 100
        with self.server.download(medium, {"Range": f"bytes={first}-"}) as answer:
            self.assertEqual(answer.status, 206)
            self.assertEqual(answer.headers["Content-Range"], f"bytes {first}-{self.large_bytes - 1}/{self.large_bytes}")
            self.assertEqual(answer.read(), b"".join(chunks(self.large_bytes, 1))[-100:])

    def test_no_acknowledged_file_is_lost_when_the_server_is_killed(self):
        acknowledged = {}
        for round_number in range(3):
            stop = threading.Event()

            def work(worker, round_number=round_number, stop=stop):
                source = random.Random(round_number * 100 + worker)
                while not stop.is_set():
                    content = source.randbytes(source.choice([10, 5_000, 700_000, 3_000_000]))
                    medium = self.server.upload(content, len(content))
                    if medium is None:
                        return
                    acknowledged[medium] = hashlib.sha256(content).hexdigest()

            with concurrent.futures.ThreadPoolExecutor(4) as workers:
                working = [workers.submit(work, worker) for worker in range(4)]
                known = len(acknowledged)
                while len(acknowledged) < known + 30:
                    time.sleep(0.01)
                self.server.kill()
                stop.set()
                for one in working:
                    one.result()
            self.server.launch()
        for medium, digest in acknowledged.items():
            with self.server.download(medium) as answer:
                self.assertEqual(hashlib.sha256(answer.read()).hexdigest(), digest)


class Folder(Files, unittest.TestCase):
    def setUp(self):
        self.server = Server("")
        self.addCleanup(self.server.stop)

    def test_what_was_not_whole_is_gone_after_a_restart(self):
        folder = os.path.join(self.server.dir, "data", "media", "incoming")

        def stuck():
            yield from chunks(3 << 20, 2)
            while not os.listdir(folder):
                time.sleep(0.01)
            self.server.kill()
            yield b"more"

        self.assertIsNone(self.server.upload(stuck(), 10 << 20))
        self.assertEqual(len(os.listdir(folder)), 1)
        self.server.launch()
        self.assertEqual(os.listdir(folder), [])


class S3(Files, unittest.TestCase):
    # Larger than the parts in which it is sent. The store keeps it in memory.
    large_bytes = min(LARGE_BYTES, 64 << 20)

    def setUp(self):
        port = free_port()
        self.store = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(self.store.wait)
        self.addCleanup(self.store.kill)
        self.endpoint = endpoint = f"http://127.0.0.1:{port}"
        wait_for(endpoint, self.store)
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).close()
        self.server = Server(
            f"""
[agency.media.s3]
bucket = "{BUCKET}"
prefix = "agency.example/"
endpoint = "{endpoint}"
access_key_id = "id"
secret_access_key = "secret"
"""
        )
        self.addCleanup(self.server.stop)

    def test_files_are_named_by_their_hash(self):
        content = b"in the bucket"
        for _ in range(2):
            self.assertIsNotNone(self.server.upload(content, len(content)))
        digest = hashlib.sha256(content).hexdigest()
        endpoint = self.endpoint
        # The store looks at who asks, but not at the signature.
        credential = "Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        request = urllib.request.Request(
            f"{endpoint}/{BUCKET}/agency.example/blobs/{digest[:2]}/{digest}",
            headers={"Authorization": f"AWS4-HMAC-SHA256 {credential}"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(answer.read(), content)


if __name__ == "__main__":
    program = unittest.main(verbosity=2, exit=False)
    result = program.result
    failed = len({str(case) for case, _ in result.failures + result.errors})
    print(json.dumps({"passed": result.testsRun - failed, "failed": failed}))
    sys.exit(0 if result.wasSuccessful() else 1)
