"""Who changed what, when, from where, and how it ended: a line of JSON for each call that changes
something, each key that was refused, and each login to a console.

Nothing that may be secret is written. Of what was sent only the ids are, that is what the schema of a
parameter declares to be one; of an answer, the operations and the objects that came of it. A fault's text is
left out when it repeats something that was sent.
"""

import functools
import ipaddress
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from api.methods.faults import INTERNAL, Fault
from api.methods.ids import KIND
from api.methods.quotes import repeats
from api.methods.table import Method
from api.observe import context
from api.store.journal import Journal
from api.store.models import Account, Operation

log = logging.getLogger(__name__)

_CONCERNED = {
    "vm_id": "vm",
    "disk_id": "disk",
    "iface_id": "iface",
    "ip_id": "ip",
    "vlan_id": "vlan",
    "snapshot_id": "snapshot",
}


class Who(Protocol):
    """Whose key a call has."""

    @property
    def account(self) -> Account: ...
    @property
    def key_id(self) -> int | None: ...
    @property
    def label(self) -> str: ...


class Seen(Protocol):
    """A machine whose console is looked at, and with which API key, if with one."""

    @property
    def vm_id(self) -> int: ...
    @property
    def account(self) -> str: ...
    @property
    def key_id(self) -> int | None: ...
    @property
    def label(self) -> str: ...


class Entry:
    """What is known of one call, while it is answered."""

    def __init__(self, method: Method, arguments: Sequence[Any]) -> None:
        self.who: Who | None = None
        self.dry_run = False
        self.operations: list[int] = []
        self._method = method
        self._arguments = arguments
        self._made: list[tuple[str, int]] = []

    def accepted(self, operations: Sequence[Operation]) -> None:
        """The call led to these."""
        for one in operations:
            self.operations.append(one.id)
            columns = {name: getattr(one, name, None) for name in _CONCERNED}
            found = {**one.params, **{name: value for name, value in columns.items() if value is not None}}
            self._made += [(kind, found[name]) for name, kind in _CONCERNED.items() if name in found]

    def answered(self, answer: Any) -> None:
        """The answer; of something that was made without an operation, it tells the id."""
        if not self.operations and isinstance(answer, dict) and isinstance(answer.get("id"), int):
            space = self._method.name.split(".")[-2]
            self._made.append(("key" if space == "ssh" else space, answer["id"]))

    @property
    def counts(self) -> bool:
        """Whether it is worth a line."""
        if self.who is None:
            return self._method.checks_key and self._method.takes_key
        return self._method.changes and not self.dry_run

    def facts(self, fault: Fault | None) -> dict[str, Any]:
        """What the line says of it."""
        who = self.who
        return {
            "account": None if who is None else who.account.handle,
            "key": None if who is None else _key(who),
            "method": self._method.name,
            "ids": _sorted([*_ids(self._method, self._arguments), *([] if fault else self._made)]),
            "operations": [] if fault else self.operations,
            **_result(fault, self._method, self._arguments),
        }


class Audit:
    """Writes the lines to `journal`; without one, none."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal

    @contextmanager
    def call(self, method: Method, arguments: Sequence[Any], remote_address: str) -> Iterator[Entry]:
        """A call with all its `arguments`, while the block answers it."""
        entry = Entry(method, arguments)
        try:
            yield entry
        except Fault as fault:
            self._tell(entry, remote_address, fault)
            raise
        except Exception:
            self._tell(entry, remote_address, Fault(INTERNAL, "Error on object : OBJECT_APPLICATION"))
            raise
        self._tell(entry, remote_address, None)

    def console(self, remote_address: str, address: str, offered: str, vm: Seen | None) -> None:
        """A login to the console of the machine at `address` with what was `offered`, a key's fingerprint or
        ``password``: that of `vm`, or refused."""
        try:
            asked = str(ipaddress.ip_address(address))
        except ValueError:
            asked = None  # people type passwords there
        self._write(
            {
                "event": "console",
                "from": remote_address,
                "account": None if vm is None else vm.account,
                "key": None if vm is None else _key(vm),
                "offered": offered,
                "address": asked,
                "ids": {} if vm is None else {"vm": [vm.vm_id]},
                "result": "refused" if vm is None else "ok",
            }
        )

    def _tell(self, entry: Entry, remote_address: str, fault: Fault | None) -> None:
        if self._journal is not None and entry.counts:
            self._write({"event": "call", "from": remote_address, **entry.facts(fault)})

    def _write(self, facts: dict[str, Any]) -> None:
        if self._journal is None:
            return
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # the log lines of a request carry the same; a login to a console is none
        request = context.facts().get("request") or secrets.token_hex(4)
        line = json.dumps({"time": moment, "request": request, **facts})
        try:
            self._journal.append(line)
        except OSError as error:
            # what was done is done: the line is not lost as long as this log can be written
            log.error("the audit log cannot be written (%s): %s", error, line)  # noqa: TRY400


def _key(whose: Who | Seen) -> dict[str, Any] | None:
    return None if whose.key_id is None else {"id": whose.key_id, "label": whose.label}


def _result(fault: Fault | None, method: Method, arguments: Sequence[Any]) -> dict[str, Any]:
    if fault is None:
        return {"result": "ok"}
    text = fault.text
    strange = [name for name in _names(list(arguments)) if name not in _known(method)]
    if repeats(text, [list(arguments), strange]):
        text = f"{text.partition('[')[0]}[left out: it repeats what was sent]"
    return {"result": "fault", "code": fault.code, "fault": text}


def _ids(method: Method, arguments: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """The ids in `arguments`, each with its kind."""
    given = arguments[1:] if method.takes_key else arguments
    for (schema, definitions), value in zip(_schemas(method), given, strict=False):
        yield from _declared(schema, definitions, value)


def _declared(schema: dict[str, Any], definitions: dict[str, Any], value: Any) -> Iterator[tuple[str, int]]:
    for choice in schema.get("anyOf", ()):
        yield from _declared(choice, definitions, value)
    if "$ref" in schema:
        yield from _declared(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions, value)
    if KIND in schema and isinstance(value, int) and not isinstance(value, bool):
        yield schema[KIND], value
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from _declared(inner, definitions, value[name])
    if "items" in schema:
        for item in value if isinstance(value, list) else [value]:
            yield from _declared(schema["items"], definitions, item)


@functools.cache
def _schemas(method: Method) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found = [one.adapter.json_schema(by_alias=True) for one in method.parameters]
    return [(schema, schema.get("$defs", {})) for schema in found]


@functools.cache
def _known(method: Method) -> frozenset[str]:
    """The names of members that the method's parameters have."""
    structs = [one for schema, defs in _schemas(method) for one in (schema, *defs.values())]
    return frozenset(name for one in structs for name in one.get("properties", ()))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _names(item)


def _sorted(ids: list[tuple[str, int]]) -> dict[str, list[int]]:
    return {kind: sorted({number for known, number in ids if known == kind}) for kind in sorted(dict(ids))}
