"""What an account may have: the fault of a call that asks for more."""

from sqlalchemy.orm import Session

from api.methods.call import Call
from api.methods.faults import Cause, Object, refuse
from api.operations import quota
from api.operations.quota import LimitReached
from api.store.models import Disk, Vm


def check(session: Session, call: Call, **asked: int) -> None:
    """Refuse what is `asked` of some kinds beside what the account has: see `api.operations.quota.reserve`.

    To be called in the transaction that records the objects, before they are recorded.
    """
    try:
        quota.reserve(session, call.account.id, call.limits.account, **asked)
    except LimitReached as reached:
        raise refuse(Object.HOSTING_ACCOUNT, Cause.QUOTA_REACHED, str(reached), reached.kind) from None


def check_growth(session: Session, call: Call, record: Vm | Disk, **sizes: int) -> None:
    """Refuse a VM or a disk of new `sizes` when the account may not have what it takes more."""
    check(session, call, **quota.growth(session, record, **sizes))
