"""A homeserver process of a test's own: killed and started again on the same data when a test asks for it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

COMMAND = os.environ.get("E2E_SERVER_COMMAND", 'exec "$CHANCERY_BIN" dev --data-dir "$DATA_DIR" --port "$PORT"')
SERVER_NAME = os.environ.get("E2E_SERVER_NAME", "localhost")
START_S_MAX = 60


class Server:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="chancery-e2e-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.launch()

    def launch(self):
        """Starts the process and waits until it answers."""
        environment = {**os.environ, "DATA_DIR": os.path.join(self.dir, "data"), "PORT": str(self.port)}
        with open(os.path.join(self.dir, "server.log"), "ab") as log:
            self.process = subprocess.Popen(["bash", "-c", COMMAND], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/_matrix/client/versions"):
                    return
            except urllib.error.URLError:
                time.sleep(0.02)
        with open(os.path.join(self.dir, "server.log"), encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"the server does not answer; its log:\n{log.read()[-4000:]}")

    def kill(self):
        """Ends the process with no chance to write anything more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
