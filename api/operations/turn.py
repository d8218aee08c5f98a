"""What may have changed between an operation's acceptance and its turn: what was free may be attached."""

from typing import TypeVar

from api.operations.backend import Backend
from api.operations.run import OperationFailed
from api.store.models import Disk, Iface

T = TypeVar("T", Disk, Iface)


def check_free(backend: Backend, model: type[T], identifier: int) -> None:
    """Refuse to go on with a disk or an interface that a VM has now; raises `OperationFailed`."""
    with backend.store.reading() as session:
        record = session.get(model, identifier)
    if record is not None and record.vm_id is not None:
        raise OperationFailed(
            f"{record.__tablename__}#{record.id} was attached to vm#{record.vm_id} meanwhile: "
            "detach it, then ask again"
        )
