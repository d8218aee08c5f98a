"""The probes of a virtual machine (the reference's ProbeReturn): what of it is measured."""

from datetime import datetime

from api.methods.call import Call, Struct
from api.store.models import Vm


def probes(call: Call, vm: Vm) -> list[Struct]:
    """One probe of the processors and one of each disk and interface, active when it has fresh samples."""
    fresh = call.services.statistics.fresh(vm.id)

    def probe(kind: int, device_type: str, metric: str, identifier: int, name: str, made: datetime) -> Struct:
        measured = any(one == metric and (kind == 0 or item == identifier) for one, item in fresh)
        return {
            "datasource": metric,
            "date_created": made,
            "device_type": device_type,
            # ids are counted up from 1 for each kind of object: a quarter of the wire's integers is enough
            "id": identifier * 4 + kind,
            "name": name,
            "status": "active" if measured else "inactive",
        }

    return [
        probe(0, "cpu", "vcpu.time", vm.id, "cpu", vm.date_created),
        *(probe(1, "disk", "vbd.bytes", one.id, f"disk-{one.id}", one.date_created) for one in vm.disks),
        *(probe(2, "iface", "vif.bytes", one.id, f"iface-{one.id}", one.date_created) for one in vm.ifaces),
    ]
