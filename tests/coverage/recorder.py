"""Notes what the tests' own clients send and get, for ``hypervisor coverage``.

With TESTS_RECORDING set to a folder, each pytest process leaves what it saw in a file there.
"""

import os
import threading
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from api import methods
from api.coverage.recording import EMPTY, Recording, Seen
from api.coverage.reference import join, reference
from api.methods.faults import INTERNAL, Fault
from api.methods.table import Method, lookup
from tests.coverage.whole import FOLDER

methods.load()

# structs whose keys are somebody's data
_OPAQUE = ("kernel_cmdline", "cmdline", "extras")


class Recorder:
    """What one process saw. Clients of several threads may share it."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._enumerated = reference().enumerated()
        # by the operation that ends a call: the method and what it was given
        self._under_way: dict[tuple[str, int], tuple[str, set[str]]] = {}
        self._lock = threading.Lock()

    def watched(
        self, name: str, arguments: Sequence[Any], call: Callable[[], Any], service: str | None = None
    ) -> Any:
        """The answer of `call`, which calls the method with `arguments` (without the key); noted.

        `service` is the address of a running service. Without one, records were put in place by a test:
        operations are not followed, and states prove nothing.
        """
        method = lookup(name)
        # a dry run accepts nothing
        if method is None or any(isinstance(one, dict) and "--dry-run" in one for one in arguments):
            return call()
        try:
            answer = call()
        except xmlrpc.client.Fault as fault:
            self._refused(method, name, fault.faultCode)
            raise
        except Fault as fault:
            self._refused(method, name, fault.code)
            raise
        self._answered(method, name, arguments, answer, service)
        return answer

    def _seen(self, method: Method, name: str) -> Seen:
        seen = self.recording.setdefault(method.name, Seen())
        seen.names.add(name)
        return seen

    def _refused(self, method: Method, name: str, code: int) -> None:
        # the server's own, as when its disk is full, is no refusal
        if code == INTERNAL:
            return
        with self._lock:
            self._seen(method, name).faults.add(code)

    def _answered(
        self, method: Method, name: str, arguments: Sequence[Any], answer: Any, service: str | None
    ) -> None:
        given = [
            found
            for parameter, argument in zip(method.parameters, arguments, strict=False)
            for found in _walk(argument, parameter.name)
        ]
        with self._lock:
            seen = self._seen(method, name)
            for types, found in ((seen.parameters, given), (seen.answer, list(_walk(answer, "")))):
                for path, value in found:
                    types.setdefault(path, set()).add(wire_type(value))
                if service is not None:
                    self._note_values(seen, found)
            if service is not None:
                self._follow(method.name, {path for path, _ in given}, answer, service)

    def _note_values(self, seen: Seen, found: "list[Found]") -> None:
        for path, value in found:
            # a filter finds what it names, or nothing
            if path.startswith("opts"):
                continue
            known = self._enumerated.get(path.rpartition(".")[2].removesuffix("[]"), set())
            if isinstance(value, str | int) and str(value) in known:
                seen.values.setdefault(path, set()).add(str(value))

    def _follow(self, method: str, given: set[str], answer: Any, service: str) -> None:
        operations = [one for one in _listed(answer) if isinstance(one, dict) and "step" in one]
        if not operations:
            return
        if method.startswith("operation."):
            for one in operations:
                if one["step"] == "DONE" and (key := (service, one["id"])) in self._under_way:
                    name, paths = self._under_way.pop(key)
                    self.recording[name].carried |= paths
        else:
            self._under_way[service, operations[-1]["id"]] = (method, given)


Found = tuple[str, Any]


def _walk(value: Any, path: str) -> Iterator[Found]:
    """Every value in `value` with its path, itself first."""
    yield path, value
    if isinstance(value, dict) and path.rpartition(".")[2] not in _OPAQUE:
        for key, inner in value.items():
            yield from _walk(inner, join(path, key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(inner, f"{path}[]")


def _listed(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def wire_type(value: Any) -> str:
    """The type that XML-RPC has for `value`; strings without a character are told apart."""
    match value:
        case None:
            return "nil"
        case bool():
            return "boolean"
        case int():
            return "int"
        case float():
            return "double"
        case "":
            return EMPTY
        case str():
            return "string"
        case datetime() | xmlrpc.client.DateTime():
            return "dateTime.iso8601"
        case bytes() | xmlrpc.client.Binary():
            return "base64"
        case dict():
            return "struct"
        case _:
            return "array"


RECORDER = Recorder()


def leave() -> None:
    """Write what this process saw into the folder that TESTS_RECORDING names, if it names one."""
    folder = os.environ.get(FOLDER)
    if folder and RECORDER.recording:
        Path(folder, f"{uuid.uuid4()}.json").write_text(RECORDER.recording.dump())
