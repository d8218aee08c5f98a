"""A virtual machine stopped and rebooted: a message to the guest, patience, then the switch."""

import asyncio
import time
from collections.abc import Callable

from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.observer import observed, settle
from api.operations.run import Run
from api.store.models import Vm
from hypervisor.connection import Handle
from hypervisor.domain import power
from hypervisor.domain.power import State
from hypervisor.errors import HypervisorError
from hypervisor.events import Kind


@workflow("vm_stop")
async def stop(run: Run, vm_id: int) -> None:
    """Halt the guest, or cut it off."""
    async with run.operation("vm_stop") as outcome:
        await halt(run, vm_id)
        outcome.records(lambda session: observed(session, vm_id, "halted"))
    await run.step(settle, run.backend, vm_id)


@workflow("vm_reboot")
async def reboot(run: Run, vm_id: int) -> None:
    """Send a reboot message; when the guest has not rebooted in time, reset the machine."""
    backend = run.backend
    async with run.operation("vm_reboot") as outcome:
        uuid, begun = await run.step(note_time, backend, vm_id)
        if not await run.wait(rebooted, backend, vm_id, uuid, begun):
            await run.step(reset, backend, vm_id)
        outcome.records(lambda session: observed(session, vm_id, "running"))
    await run.step(settle, backend, vm_id)


async def halt(run: Run, vm_id: int) -> None:
    """Send a stop message, send it again, and when the guest has still not halted in time, cut the power."""
    uuid, begun = await run.step(note_time, run.backend, vm_id)
    await run.wait(shut_down, run.backend, vm_id, uuid, begun)
    await run.step(cut_off, run.backend, vm_id)


def note_time(backend: Backend, vm_id: int) -> tuple[str, float]:
    """The domain's UUID and the time at which it is first told: a restart of the service must not begin
    again."""
    with backend.store.reading() as session:
        return session.get_one(Vm, vm_id).uuid, time.time()


async def shut_down(backend: Backend, vm_id: int, uuid: str, begun: float) -> None:
    """Wait for the guest to halt, telling it twice; returns when it has, or when patience ends.

    A guest that was booting at the first time is told again as soon as it is up: it cannot have heard.
    """
    patience = backend.patience
    with backend.events.watching(uuid) as watch:
        for deadline, again in ((begun + patience.stop_again, True), (begun + patience.stop, False)):
            if time.time() < deadline:
                await asyncio.to_thread(_tell, backend, vm_id, power.request_shutdown)
            while (remaining := deadline - time.time()) > 0:
                if not (await asyncio.to_thread(_state, backend, vm_id)).powered:
                    return
                event = await watch.next(remaining)
                if again and event is not None and event.kind is Kind.AGENT_CONNECTED:
                    break


async def rebooted(backend: Backend, vm_id: int, uuid: str, begun: float) -> bool:
    """Wait for the guest to reboot as it was told; False when patience ends or the guest has halted
    instead."""
    deadline = begun + backend.patience.reboot
    with backend.events.watching(uuid) as watch:
        # told again when the service was restarted meanwhile: a second reboot is better than a reset
        await asyncio.to_thread(_tell, backend, vm_id, power.request_reboot)
        while (remaining := deadline - time.time()) > 0:
            # looked at first: a guest that halted before the watch began causes no event any more
            if not (await asyncio.to_thread(_state, backend, vm_id)).powered:
                return False
            event = await watch.next(remaining)
            if event is not None and event.kind is Kind.REBOOT:
                return True
            if event is not None and event.kind is Kind.AGENT_CONNECTED:
                # it was booting, and cannot have heard
                await asyncio.to_thread(_tell, backend, vm_id, power.request_reboot)
    return False


def cut_off(backend: Backend, vm_id: int) -> None:
    """Cut the power, unless the guest has halted."""
    power.cut_off(*backend.machine(vm_id))


def reset(backend: Backend, vm_id: int) -> None:
    """Reset the machine; one that has halted is started."""
    connection, uuid = backend.machine(vm_id)
    if power.state(connection, uuid).powered:
        power.reset(connection, uuid)
    else:
        power.start(connection, uuid)


def _state(backend: Backend, vm_id: int) -> State:
    return power.state(*backend.machine(vm_id))


def _tell(backend: Backend, vm_id: int, message: Callable[[Handle, str], None]) -> None:
    connection, uuid = backend.machine(vm_id)
    try:
        message(connection, uuid)
    except HypervisorError:
        # the guest may have halted just before
        if power.state(connection, uuid).powered:
            raise
