"""Start a lab around a command, or run a command in a lab that runs already."""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hypervisor.lab import folders, record, signals, syscalls
from hypervisor.lab.daemons import PROGRAMS, search_path
from hypervisor.lab.errors import CommandNotFound, LabError
from hypervisor.lab.init import Plan

# -I: neither the caller's PYTHON* variables nor the current folder decide what PID 1 imports.
_PYTHON = (sys.executable, "-I", "-c")
_PACKAGES = str(Path(__file__).resolve().parents[2])
_BOOT = f"import sys; sys.path.insert(0, {_PACKAGES!r}); from hypervisor.lab import "


def run(
    command: Sequence[str],
    *,
    name: str | None = None,
    state: Path | None = None,
    pass_fds: Sequence[int] = (),
    hostname: str | None = None,
    host_uuid: uuid.UUID | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command in a new lab: namespaces with a libvirt of their own, which end with it.

    Call it from the main thread: the lab dies with the thread that started it.

    Args:
        command: program and arguments; its ``qemu:///system`` is the lab's.
        name: what ``enter`` finds the lab by; None takes the first free of default, default-2, ...
        state: folder for libvirt's data (domains, pools, images), kept between runs; None for a temporary
            one.
        pass_fds: descriptors that the command gets under the same numbers. A socket that listens already
            goes on listening in the caller's network.
        hostname: the lab's host name; ``lab-NAME`` by default.
        host_uuid: libvirt's host UUID; by default a random one, kept in ``state``.
        environment: the command's environment instead of the caller's.

    Returns:
        The command's exit status; 128 + number when a signal ended it.

    Raises:
        LabError: the lab cannot be started; the message says what to do.
    """
    _check_host(command, environment)
    with record.claim(name) as claim, folders.opened(state) as folder, signals.blocked():
        variables = _environment(environment, claim.name)
        hostname = hostname or f"lab-{claim.name}"
        identity = folders.prepare(folder, hostname, host_uuid)
        plan = Plan(command=list(command), pass_fds=list(pass_fds), folder=str(folder), hostname=hostname)
        ours, theirs = socket.socketpair()
        with ours, signals.terminal_returned():
            with theirs:
                child = _start_init(theirs.fileno(), pass_fds, variables)
            try:
                if _ready(ours, plan):
                    claim.publish(
                        record.Lab(
                            name=claim.name,
                            pid=child.pid,
                            started=record.start_time(child.pid) or 0,
                            folder=str(folder),
                            hostname=hostname,
                            host_uuid=str(identity),
                        )
                    )
                    with suppress(ConnectionError):  # killed meanwhile: the wait tells
                        ours.sendall(b"\n")
                status = signals.wait(child)
            finally:
                child.kill()
                child.wait()
        folders.keep_capabilities(folder)
        return status


def enter(
    command: Sequence[str], *, name: str = "default", environment: Mapping[str, str] | None = None
) -> int:
    """Run a command in a lab that was started elsewhere.

    Args:
        command: program and arguments.
        name: the lab's name.
        environment: the command's environment instead of the caller's.

    Returns:
        The command's exit status; 128 + number when a signal ended it.

    Raises:
        LabError: no such lab runs.
    """
    _check_root()
    lab = record.find(name)
    try:
        pidfd = os.pidfd_open(lab.pid)
    except ProcessLookupError:
        raise LabError(f"lab {name!r} has just ended") from None
    try:
        if not lab.alive():  # asked again now that the descriptor pins the process
            raise LabError(f"lab {name!r} has just ended")
        boot = _BOOT + f"join; join.main({pidfd}, sys.argv[1:])"
        with signals.blocked(), signals.terminal_returned():
            with syscalls.children_in_pid_namespace_of(pidfd):
                child = subprocess.Popen(
                    [*_PYTHON, boot, *command], env=_environment(environment, name), pass_fds=[pidfd]
                )
            return signals.wait(child)
    finally:
        os.close(pidfd)


def _check_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root for its namespaces, bridges and taps: run this again with sudo")


def _check_host(command: Sequence[str], environment: Mapping[str, str] | None) -> None:
    _check_root()
    if not command:
        raise LabError("no command given")
    path = (environment or os.environ).get("PATH")
    if shutil.which(command[0], path=path) is None:
        raise CommandNotFound(f"{command[0]}: command not found")
    missing = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if missing:
        raise LabError(f"{' and '.join(missing)} not found: install what vagrant/provision.sh lists")


def _environment(environment: Mapping[str, str] | None, name: str) -> dict[str, str]:
    variables = dict(os.environ if environment is None else environment)
    return variables | {"HYPERVISOR_LAB": name, "LIBVIRT_DEFAULT_URI": "qemu:///system"}


def _start_init(
    control: int, pass_fds: Sequence[int], environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    try:
        with syscalls.children_in_new_pid_namespace():
            return subprocess.Popen(
                [*_PYTHON, _BOOT + f"init; init.main({control})"],
                env=environment,
                pass_fds=[*pass_fds, control],
            )
    except PermissionError as error:
        raise LabError(
            f"no new namespaces here ({error}): root in this container lacks CAP_SYS_ADMIN"
        ) from error


def _ready(control: socket.socket, plan: Plan) -> bool:
    """Send the plan and wait until libvirt answers in the lab; False when a signal ended PID 1 before."""
    with control.makefile("rb") as lines:
        try:
            control.sendall(plan.encode())
            answer = lines.readline()
        except ConnectionError:
            answer = b""
    said = json.loads(answer) if answer else {}
    if "error" in said:
        raise LabError(said["error"])
    return "ready" in said
