"""A client of the API as its users have one: ``xmlrpc.client``, and waiting for operations."""

import http.client
import time
import xmlrpc.client
from collections.abc import Iterable
from typing import Any

from tests.coverage.recorder import RECORDER
from tests.service.waiting import until

Struct = dict[str, Any]

FINISHED = ("DONE", "ERROR", "CANCEL", "SUPPORT")


class _Transport(xmlrpc.client.Transport):
    """Gives up on an answer that does not come."""

    def __init__(self, seconds: float) -> None:
        super().__init__(use_builtin_types=True)
        self._seconds = seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = self._seconds
        return connection


class Client:
    """Calls the API at `url` with `key`. Several threads each want one of their own."""

    def __init__(self, url: str, key: str, seconds: float = 30) -> None:
        self.url = url
        self.key = key
        self._proxy = xmlrpc.client.ServerProxy(
            url, transport=_Transport(seconds), allow_none=True, use_builtin_types=True
        )

    def close(self) -> None:
        """Close the connection."""
        self._proxy("close")()

    def call(self, method: str, *arguments: object) -> Any:
        """The answer of `method`; raises `xmlrpc.client.Fault`."""
        return RECORDER.watched(
            method, arguments, lambda: getattr(self._proxy, method)(self.key, *arguments), self.url
        )

    def refusal(self, method: str, *arguments: object) -> xmlrpc.client.Fault:
        """The fault that `method` answers with; fails when it answers with anything else."""
        try:
            answer = self.call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            return fault
        raise AssertionError(f"{method}{arguments} was not refused but answered {answer!r}")

    # operations

    def operation(self, identifier: int) -> Struct:
        """The operation as it is now."""
        found: Struct = self.call("operation.info", identifier)
        return found

    def finished(self, operations: Struct | list[Struct], seconds: float = 60) -> list[Struct]:
        """The `operations` once all of them have ended, however."""
        listed = operations if isinstance(operations, list) else [operations]
        deadline = time.monotonic() + seconds
        return [self._ended(one["id"], max(deadline - time.monotonic(), 0)) for one in listed]

    def done(self, operations: Struct | list[Struct], seconds: float = 60) -> list[Struct]:
        """The `operations` once all of them are DONE; fails when one ends otherwise."""
        ended = self.finished(operations, seconds)
        bad = [(one["type"], one["step"], one["last_error"]) for one in ended if one["step"] != "DONE"]
        assert not bad, f"operations failed: {bad}"
        return ended

    def _ended(self, identifier: int, seconds: float) -> Struct:
        last: Struct = {}

        def ended() -> bool:
            last.update(self.operation(identifier))
            return last["step"] in FINISHED

        until(ended, seconds, lambda: f"operation {identifier} ended: {last}")
        return last

    def reached(self, operation: Struct, steps: Iterable[str], seconds: float = 30) -> Struct:
        """The operation once it is in one of `steps`."""
        wanted = tuple(steps)
        last: Struct = {}

        def there() -> bool:
            last.update(self.operation(operation["id"]))
            return last["step"] in wanted

        until(there, seconds, lambda: f"operation in {wanted}: {last}")
        return last

    # virtual machines

    def vm(self, identifier: int) -> Struct:
        """What hosting.vm.info says."""
        found: Struct = self.call("hosting.vm.info", identifier)
        return found

    def image(self, label: str = "Tiny", datacenter: int | None = None) -> Struct:
        """The image `label`, in the first datacenter unless another is named."""
        wanted: Struct = {"label": label}
        if datacenter is not None:
            wanted["datacenter_id"] = datacenter
        images: list[Struct] = self.call("hosting.image.list", wanted)
        assert images, f"the service offers no image {label!r}"
        return images[0]

    def create_from(
        self, spec: Struct, disk: Struct | None = None, source: int | None = None
    ) -> list[Struct]:
        """Ask for a VM from the tiny image, or from the disk `source`; the operations.

        Unless `spec` has a ceiling, there is no more memory than asked for: giving the rest back to the host
        takes a guest longer than to boot, under emulation.
        """
        if source is None:
            source = self.image()["disk_id"]
        here = self.call("hosting.disk.info", source)["datacenter_id"]
        memory = spec.get("memory", 256)
        operations: list[Struct] = self.call(
            "hosting.vm.create_from",
            {"datacenter_id": here, "memory": memory, "vm_max_memory": memory, **spec},
            {"datacenter_id": here, **(disk or {})},
            source,
        )
        return operations

    def made(self, spec: Struct, disk: Struct | None = None, source: int | None = None) -> Struct:
        """`create_from`, waited for: what hosting.vm.info says of the new VM."""
        done = self.done(self.create_from(spec, disk, source))
        return self.vm(done[-1]["vm_id"])

    def in_state(self, identifier: int, state: str, seconds: float = 30) -> Struct:
        """The VM once it shows `state`."""
        last: Struct = {}

        def there() -> bool:
            last.update(self.vm(identifier))
            return bool(last["state"] == state)

        until(there, seconds, lambda: f"vm {identifier} {state}: it is {last.get('state')}")
        return last

    def remove(self, identifier: int, seconds: float = 60) -> None:
        """Stop the VM when it runs, and delete it."""
        if self.vm(identifier)["state"] in ("running", "paused"):
            self.done(self.call("hosting.vm.stop", identifier), seconds)
        self.done(self.call("hosting.vm.delete", identifier), seconds)


def address(vm: Struct, version: int = 4) -> str:
    """The VM's first address of that IP version."""
    return next(str(ip["ip"]) for ip in vm["ifaces"][0]["ips"] if ip["version"] == version)


def steady(vm: Struct) -> Struct:
    """What of hosting.vm.info does not change by itself."""
    return {key: value for key, value in vm.items() if key not in ("graph_urls", "probes")}
