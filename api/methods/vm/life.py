"""``hosting.vm.start``, ``stop``, ``reboot`` and ``delete``."""

from api.methods import operation
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import VmId
from api.methods.lookup import coming_state, own
from api.methods.table import method
from api.methods.vm.creation import told_to_guest
from api.methods.vm.parameters import VMStart
from api.operations.jobs import Planned
from api.store.models import Vm


@method("hosting.vm.start", "struct")
def start(call: Call, vm_id: VmId, params: VMStart | None = None) -> Struct:
    """Start a virtual machine; `params` are handed to the guest as at a first boot. Returns a vm_start
    operation."""
    with call.store.writing() as session:
        vm = own(session, call, Vm, vm_id)
        state = coming_state(session, vm)
        if state == "running":
            raise refuse(Object.VM, Cause.RUNNING, f"vm#{vm.id} is running", "vm_id")
        if state not in ("halted", "paused"):
            raise _wrong_state(vm, state, "started")
        if not any(disk.position == 0 for disk in vm.disks):
            raise refuse(
                Object.VM, Cause.NO_DISK, f"vm#{vm.id} has no system disk: attach one at position 0", "vm_id"
            )
        if params is not None and params.model_fields_set:
            told = told_to_guest(session, call, params)
            vm.seed = {key: value or vm.seed.get(key) for key, value in told.items()}
            # what runs at a first boot does so again only when it is asked for again
            for once in ("run", "script", "script_args"):
                vm.seed[once] = told[once]
            vm.seed_version += 1
            vm.farm = params.farm or vm.farm
        return operation.accept(session, call, Planned("vm_start", vm_id=vm.id, eta=2), *_devices(vm))


@method("hosting.vm.stop", "struct")
def stop(call: Call, vm_id: VmId) -> Struct:
    """Stop a virtual machine. A stop message is sent, and a second one; after 5 minutes the power is cut.

    Returns a vm_stop operation.
    """
    return _switch(call, vm_id, "vm_stop", "stopped", eta=10)


@method("hosting.vm.reboot", "struct")
def reboot(call: Call, vm_id: VmId) -> Struct:
    """Reboot a virtual machine. A reboot message is sent; after 2 minutes without effect the machine is
    reset.

    Returns a vm_reboot operation.
    """
    return _switch(call, vm_id, "vm_reboot", "rebooted", eta=10)


@method("hosting.vm.delete", "struct")
def delete(call: Call, vm_id: VmId) -> Struct:
    """Delete a virtual machine with the disk at position 0 and its first interface; the others are detached.

    It must be halted. Returns a vm_delete operation.
    """
    with call.store.writing() as session:
        vm = own(session, call, Vm, vm_id)
        state = coming_state(session, vm)
        if state == "running":
            raise refuse(Object.VM, Cause.RUNNING, f"vm#{vm.id} is running: stop it first", "vm_id")
        if state != "halted":
            raise _wrong_state(vm, state, "deleted")
        return operation.accept(
            session,
            call,
            Planned("vm_delete", vm_id=vm.id, eta=2),
            *_devices(vm),
        )


def _switch(call: Call, vm_id: int, workflow: str, done: str, eta: int) -> Struct:
    with call.store.writing() as session:
        vm = own(session, call, Vm, vm_id)
        state = coming_state(session, vm)
        if state not in ("running", "paused"):
            raise _wrong_state(vm, state, done)
        return operation.accept(session, call, Planned(workflow, vm_id=vm.id, eta=eta), *_devices(vm))


def _wrong_state(vm: Vm, state: str, done: str) -> Exception:
    return refuse(Object.VM, Cause.STATE, f"vm#{vm.id} is {state}: it cannot be {done}", "vm_id")


def _devices(vm: Vm) -> list[str]:
    return [*(f"disk:{disk.id}" for disk in vm.disks), *(f"iface:{iface.id}" for iface in vm.ifaces)]
