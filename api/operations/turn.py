"""What may have changed between an operation's acceptance and its turn: what was free may be attached."""

from api.operations.backend import Backend
from api.operations.run import OperationFailed
from api.store.models import Disk, Iface


def check_free_disk(backend: Backend, disk_id: int) -> None:
    """Refuse to go on with a disk that a VM has now; raises `OperationFailed`."""
    with backend.store.reading() as session:
        disk = session.get(Disk, disk_id)
        if disk is not None:
            check_free(disk)


def check_free_iface(backend: Backend, iface_id: int) -> None:
    """Refuse to go on with an interface that a VM has now; raises `OperationFailed`."""
    with backend.store.reading() as session:
        iface = session.get(Iface, iface_id)
        if iface is not None:
            check_free(iface)


def check_free(record: Disk | Iface) -> None:
    """Refuse to go on with what a VM has now; raises `OperationFailed`."""
    if record.vm_id is not None:
        raise OperationFailed(
            f"{record.__tablename__}#{record.id} was attached to vm#{record.vm_id} meanwhile: "
            "detach it, then ask again"
        )
