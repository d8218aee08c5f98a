"""A virtual machine moved to another datacenter, running or halted."""

import asyncio

from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.bandwidth import enforce
from api.operations.engine import workflow
from api.operations.migration import arrival, copying, elsewhere, plan
from api.operations.migration.plan import Copy, Move
from api.operations.observer import settle, state_of
from api.operations.run import OperationFailed, Run
from api.store.models import Vm, now
from hypervisor.domain import mirror
from hypervisor.domain.mirror import MachineStopped
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable

# in seconds, before another attempt at a switch of which a part has come about
_PAUSE = 5.0


@workflow("hosting_migration_vm")
async def migrate(run: Run, vm_id: int, datacenter_id: int) -> None:
    """Copy the disks and keep them in step; when the move is to be finished, switch to the copies, let the
    interfaces follow, and delete the sources."""
    backend = run.backend
    async with run.operation("hosting_migration_vm") as outcome:
        move = await run.step(depart, backend, vm_id, datacenter_id)
        far = plan.is_far(backend, move)
        async with run.undone_by(stay, backend, vm_id, move):
            await (elsewhere.carry if far else carry)(run, vm_id, move)
            await run.insist(arrive, backend, vm_id, move)
            await run.insist(arrival.settle_in, backend, vm_id)
            if far:
                # its taps are other ones
                await run.step(enforce, backend, vm_id)
            deaf = await run.insist(arrival.renew, backend, vm_id)
            await run.note(without_new_addresses=deaf or None)
            await run.insist(leave, backend, vm_id, move)
            state = await run.insist(state_of, backend, vm_id)
            outcome.records(lambda session: arrived(session, vm_id, state))
    await run.step(settle, backend, vm_id)


async def carry(run: Run, vm_id: int, move: Move) -> None:
    """The copy in both its phases, and the switch.

    When the machine stops or is started meanwhile, its disks are copied anew, as it needs them then. Once a
    disk has moved there is no way back: what fails then is repeated.
    """
    backend = run.backend
    while True:
        on = await run.step(copying.powered, backend, vm_id)
        try:
            remaining = await run.step(lay_out, backend, vm_id, move)
            await run.wait(
                copying.copied, run, move, [copy for copy in remaining if not (on and copy.plugged)]
            )
            if on:
                await run.wait(copying.in_step, run, vm_id, move)
            else:
                await run.wait(copying.at_rest, run, vm_id)
            await run.step(arrival.book, backend, move)
        except MachineStopped:
            continue
        except (HypervisorError, OperationFailed):
            if not await run.insist(has_moved, backend, vm_id, move):
                raise
            await run.wait(asyncio.sleep, _PAUSE)
            continue
        await run.note(inner_step=copying.FINALIZING)
        obstacle = await run.insist(switch, backend, vm_id, move, on)
        if obstacle is None:
            return
        if obstacle and not await run.insist(has_moved, backend, vm_id, move):
            raise OperationFailed(obstacle)


def depart(backend: Backend, vm_id: int, datacenter_id: int) -> Move:
    """Name the copies, and show the VM and its disks as on their way; raises `OperationFailed` when there is
    no room for them, or when the VM has been locked."""
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        _check_unlocked(vm)
        move = plan.of(session, vm.disks, vm.ifaces, datacenter_id, vm)
    # libvirt is asked before the records are locked: whoever writes would wait for it
    plan.check_room(backend, move)
    with backend.store.writing() as session:
        vm = session.get_one(Vm, vm_id)
        _check_unlocked(vm)
        vm.state, vm.is_migrating = "being_migrated", True
        plan.show_disks(session, move, "being_migrated")
    return move


def _check_unlocked(vm: Vm) -> None:
    if vm.state == "locked":
        raise OperationFailed(f"vm#{vm.id} was locked meanwhile: migrate it when it is unlocked")


def lay_out(backend: Backend, vm_id: int, move: Move) -> list[Copy]:
    """Make the volumes of the copies that are not the VM's disks yet; returns those copies."""
    used = moved(backend, vm_id, move)
    remaining = [copy for copy in move.copies if copy not in used]
    _end_mirrors(backend, vm_id, move)
    plan.make_volumes(backend, move, remaining)
    return remaining


def switch(backend: Backend, vm_id: int, move: Move, on: bool) -> str | None:
    """Let the running machine use the copies; returns None when it does, else what stood in the way.

    That is nothing to speak of (an empty text) when the machine has been stopped or started since it was
    looked at: its disks have to be copied anew. A halted one uses the copies once it is defined so.
    """
    if not on:
        return "" if copying.powered(backend, vm_id) else None
    try:
        mirror.switch(*backend.machine(vm_id), plan.mirrors(backend, move))
    except MachineStopped:
        return ""
    except Unavailable:
        # nobody knows what came about: to be repeated
        raise
    except HypervisorError as error:
        return str(error)
    return None


def moved(backend: Backend, vm_id: int, move: Move) -> list[Copy]:
    """The copies of what the VM no longer uses: now, or at its next start when it is off."""
    used = mirror.places(*backend.machine(vm_id))
    paths = {defined if live is None else live for live, defined in used.values()}
    return [copy for copy in move.plugged if paths and plan.source_of(backend, move, copy) not in paths]


def has_moved(backend: Backend, vm_id: int, move: Move) -> bool:
    """Whether the VM uses any of the copies."""
    return bool(moved(backend, vm_id, move))


def arrive(backend: Backend, vm_id: int, move: Move) -> None:
    """Record that everything is in the other datacenter."""
    with backend.store.writing() as session:
        session.get_one(Vm, vm_id).datacenter_id = move.to_id
        arrival.follow(session, move)


def leave(backend: Backend, vm_id: int, move: Move) -> None:
    """Give the old addresses back; delete the sources once nothing uses them, now or at the next start."""
    if not plan.is_far(backend, move):
        _check_unused(backend, vm_id, move)
    arrival.give_back(backend, move, move.from_id)
    plan.discard_sources(backend, move)


def _check_unused(backend: Backend, vm_id: int, move: Move) -> None:
    used = {path for both in mirror.places(*backend.machine(vm_id)).values() for path in both}
    for copy in move.plugged:
        path = plan.source_of(backend, move, copy)
        if path in used:
            raise OperationFailed(f"vm#{vm_id} still uses {path}: stop it, so that it lets go of it")


def arrived(session: Session, vm_id: int, state: str) -> None:
    """Record the VM as one that does not move any more."""
    vm = session.get_one(Vm, vm_id)
    vm.is_migrating, vm.state, vm.date_updated = False, state, now()


def stay(backend: Backend, vm_id: int, move: Move) -> None:
    """Leave everything as it was before the move; what cannot be taken back is logged."""
    if plan.is_far(backend, move):
        elsewhere.call_back(backend, vm_id, move)
    else:
        plan.attempt(_end_mirrors, backend, vm_id, move)
    state = state_of(backend, vm_id)
    plan.attempt(arrival.unbook, backend, move)
    plan.discard_copies(backend, move)
    with backend.store.writing() as session:
        arrived(session, vm_id, state)
        plan.show_disks(session, move, "created")


def _end_mirrors(backend: Backend, vm_id: int, move: Move) -> None:
    mirror.abandon(*backend.machine(vm_id), plan.mirrors(backend, move))
