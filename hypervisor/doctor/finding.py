"""What was found, and how commands that mend it are spelled."""

import os
import shlex
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about `subject`, and the command that mends it; empty when nothing needs mending, or when
    no command can."""

    level: Level
    subject: str
    text: str
    mend: str = ""


def ok(subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, mend: str = "") -> Finding:
    """It works, but not well, or could not be looked at."""
    return Finding(Level.WARNING, subject, text, mend)


def problem(subject: str, text: str, mend: str = "") -> Finding:
    """It does not work."""
    return Finding(Level.PROBLEM, subject, text, mend)


def command(*words: object) -> str:
    """The words as a shell takes them, to be run where libvirt is: in its lab when this is one."""
    line = shlex.join(str(word) for word in words)
    lab = os.environ.get("HYPERVISOR_LAB")
    return line if lab is None else f"hypervisor lab enter --name {shlex.quote(lab)} -- {line}"


def virsh(uri: str, *words: object) -> str:
    """A command of virsh for the libvirt at `uri`."""
    return command("virsh", "-c", uri, *words)
