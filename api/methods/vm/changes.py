"""``hosting.vm.update``."""

from typing import Any

from api.methods import operation
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import VmId
from api.methods.lookup import coming_state, own
from api.methods.quota import check_growth
from api.methods.table import method
from api.methods.vm.creation import check_resources, hashed
from api.methods.vm.parameters import VMUpdate
from api.operations.jobs import Planned
from api.store.models import Vm


@method("hosting.vm.update", "struct")
def update(call: Call, vm_id: VmId, update_spec: VMUpdate) -> Struct:
    """Change a virtual machine: memory live up to `vm_max_memory`, more cores live, fewer at the next start.

    A new `vm_max_memory`, or more memory than it, restarts a running VM. The password is set by the guest
    agent
    when one answers, else at the next start. Returns a vm_update operation, whose params say what has to
    wait.
    """
    with call.store.writing() as session:
        vm = own(session, call, Vm, vm_id)
        state = coming_state(session, vm)
        if state not in ("running", "halted", "paused"):
            raise refuse(Object.VM, Cause.STATE, f"vm#{vm.id} is {state}: it cannot be changed", "vm_id")
        given = update_spec.model_dump(exclude_none=True)
        if not given:
            raise refuse(Object.VM, Cause.NOTHING_TO_UPDATE, "there is nothing to update", "update_spec")
        password = given.pop("password", None)
        given.pop("shares", None)
        changes = _with_ceiling(vm, given)
        check_resources(call, changes.get("cores", vm.cores), changes.get("vm_max_memory", vm.vm_max_memory))
        check_growth(
            session,
            call,
            vm,
            cores=changes.get("cores", vm.cores),
            memory=changes.get("vm_max_memory", vm.vm_max_memory),
        )
        return operation.accept(
            session,
            call,
            Planned("vm_update", vm_id=vm.id, eta=2),
            changes=changes,
            password_hash=None if password is None else hashed(password),
        )


def _with_ceiling(vm: Vm, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, with a ceiling that holds the memory; one that stays as it is is left out."""
    memory = changes.get("memory", vm.memory)
    ceiling = max(memory, changes.pop("vm_max_memory", vm.vm_max_memory))
    return changes if ceiling == vm.vm_max_memory else {**changes, "vm_max_memory": ceiling}
