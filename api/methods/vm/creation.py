"""``hosting.vm.create`` and ``hosting.vm.create_from``."""

import time
import uuid
from typing import Any

from passlib.hash import sha512_crypt
from sqlalchemy.orm import Session

from api.methods import operation, quota
from api.methods.call import Call, Struct
from api.methods.disk import DiskFromSpec, make_record
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import DiskId
from api.methods.lookup import open_datacenter, own, source_disk
from api.methods.table import method
from api.methods.vm.parameters import BootParameters, VMCreateFromDescription, VMDescription
from api.operations.addresses import give, given
from api.operations.jobs import Planned
from api.store.models import Datacenter, Disk, Iface, SshKey, Vm

# crypt(3)'s own default: the hash goes to one guest, and the call must answer in milliseconds
_PASSWORD = sha512_crypt.using(rounds=5000)
_LEAST_MAX_MEMORY = 2048  # MiB


@method("hosting.vm.create", "array")
def create(call: Call, vm_spec: VMDescription) -> list[Struct]:
    """Create a virtual machine with an existing system disk; disk, interface and VM are in one datacenter.

    Returns the operations iface_create, if an interface is created, and vm_create.
    """
    with call.store.writing() as session:
        datacenter = open_datacenter(session, vm_spec.datacenter_id)
        disk = own(session, call, Disk, vm_spec.sys_disk_id)
        if disk.vm_id is not None:
            raise refuse(
                Object.DISK, Cause.ATTACHED, f"disk#{disk.id} is attached to vm#{disk.vm_id}", "sys_disk_id"
            )
        if disk.datacenter_id != datacenter.id:
            raise _elsewhere(Object.DISK, "disk", disk.id, datacenter, "sys_disk_id")
        vm = _record(session, call, vm_spec)
        return _submit(
            session, call, vm_spec, vm, disk, datacenter, new_disk=None, claims=[f"disk:{disk.id}"]
        )


@method("hosting.vm.create_from", "array")
def create_from(
    call: Call, vm_spec: VMCreateFromDescription, disk_spec: DiskFromSpec, src_disk_id: DiskId
) -> list[Struct]:
    """Create a disk from another one, or from an image's, and a virtual machine on it.

    Returns the operations disk_create, iface_create (unless `iface_id` was given) and vm_create.
    """
    with call.store.writing() as session:
        datacenter = open_datacenter(session, vm_spec.datacenter_id)
        source = source_disk(session, call, src_disk_id)
        if source.datacenter_id != datacenter.id:
            raise _elsewhere(Object.DISK, "disk", source.id, datacenter, "src_disk_id")
        if disk_spec.datacenter_id not in (None, datacenter.id):
            raise refuse(
                Object.DISK,
                Cause.DATACENTER,
                "the disk is asked for in another datacenter",
                "disk_spec",
                "datacenter_id",
            )
        vm = _record(session, call, vm_spec)
        disk = make_record(
            session, call, disk_spec, datacenter, source, default_name=f"sys_{vm.hostname}"[:255]
        )
        claims = [f"disk:{disk.id}"]
        if source.account_id is not None:
            claims.append(f"disk:{source.id}")
        return _submit(session, call, vm_spec, vm, disk, datacenter, new_disk=disk.id, claims=claims)


def _submit(
    session: Session,
    call: Call,
    spec: VMCreateFromDescription,
    vm: Vm,
    disk: Disk,
    datacenter: Datacenter,
    *,
    new_disk: int | None,
    claims: list[str],
) -> list[Struct]:
    disk.vm_id, disk.position = vm.id, 0
    iface, planned_iface = _interface(session, call, spec, vm, datacenter)
    planned = [Planned("vm_create", vm_id=vm.id, eta=5, params={"disk_id": disk.id, "iface_id": iface.id})]
    if planned_iface is not None:
        planned.insert(0, planned_iface)
    if new_disk is not None:
        planned.insert(0, Planned("disk_create", disk_id=new_disk, params={"src_disk_id": disk.source_id}))
    new_iface = None if planned_iface is None else iface.id
    arguments = {"vm_id": vm.id, "disk_id": new_disk, "iface_id": new_iface}
    operations = call.submit(
        session, "vm_create", arguments, planned, [f"vm:{vm.id}", f"iface:{iface.id}", *claims]
    )
    return [operation.show(one) for one in operations]


def _record(session: Session, call: Call, spec: VMCreateFromDescription) -> Vm:
    most = max(spec.memory, spec.vm_max_memory or max(_LEAST_MAX_MEMORY, spec.memory))
    check_resources(call, spec.cores, most)
    quota.check(session, call, vms=1, cores=spec.cores, memory=most)
    vm = Vm(
        account_id=call.account.id,
        datacenter_id=spec.datacenter_id,
        uuid=str(uuid.uuid4()),
        hostname=spec.hostname or f"vm{int(time.time())}",
        cores=spec.cores,
        memory=spec.memory,
        vm_max_memory=most,
        farm=spec.farm,
        seed=told_to_guest(session, call, spec),
    )
    session.add(vm)
    session.flush()
    return vm


def check_resources(call: Call, cores: int, memory: int) -> None:
    """Refuse more cores or memory (MiB) than the host's limits."""
    for asked, most, field in ((cores, call.limits.cores, "cores"), (memory, call.limits.memory, "memory")):
        if asked > most:
            raise refuse(
                Object.VM,
                Cause.BADPARAMETER,
                f"{field} {asked} is more than the host's limit of {most}",
                field,
            )


def hashed(password: str) -> str:
    """The password as a guest keeps it: a crypt(3) string."""
    return str(_PASSWORD.hash(password))


def told_to_guest(session: Session, call: Call, spec: BootParameters) -> dict[str, Any]:
    """What the guest is told at its first boot; the password as the guest keeps it, never as it was given."""
    stored = [own(session, call, SshKey, key).value for key in spec.keys]
    return {
        "login": spec.login,
        "password_hash": None if spec.password is None else hashed(spec.password),
        "ssh_keys": [*stored, *spec.ssh_key],
        "run": spec.run,
        "script": spec.script,
        "script_args": spec.script_args,
    }


def _interface(
    session: Session, call: Call, spec: VMCreateFromDescription, vm: Vm, datacenter: Datacenter
) -> tuple[Iface, Planned | None]:
    if spec.iface_id is None:
        iface = Iface(
            account_id=call.account.id,
            datacenter_id=datacenter.id,
            bandwidth=spec.bandwidth,
            vm_id=vm.id,
            num=0,
        )
        quota.check(session, call, addresses=given(spec.ip_version))
        ips = give(session, iface, datacenter, spec.ip_version)
        return iface, Planned("iface_create", iface_id=iface.id, ip_id=ips[0].id)
    iface = own(session, call, Iface, spec.iface_id)
    if iface.vm_id is not None:
        raise refuse(
            Object.IFACE, Cause.ATTACHED, f"iface#{iface.id} is attached to vm#{iface.vm_id}", "iface_id"
        )
    if iface.datacenter_id != datacenter.id:
        raise _elsewhere(Object.IFACE, "iface", iface.id, datacenter, "iface_id")
    iface.vm_id, iface.num, iface.state = vm.id, 0, "used"
    session.flush()
    return iface, None


def _elsewhere(subject: Object, kind: str, identifier: int, datacenter: Datacenter, field: str) -> Exception:
    return refuse(
        subject,
        Cause.DATACENTER,
        f"{kind}#{identifier} is not in datacenter {datacenter.dc_code} ({field})",
        field,
    )
