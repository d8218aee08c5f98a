"""A virtual machine moved to a datacenter on another host: how that differs from a move on one host.

A running one is moved by libvirt, together with its disks; what it does not write to, and a halted one, is
carried. Which host has the machine is asked of both hosts, and nothing is removed before they have answered.
"""

import asyncio
import logging
from dataclasses import replace

from api.operations import blueprint
from api.operations.backend import Backend
from api.operations.hosts import address_of
from api.operations.migration import arrival, copying
from api.operations.migration.copying import uuid_of
from api.operations.migration.plan import Copy, Move
from api.operations.run import OperationFailed, Run
from api.store.models import Datacenter, Vm
from hypervisor.domain import migration, power
from hypervisor.domain.migration import MachineStopped, NotHeld, Place, Transfer
from hypervisor.domain.spec import DomainSpec
from hypervisor.errors import HypervisorError
from hypervisor.storage import volume

log = logging.getLogger(__name__)

# seconds: how slowly the end of a copy is approached, doubled after each that came too early to be held
_APPROACH, _SLOWEST_APPROACH = 4.0, 32.0


async def carry(run: Run, vm_id: int, move: Move) -> None:
    """Both phases of the move. After them a running machine is on the other host, and a halted one is known
    to neither: its definition follows the records.

    When it stops or is started meanwhile, its disks are copied anew. What fails is raised once it is certain
    that the machine is where it was.
    """
    backend, approach = run.backend, _APPROACH
    while True:
        on, carried = await run.step(lay_out, backend, vm_id, move)
        await run.wait(copying.copied, run, move, carried)
        if not on:
            await run.wait(copying.at_rest, run, vm_id)
            await run.step(arrival.book, backend, move)
            await run.note(inner_step=copying.FINALIZING)
            if await run.insist(let_go, backend, vm_id):
                return
            continue
        try:
            await run.wait(sent, run, vm_id, move, approach)
        except (HypervisorError, OperationFailed) as error:
            moved = await run.insist(has_moved, backend, vm_id, move)
            if not moved and isinstance(error, MachineStopped):
                log.warning("vm#%d is copied anew: %s", vm_id, error)
                continue
            if not moved and isinstance(error, NotHeld) and approach < _SLOWEST_APPROACH:
                approach *= 2
                log.warning("vm#%d is copied anew, its end more slowly: %s", vm_id, error)
                continue
            if not moved:
                raise
        return


def lay_out(backend: Backend, vm_id: int, move: Move) -> tuple[bool, list[Copy]]:
    """Whether the machine is on, and what is carried: all but the disks that a running one writes to."""
    on = copying.powered(backend, vm_id)
    with backend.store.reading() as session:
        disks = session.get_one(Vm, vm_id).disks
    written = {disk.id for disk in disks if on and disk.access != "read"}
    return on, [copy for copy in move.copies if not (copy.plugged and copy.disk_id in written)]


def let_go(backend: Backend, vm_id: int) -> bool:
    """Have the host forget the halted machine; False when somebody has started it meanwhile."""
    if copying.powered(backend, vm_id):
        return False
    power.undefine(*backend.machine(vm_id))
    return True


async def sent(run: Run, vm_id: int, move: Move, approach: float) -> None:
    """Have libvirt copy the running machine's disks and keep the copies in step, and send the machine after
    them when the move is to be finished. `approach`: see `hypervisor.domain.migration.begin`.

    May be repeated: what an interrupted attempt left is settled first, and begun anew unless the machine had
    arrived. Raises `Cancelled`, `MachineStopped`, and `HypervisorError`: `has_moved` then tells where it is.
    """
    backend = run.backend
    transfer = await asyncio.to_thread(_begin, backend, vm_id, move, approach)
    if transfer is None:
        return
    try:
        await run.note(inner_step=copying.WAIT_SYNC)
        await _in_step(run, vm_id, transfer)
        await asyncio.to_thread(arrival.book, backend, move)
        await run.note(inner_step=copying.FINALIZING)
        transfer.finalise()
        while not await asyncio.to_thread(transfer.wait, copying.SHOWN):
            pass
    except Exception:
        await asyncio.to_thread(transfer.cancel)
        raise


async def _in_step(run: Run, vm_id: int, transfer: Transfer) -> None:
    backend, pace, shown = run.backend, copying.Pace(), False
    uuid = await asyncio.to_thread(uuid_of, backend, vm_id)
    with backend.events.watching(uuid) as watch:
        while True:
            progress = transfer.progress()
            if await run.heed(finalize=progress.ready and backend.migration.finalize) and progress.ready:
                return
            if progress.total and not (progress.ready and shown):
                await run.note(
                    inner_step=copying.WAIT_FINALIZE if progress.ready else copying.WAIT_SYNC,
                    progress=pace.shown(progress.copied, progress.total),
                )
            shown = progress.ready
            # libvirt has no event for the progress, nor for a host that went away
            await copying.hear(run, watch, copying.SHOWN)


def _begin(backend: Backend, vm_id: int, move: Move, approach: float) -> Transfer | None:
    """Begin anew, with new volumes; None when the machine has arrived already."""
    if has_moved(backend, vm_id, move):
        return None
    here, there = backend.handle(move.from_id), backend.handle(move.to_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        datacenter = session.get_one(Datacenter, move.to_id)
        spec = _on_target(backend, blueprint.domain(backend, session, vm), datacenter, move)
    address = address_of(datacenter, backend.hosts.own)
    if address is None:
        raise OperationFailed(
            f"datacenter {datacenter.dc_code} has no migration_address: put one in the settings"
        )
    written = {disk.alias for disk in spec.disks if not disk.readonly}
    for copy in move.plugged:
        if _alias(copy) in written:
            size = volume.capacity(here, copy.source_pool, copy.source)
            volume.create_empty(there, copy.pool, copy.name, size)
    wanted = migration.Move(spec, address, backend.migration.bandwidth)
    return migration.begin(here, there, wanted, approach)


def _on_target(backend: Backend, spec: DomainSpec, there: Datacenter, move: Move) -> DomainSpec:
    """The domain as it will be over there."""
    connection = backend.handle(there.id)
    paths = {_alias(copy): volume.place(connection, copy.pool, copy.name) for copy in move.plugged}
    return replace(
        spec,
        disks=tuple(replace(disk, path=paths[disk.alias]) for disk in spec.disks),
        interfaces=tuple(replace(one, network=there.network) for one in spec.interfaces),
        labels={**spec.labels, "datacenter": there.dc_code},
    )


def _alias(copy: Copy) -> str:
    return blueprint.SEED_ALIAS if copy.disk_id is None else blueprint.disk_alias(copy.disk_id)


def has_moved(backend: Backend, vm_id: int, move: Move) -> bool:
    """Whether the machine is on the other host, once whatever moved it has ended.

    Raises `Unavailable` when one of the hosts does not answer, and `OperationFailed` when neither has it.
    """
    place = _settled(backend, vm_id, move)
    if place is Place.NOWHERE:
        raise OperationFailed(
            f"neither {backend.hosts.code(move.from_id)} nor {backend.hosts.code(move.to_id)} knows the "
            f"domain vm-{vm_id} any more: both keep its disks; define it where they are right"
        )
    return place is Place.TARGET


def call_back(backend: Backend, vm_id: int, move: Move) -> None:
    """See that the other host knows nothing of the machine; one that neither knows was off.

    Raises `Unavailable` when one of the hosts does not answer.
    """
    if _settled(backend, vm_id, move) is Place.TARGET:
        raise OperationFailed(
            f"vm#{vm_id} runs in {backend.hosts.code(move.to_id)} already, which cannot be taken back"
        )


def _settled(backend: Backend, vm_id: int, move: Move) -> Place:
    here, there = backend.handle(move.from_id), backend.handle(move.to_id)
    return migration.settle(here, there, uuid_of(backend, vm_id))
