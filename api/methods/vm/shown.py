"""How a virtual machine is shown (the reference's VMReturn)."""

from api.methods import disk as disks
from api.methods import iface as ifaces
from api.methods.call import Call, Struct
from api.methods.graph.pages import urls
from api.methods.vm import triggers
from api.methods.vm.probes import probes
from api.store.models import Vm

# what QEMU does; nothing runs one that is off
_HVM_STATES = {"running": "running", "paused": "paused", "locked": "paused"}


def brief(call: Call, vm: Vm) -> Struct:
    """An item of ``hosting.vm.list``."""
    return {
        "ai_active": 0,
        "console": int(vm.console),
        "cores": vm.cores,
        "datacenter_id": vm.datacenter_id,
        "date_created": vm.date_created,
        "date_updated": vm.date_updated,
        "description": vm.description,
        "disks_id": [disk.id for disk in vm.disks],
        "entity_id": call.account.handle,
        "farm": vm.farm,
        "flex_shares": 0,
        "hostname": vm.hostname,
        "id": vm.id,
        "ifaces_id": [iface.id for iface in vm.ifaces],
        "is_migrating": vm.is_migrating,
        "memory": vm.memory,
        "state": vm.state,
        "vm_max_memory": vm.vm_max_memory,
    }


def full(call: Call, vm: Vm) -> Struct:
    """The answer of ``hosting.vm.info``."""
    return {
        **brief(call, vm),
        "console_url": call.services.console_url,
        "disks": [disks.show(call, disk) for disk in vm.disks],
        "graph_urls": urls(call.services.links, vm, call.root),
        "hvm_state": _HVM_STATES.get(vm.state, "unknown"),
        "ifaces": [ifaces.show(iface) for iface in vm.ifaces],
        "probes": probes(call, vm),
        "triggers": [triggers.show(trigger) for trigger in vm.triggers],
    }
