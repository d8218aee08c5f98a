"""The service that is measured: the real one, in a state folder of its own, on this lab's libvirt."""

import http.client
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from api.settings import Settings
from api.wire.server import open_listener

KEY = "bench0bench0bench0bench0"
_START = 60.0
_LOOK = 0.01


class Client:
    """Calls over one kept connection, so that what is timed is the server."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, method: str, *arguments: Any) -> Any:
        """The answer of `method`; raises `xmlrpc.client.Fault`."""
        return self.timed(method, *arguments)[0]

    def timed(self, method: str, *arguments: Any) -> tuple[Any, float]:
        """The answer, and the seconds from the request's first byte to the answer's last."""
        body = xmlrpc.client.dumps((KEY, *arguments), method, allow_none=True).encode()
        begun = time.perf_counter()
        self._http.request("POST", "/xmlrpc/", body, {"Content-Type": "text/xml"})
        answer = self._http.getresponse().read()
        elapsed = time.perf_counter() - begun
        return xmlrpc.client.loads(answer, use_builtin_types=True)[0][0], elapsed

    def finish(self, operation: Any) -> None:
        """Wait until the operation is done."""
        while (found := self.call("operation.info", operation["id"]))["step"] in ("BILL", "WAIT", "RUN"):
            time.sleep(_LOOK)
        if found["step"] != "DONE":
            raise RuntimeError(f"{found['type']}: {found['last_error']}")


@contextmanager
def running() -> Iterator[tuple[Client, subprocess.Popen[bytes], Path]]:
    """A client, the service's process and its state folder."""
    image = Settings().images / "tiny.qcow2"
    if not image.exists():
        raise SystemExit(f"there is no image at {image}: run `make bench`, which builds it")
    with (
        TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder,
        open_listener("127.0.0.1:0") as listener,
    ):
        state = Path(folder)
        (state / "images").mkdir()
        (state / "images" / "tiny.qcow2").symlink_to(image.resolve())
        variables = {
            "HYPERVISOR_STATE": folder,
            "HYPERVISOR_API_KEY": KEY,
            "HYPERVISOR_LISTEN": f"fd://{listener.fileno()}",
            "HYPERVISOR_CONSOLE_LISTEN": "127.0.0.1:0",
        }
        with (state / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve", "--libvirt", "system"],
                env={**os.environ, **variables},
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
        try:
            yield _ready(listener.getsockname()[1], process, state), process, state
        finally:
            process.terminate()
            process.wait()


def _ready(port: int, process: subprocess.Popen[bytes], state: Path) -> Client:
    # the socket listens already: the first answer comes when the service has started
    client = Client(port)
    try:
        client.call("version.info")
    except OSError:
        process.kill()
        raise SystemExit(f"the service did not start:\n{(state / 'log').read_text()}") from None
    return client
