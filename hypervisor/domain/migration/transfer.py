"""One move while it runs: libvirt's call in one thread, and one that steers the mirrors."""

import logging
import threading
import time

import libvirt

from hypervisor.connection import open_apart
from hypervisor.domain import power
from hypervisor.domain.migration import mirrors as qemu
from hypervisor.domain.migration.check import check, uri
from hypervisor.domain.migration.mirrors import Mirror
from hypervisor.domain.migration.move import (
    MachineStopped,
    MigrationFailed,
    Move,
    NotHeld,
    Progress,
)
from hypervisor.domain.migration.xml import on_target
from hypervisor.domain.power import State
from hypervisor.domain.xml import render
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable, explained

log = logging.getLogger(__name__)

_MIB = 2**20
_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_NON_SHARED_DISK
    # what the guest writes goes to both: the copy stays in step also while its mirror stands still
    | libvirt.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    # a guest that changes its memory faster than it travels is slowed
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
)
_KEEPALIVE = (5, 3)  # seconds, and how often, before a silent libvirtd counts as gone
_SLOW = 1  # MiB/s until every mirror has begun: none may be ready before it can be paused
_HOLD = 4 * _MIB  # what is left of a mirror when it is paused
_NO_LIMIT = 2**43 - 1  # MiB/s, the most that libvirt takes
# how often is looked, in seconds
_FIRST_LOOK, _LOOK, _HELD_LOOK = 0.02, 0.2, 1.0
_GONE = 5.0  # seconds that libvirt has to end the move of a machine that is off


def begin(
    source: libvirt.virConnect, target: libvirt.virConnect, move: Move, approach: float = 4.0
) -> "Transfer":
    """Begin to copy the domain's disks to the target; returns at once.

    The rest of the last disk would take `approach` seconds at any time: time to hold it before its end.
    Raises what `check` raises when it cannot work; nothing has been touched then.
    """
    check(source, target, move)
    domain = power.lookup(source, move.uuid)
    with explained(f"description of domain {domain.name()}"):
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
    running = on_target(xml, move.target_spec)
    transfer = Transfer(source.getURI(), target.getURI(), move, running, approach)
    transfer.start()
    return transfer


def _connected(uri: str) -> libvirt.virConnect:
    connection = open_apart(uri)
    with explained(f"connection to libvirt at {uri}"):
        connection.setKeepAlive(*_KEEPALIVE)
    return connection


class Transfer:
    """A move that runs, until it has ended or its process ends; `settle` is for what comes after."""

    def __init__(self, source: str, target: str, move: Move, running: str, approach: float) -> None:
        # of its own, because libvirtd serves five calls at a time for each connection, and this one lasts
        self._source, self._target = _connected(source), _connected(target)
        self._move = move
        self._domain = power.lookup(self._source, move.uuid)
        # beside a call that lasts, libvirt's client may leave another's answer lying for seconds
        self._steering = _connected(source)
        self._steered = power.lookup(self._steering, move.uuid)
        self._running = running
        self._approach = approach
        self._progress = Progress()
        self._holder: str | None = None
        self._finalise, self._wake, self._ended = (threading.Event() for _ in range(3))
        self._given_up: MigrationFailed | None = None  # why
        self._off_since: float | None = None
        self._ending = threading.Lock()
        self._failure: MigrationFailed | None = None
        name = f"move {move.target_spec.name}"
        self._mover = threading.Thread(target=self._run, name=name, daemon=True)
        self._steerer = threading.Thread(target=self._steer, name=f"{name} steering", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._mover.start()
        self._steerer.start()

    def progress(self) -> Progress:
        """How far it is; raises `MachineStopped` or `MigrationFailed` once it has failed."""
        if self._failure is not None:
            raise self._failure
        return self._progress

    def finalise(self) -> None:
        """Let it switch over as soon as the copies are in step; returns at once, `wait` for the end."""
        self._finalise.set()
        self._wake.set()

    def cancel(self) -> None:
        """Give it up, and wait for the end; the guest runs on where it is, and the copies are to be removed.

        May come too late: `wait` tells, by not raising.
        """
        self._give_up(MigrationFailed("the move was cancelled"))
        self._wake.set()
        self._ended.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it has ended, the domain being on the target; waits up to `timeout` seconds for that.

        Raises `MachineStopped` or `MigrationFailed`.
        """
        ended = self._ended.wait(timeout)
        if self._failure is not None:
            raise self._failure
        return ended

    def _run(self) -> None:
        where = uri(self._move.address)
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_URI: where,
            libvirt.VIR_MIGRATE_PARAM_DISKS_URI: where,
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: self._running,
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: render(self._move.target_spec),
            libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: self._move.copied,
            libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: _SLOW,
        }
        failure: MigrationFailed | None = MigrationFailed(
            "an error of this program, see its log, ended the move"
        )
        try:
            with explained(f"move of domain {self._move.target_spec.name}"):
                self._domain.migrate3(self._target, parameters, _FLAGS)
            failure = None
        except HypervisorError as error:
            failure = self._understood(error)
        finally:
            self._end(failure)

    def _end(self, failure: MigrationFailed | None) -> None:
        with self._ending:
            if not self._ended.is_set():
                self._failure = failure
                self._ended.set()
        self._wake.set()

    def _understood(self, error: HypervisorError) -> MigrationFailed:
        try:
            if power.state(self._steering, self._move.uuid) in (State.OFF, State.ABSENT):
                return MachineStopped(
                    f"the machine stopped while it was moved: start it, then repeat ({error})"
                )
        except HypervisorError as unknown:
            log.info("move of domain %s: %s", self._move.uuid, unknown)
        if self._given_up is not None:
            return self._given_up
        if isinstance(error, Unavailable):
            return MigrationFailed(f"{error} See that both hosts' libvirtd run, then repeat")
        return MigrationFailed(
            f"{error}. See that the target's pool has space and that the source reaches TCP ports "
            f"49152-49215 of {self._move.address}, then repeat"
        )

    def _steer(self) -> None:
        pause = _FIRST_LOOK
        while not self._ended.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                self._look_for_its_end()
                pause = self._look()
            except HypervisorError as error:
                pause = _LOOK
                # the last look finds no domain, or a broken connection
                if not self._ended.wait(_LOOK):
                    log.info("move of domain %s: %s", self._move.uuid, error)

    def _look_for_its_end(self) -> None:
        """libvirt 9.0 may wait for ever for the mirrors of a machine that is off: not we."""
        if power.state(self._steering, self._move.uuid) is not State.OFF:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = time.monotonic()
        elif time.monotonic() - self._off_since > _GONE:
            self._end(
                MachineStopped(
                    "the machine stopped while it was moved, and libvirt does not end the move: restart the "
                    "source's libvirtd (its machines run on) before you start this one, then repeat"
                )
            )

    def _look(self) -> float:
        """Do what is to be done now; gives the seconds until the next look."""
        if not self._target.isAlive():
            self._give_up(MigrationFailed("the target's libvirtd went away: see that it runs, then repeat"))
        if self._given_up is not None:
            with explained(f"end of the move of domain {self._move.uuid}"):
                self._steered.abortJob()
            return _LOOK
        found = qemu.mirrors(self._steered)
        if self._holder is None and len(found) < len(self._move.copied):
            return _FIRST_LOOK
        if self._holder is None:
            self._holder = max(found, key=lambda mirror: mirror.left).name
        holder = next((mirror for mirror in found if mirror.name == self._holder), None)
        others = [mirror for mirror in found if mirror.name != self._holder]
        if holder is None:
            return _LOOK  # libvirt ends the mirrors
        ready = holder.paused and not holder.ready and all(mirror.ready for mirror in others)
        copied, total = sum(one.copied for one in found), sum(one.total for one in found)
        self._progress = Progress(copied, total, ready)
        if self._finalise.is_set():
            self._let_go(found)
            return _LOOK
        most = self._move.bandwidth * _MIB
        for mirror in others:
            qemu.limit(self._steered, mirror, most)
        self._hold(holder, most)
        return _HELD_LOOK if ready else _LOOK

    def _hold(self, holder: Mirror, most: int) -> None:
        """Let the mirror run, ever slower, and pause it before its end."""
        if holder.ready:
            # the memory travels too slowly yet to have switched over
            self._give_up(NotHeld("the copy was complete before it could be held, as on a busy host: repeat"))
            self._wake.set()
        elif holder.paused:
            pass
        elif holder.left <= _HOLD:
            qemu.pause(self._steered, holder)
            self._wake.set()
        else:
            slow = max(int(holder.left / self._approach), _HOLD // int(self._approach))
            qemu.limit(self._steered, holder, min(slow, most) if most else slow)

    def _let_go(self, found: list[Mirror]) -> None:
        # without limits: what is left must not make the guest's pause longer
        for mirror in found:
            qemu.limit(self._steered, mirror, 0)
        with explained(f"speed of the move of domain {self._move.uuid}"):
            self._steered.migrateSetMaxSpeed(_NO_LIMIT)
        for mirror in found:
            if mirror.paused:
                qemu.resume(self._steered, mirror)

    def _give_up(self, why: MigrationFailed) -> None:
        self._given_up = self._given_up or why
