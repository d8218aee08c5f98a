"""The probes of a virtual machine (the reference's ProbeReturn): what of it is measured."""

from datetime import datetime

from api.methods.call import Call, Struct
from api.operations.triggers import raised
from api.store.models import Vm


def probes(call: Call, vm: Vm) -> list[Struct]:
    """One probe of the processors and one of each disk and interface.

    It is active when it has fresh samples, and in alert when a trigger that watches its device is raised.
    """
    statistics = call.services.statistics
    fresh = statistics.fresh(vm.id)
    alerts = {(one.device_type, one.device_number) for one in raised(vm, statistics, statistics.now())}

    def probe(
        kind: int,
        device: tuple[str, int | None],
        metric: str,
        identifier: int,
        name: str,
        made: datetime,
    ) -> Struct:
        measured = any(one == metric and (kind == 0 or item == identifier) for one, item in fresh)
        return {
            "datasource": metric,
            "date_created": made,
            "device_type": device[0],
            # ids are counted up from 1 for each kind of object: a quarter of the wire's integers is enough
            "id": identifier * 4 + kind,
            "name": name,
            "status": "alert" if device in alerts else "active" if measured else "inactive",
        }

    return [
        probe(0, ("cpu", 0), "vcpu.time", vm.id, "cpu", vm.date_created),
        *(
            probe(1, ("disk", one.position), "vbd.bytes", one.id, f"disk-{one.id}", one.date_created)
            for one in vm.disks
        ),
        *(
            probe(2, ("iface", one.num), "vif.bytes", one.id, f"iface-{one.id}", one.date_created)
            for one in vm.ifaces
        ),
    ]
