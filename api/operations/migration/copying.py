"""The first phase of a move: everything copied, what runs kept in step, until the move is to be finished."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from api.operations.backend import Backend
from api.operations.migration import plan
from api.operations.migration.plan import Copy, Move
from api.operations.run import Run
from api.store.models import Vm
from hypervisor.domain import mirror, power
from hypervisor.domain.mirror import Mirror, Progress
from hypervisor.events import Watch
from hypervisor.libvirt_errors import Unavailable
from hypervisor.storage import carriage, offline, volume

WAIT_SYNC, WAIT_FINALIZE, FINALIZING = "wait_sync", "wait_finalize", "finalize"
"""The steps of a move that its client sees (`inner_step`)."""

SHOWN = 1.0
"""How often what is shown of a copy is renewed, in seconds."""

# how often a complete copy is looked at, in seconds, beside each event of libvirt
_LOOK = 30.0


@dataclass
class Pace:
    """How far a copy is, as it is shown: bytes, percent, bytes a second."""

    begun: float = field(default_factory=time.monotonic)
    first: int | None = None

    def shown(self, copied: int, total: int) -> dict[str, float]:
        """The progress; doubles, because the wire's integers end at 2 GiB."""
        if self.first is None:
            self.first = copied
        elapsed = max(time.monotonic() - self.begun, 0.001)
        return {
            "percent": 100.0 if copied >= total else round(100.0 * copied / total, 1),
            "copied": float(copied),
            "total": float(total),
            "rate": round((copied - self.first) / elapsed, 1),
        }


async def copied(run: Run, move: Move, copies: Sequence[Copy]) -> None:
    """Copy volumes that no running machine has open, one after the other. Raises `Cancelled`."""
    done, total, pace = 0, sum(copy.size for copy in copies) * 2**20, Pace()
    for copy in copies:
        now = 0

        def report(bytes_done: int, _size: int) -> None:
            nonlocal now
            now = bytes_done

        stopped = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(_copy, run.backend, move, copy, report, stopped))
        try:
            while not work.done():
                await run.heed(finalize=False)
                await run.note(inner_step=WAIT_SYNC, progress=pace.shown(done + now, total))
                bell = asyncio.ensure_future(run.bell.wait())
                await asyncio.wait({work, bell}, timeout=SHOWN, return_when=asyncio.FIRST_COMPLETED)
                bell.cancel()
            await work
        finally:
            # whatever ends the wait ends the copy
            stopped.set()
            await asyncio.gather(work, return_exceptions=True)
        done += copy.size * 2**20
    await run.note(progress=pace.shown(total, total))


def _copy(backend: Backend, move: Move, copy: Copy, report: offline.Report, stopped: threading.Event) -> None:
    here, there = backend.handle(move.from_id), backend.handle(move.to_id)
    source = volume.path(here, copy.source_pool, copy.source)
    target = volume.place(there, copy.pool, copy.name)
    if plan.is_far(backend, move):
        carriage.carry(here, source, copy.form, there, target, report, stopped)
    else:
        offline.copy(here, source, copy.form, target, copy.form, report, stopped)


async def in_step(run: Run, vm_id: int, move: Move) -> None:
    """Mirror the running machine's volumes until all are in step and the move is to be finished.

    Raises `Cancelled`, `MachineStopped` and `MirrorLost`. A connection that breaks is waited for: the mirrors
    go on without it.
    """
    backend, pace = run.backend, Pace()
    uuid = await asyncio.to_thread(uuid_of, backend, vm_id)
    with backend.events.watching(uuid) as watch:
        mirrors: list[Mirror] = []
        while True:
            try:
                if not mirrors:
                    mirrors = await asyncio.to_thread(_begin, backend, vm_id, move)
                progress = await asyncio.to_thread(_progress, backend, vm_id, mirrors)
            except Unavailable:
                await run.heed(finalize=False)
                await hear(run, watch, SHOWN)
                continue
            if await run.heed(finalize=progress.ready and backend.migration.finalize) and progress.ready:
                return
            await run.note(
                inner_step=WAIT_FINALIZE if progress.ready else WAIT_SYNC,
                progress=pace.shown(progress.copied, progress.total),
            )
            await hear(run, watch, _LOOK if progress.ready else SHOWN)


async def at_rest(run: Run, vm_id: int) -> None:
    """Wait with complete copies of a halted machine until the move is to be finished, or somebody starts it.

    Raises `Cancelled`.
    """
    backend = run.backend
    uuid = await asyncio.to_thread(uuid_of, backend, vm_id)
    with backend.events.watching(uuid) as watch:
        while not await asyncio.to_thread(powered, backend, vm_id):
            if await run.heed(finalize=backend.migration.finalize):
                return
            await run.note(inner_step=WAIT_FINALIZE)
            await hear(run, watch, _LOOK)


async def hear(run: Run, watch: Watch, patience: float) -> None:
    """Wait for libvirt to report something, for the job to be told something, or for `patience` seconds."""
    waits = {asyncio.ensure_future(watch.next(patience)), asyncio.ensure_future(run.bell.wait())}
    _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for one in left:
        one.cancel()


def powered(backend: Backend, vm_id: int) -> bool:
    """Whether the machine is on."""
    return power.state(*backend.machine(vm_id)).powered


def uuid_of(backend: Backend, vm_id: int) -> str:
    """The UUID of the VM's domain."""
    with backend.store.reading() as session:
        return session.get_one(Vm, vm_id).uuid


def _begin(backend: Backend, vm_id: int, move: Move) -> list[Mirror]:
    mirrors = plan.mirrors(backend, move)
    mirror.begin(*backend.machine(vm_id), mirrors, backend.migration.bandwidth * 2**20)
    return mirrors


def _progress(backend: Backend, vm_id: int, mirrors: Sequence[Mirror]) -> Progress:
    return mirror.progress(*backend.machine(vm_id), mirrors)
