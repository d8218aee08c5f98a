"""Faults: what a client is told when a call is refused.

A fault code is six decimal digits ``Q OOO CC``: who is at fault (1 the server, 5 the caller), the object
it is about, the cause. The text is ``Error on object : OBJECT_<X> (CAUSE_<Y>) [<free text>]``.
"""

import math
from enum import IntEnum


class Object(IntEnum):
    """What a caller's fault is about (the middle three digits)."""

    UNKNOWN = 0
    INTEGER = 10
    BOOLEAN = 11
    STRING = 12
    DATE = 13
    LIST = 14
    STRUCT = 15
    METHOD = 16
    KEY = 17
    FLOAT = 18
    ACCOUNT = 101
    OPERATION = 102
    HOSTING_ACCOUNT = 300
    VM = 302
    DISK = 304
    IFACE = 317
    IP = 318
    BANDWIDTH = 319
    SNAPSHOT = 324
    IMAGE = 325
    DATACENTER = 327
    VLAN = 377
    SNAPSHOT_PROFILE = 378


class Cause(IntEnum):
    """Why a call was refused (the last two digits)."""

    UNKNOWN = 0
    NO_KERNEL = 1
    CMDLINE_OPT = 2
    TYPE = 10
    SYNTAX = 20
    VALUE = 30
    SIZE = 31
    QUOTA_REACHED = 35
    NAME = 36
    BADPARAMETER = 37
    HOSTNAME = 38
    ATTACHED = 39
    DONTEXIST = 40
    EXIST = 41
    NOTFOUND = 42
    NOTHING_TO_UPDATE = 44
    POSITION = 45
    NO_DISK = 46
    INVALID_PHASE = 47
    NORIGHT = 50
    DATACENTER = 51
    STATE = 60
    PENDING = 67
    RUNNING = 68
    ATTACHED_RUNNING = 69
    INCOMPATIBILITY = 70
    INVALID_STEP = 90
    INVALID = 91
    CANNOT_SHRINK = 95
    IP_VERSION_MISMATCH = 96
    NOT_ATTACHED = 98
    TOOMANY = 99


class Fault(Exception):
    """A refusal in the API's own words.

    `code` is the six-digit number (1 for an unknown method), `text` the whole fault string, `fields` the
    path of the parameter at fault, outermost first, empty when the fault is about no parameter.
    """

    def __init__(self, code: int, text: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.fields = fields


def refuse(subject: Object, cause: Cause, reason: str, *fields: str) -> Fault:
    """A caller's fault about `subject` because of `cause`; raise what it returns."""
    code = 500000 + subject * 100 + cause
    return Fault(code, f"Error on object : OBJECT_{subject.name} (CAUSE_{cause.name}) [{reason}]", fields)


def not_found(subject: Object, identifier: int) -> Fault:
    """The fault for an id that does not exist, or belongs to somebody else: the two must not be told
    apart."""
    return refuse(subject, Cause.NOTFOUND, f"{_KINDS[subject]} '{identifier}' doesn't exist.")


def read_only(method: str) -> Fault:
    """The fault for a read-only key that calls what changes something.

    Not about the account: clients take that for an unknown key.
    """
    return refuse(Object.METHOD, Cause.NORIGHT, f"{method} changes something, and the API key is read-only")


def too_many(seconds: float) -> Fault:
    """The fault for a key that calls too often, and may again in `seconds`."""
    # never less than it is
    reason = f"too many requests with this API key: try again in {math.ceil(seconds * 100) / 100} seconds"
    return refuse(Object.METHOD, Cause.TOOMANY, reason)


def unknown_method(name: str) -> Fault:
    """The one fault outside the six-digit scheme."""
    return Fault(1, f'Method "{name}" is not supported')


INTERNAL = 150000
"""The code of the server's own faults."""


def internal_error() -> Fault:
    """The server's own fault: the reason stays in its log."""
    return Fault(INTERNAL, "Error on object : OBJECT_APPLICATION (CAUSE_UNKNOWN) [Internal Server Error]")


def records_out_of_reach() -> Fault:
    """The server's own fault when its records cannot be read or written: a full disk, most of the time."""
    return Fault(
        INTERNAL,
        "Error on object : OBJECT_APPLICATION (CAUSE_UNKNOWN) [the service cannot use its records, "
        "and nothing was changed: is the disk of its state folder full? Call again when there is space]",
    )


_KINDS = {
    Object.VM: "Vm",
    Object.DISK: "Disk",
    Object.IFACE: "Iface",
    Object.IP: "Ip",
    Object.IMAGE: "Image",
    Object.DATACENTER: "Datacenter",
    Object.VLAN: "Vlan",
    Object.SNAPSHOT: "Snapshot",
    Object.SNAPSHOT_PROFILE: "Snapshot profile",
    Object.OPERATION: "Operation",
    Object.KEY: "SSH key",
}
