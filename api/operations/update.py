"""A virtual machine changed: memory, cores, password."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations import blueprint
from api.operations.backend import Backend
from api.operations.create import build
from api.operations.engine import workflow
from api.operations.observer import observed, settle
from api.operations.power import halt
from api.operations.run import Run
from api.store.models import Operation, Vm
from hypervisor.domain import power, resources
from hypervisor.domain.power import State


@workflow("vm_update")
async def update(run: Run, vm_id: int, changes: dict[str, Any], password_hash: str | None) -> None:
    """Record the `changes` and bring the domain in line: live as far as it goes, the rest at its next start.

    When the ceiling of its memory changes, a running guest is stopped and started: that cannot change live.
    """
    backend = run.backend
    async with run.operation("vm_update") as outcome:
        if await run.step(change, backend, vm_id, changes):
            await halt(run, vm_id)
            if password_hash is not None:
                await run.step(keep_password, backend, vm_id, password_hash)
            state = await run.step(build, backend, vm_id)
            outcome.records(lambda session: observed(session, vm_id, state))
        else:
            notes = await run.step(adapt, backend, vm_id)
            if password_hash is not None and not await run.step(tell_password, backend, vm_id, password_hash):
                await run.step(keep_password, backend, vm_id, password_hash)
                notes = {**notes, "password": resources.AT_NEXT_START}
            outcome.records(lambda session: _note(session, run.job_id, notes))
    await run.step(settle, backend, vm_id)


def change(backend: Backend, vm_id: int, changes: dict[str, Any]) -> bool:
    """Record the changes; returns whether the running guest has to be started anew for them."""
    with backend.store.writing() as session:
        vm = session.get_one(Vm, vm_id)
        for key, value in changes.items():
            setattr(vm, key, value)
    if changes.get("console") is False:
        backend.consoles.switch_off(vm.uuid)
    if "vm_max_memory" not in changes:
        return False
    connection = backend.handle(vm.datacenter_id)
    return (
        power.state(connection, vm.uuid).powered
        and power.read_live(connection, vm.uuid).max_memory != vm.vm_max_memory
    )


def adapt(backend: Backend, vm_id: int) -> dict[str, str]:
    """Define the domain as the records have it and change the running one; returns what has to wait."""
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        if power.state(connection, vm.uuid) is State.ABSENT:
            return {}
        power.define(connection, blueprint.domain(backend, session, vm))
    return resources.adapt(connection, vm.uuid, memory=vm.memory, vcpus=vm.cores)


def tell_password(backend: Backend, vm_id: int, password_hash: str) -> bool:
    """Set root's password, and that of the login, in the running guest; False when it has no agent to do
    it."""
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
    users = ["root", *([vm.seed["login"]] if vm.seed.get("login") else [])]
    return resources.set_passwords(backend.handle(vm.datacenter_id), vm.uuid, users, password_hash)


def keep_password(backend: Backend, vm_id: int, password_hash: str) -> None:
    """Let the guest learn the password at its next start."""
    with backend.store.writing() as session:
        vm = session.get_one(Vm, vm_id)
        if vm.seed.get("password_hash") != password_hash:
            vm.seed = {**vm.seed, "password_hash": password_hash, "run": None, "script": None}
            vm.seed_version += 1


def _note(session: Session, job_id: int, notes: dict[str, str]) -> None:
    for operation in session.scalars(select(Operation).where(Operation.job_id == job_id)):
        operation.params = {**operation.params, **({"applied": notes} if notes else {})}
