"""What the log and the metrics tell of the work on operations, from their acceptance to their end."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import Session

from api.observe import context, meters
from api.store.models import Operation, now
from hypervisor.timing import Attempt

log = logging.getLogger(__name__)

# what libvirt needs less time for, in seconds, is counted but makes no line
_WORTH_A_LINE = 0.01
# seconds since the recorded start of an operation that did not begin just now: dates are whole seconds
_AGO = 2
# a look for something that may be absent
_EXPECTED = ("NoDomain", "NoVolume")


class Story:
    """The operation that a job is at; its lines carry the ids of that one."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def begins(self, operation: Operation) -> None:
        """From now on the job's lines are about `operation`, which may have begun before a restart."""
        context.note(**{"operation": None, "vm": None, "disk": None, "iface": None, **_ids(operation)})
        before = (now() - operation.date_start).total_seconds() if operation.date_start else 0.0
        resumed = before >= _AGO
        self._begun = time.monotonic() - (before if resumed else 0.0)
        log.info("%s %s", operation.type, "goes on" if resumed else "begins")

    def is_done(self, kind: str) -> None:
        """The operation of type `kind` is DONE."""
        elapsed = time.monotonic() - self._begun
        meters.OPERATIONS_ENDED.labels(kind, "DONE").inc()
        meters.OPERATION_SECONDS.labels(kind).observe(elapsed)
        log.info("%s is DONE after %.3f s", kind, elapsed)


def accepted_after(session: Session, operations: Iterable[Operation]) -> None:
    """Tell of new operations once `session` has committed."""
    _tell_after(session, operations, _count_accepted, "is accepted")


def cancelled_after(session: Session, operations: Iterable[Operation]) -> None:
    """Tell of operations that are CANCEL once `session` has committed."""
    _tell_after(session, operations, _count_cancelled, "is CANCEL, before it began")


def failed(operations: Iterable[Operation]) -> None:
    """Tell of operations that ended without being done."""
    for one in operations:
        meters.OPERATIONS_ENDED.labels(one.type, one.step).inc()
        with context.bound(**_ids(one)):
            if one.last_error is None:
                log.info("%s is %s", one.type, one.step)
            else:
                log.warning("%s is %s: %s", one.type, one.step, one.last_error)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Tell how long the durable step in the block took."""
    begun, word = time.perf_counter(), "failed after"
    try:
        yield
        word = "took"
    finally:
        elapsed = time.perf_counter() - begun
        meters.STEPS.labels(name).observe(elapsed)
        log.info("step %s %s %.3f s", name, word, elapsed)


def heard(attempt: Attempt) -> None:
    """Count what was asked of libvirt; within an operation, tell what took it time or failed."""
    meters.LIBVIRT_SECONDS.labels(attempt.area).observe(attempt.seconds)
    if attempt.failure is not None:
        meters.LIBVIRT_ERRORS.labels(attempt.area, attempt.failure).inc()
    if (attempt.seconds < _WORTH_A_LINE and attempt.failure is None) or attempt.failure in _EXPECTED:
        return
    if "operation" in context.facts():
        failure = "" if attempt.failure is None else f" and failed ({attempt.failure})"
        log.info("libvirt, %s: took %.3f s%s", attempt.text, attempt.seconds, failure)


def _ids(operation: Operation) -> dict[str, int]:
    ids = {
        "operation": operation.id,
        "job": operation.job_id,
        "vm": operation.vm_id,
        "disk": operation.disk_id,
        "iface": operation.iface_id,
    }
    return {name: number for name, number in ids.items() if number is not None}


def _count_accepted(kind: str) -> None:
    meters.OPERATIONS_ACCEPTED.labels(kind).inc()


def _count_cancelled(kind: str) -> None:
    meters.OPERATIONS_ENDED.labels(kind, "CANCEL").inc()


def _tell_after(
    session: Session, operations: Iterable[Operation], count: Callable[[str], None], what: str
) -> None:
    # taken now: after the commit there is no transaction to read them in
    told = [(one.type, _ids(one)) for one in operations]

    def tell(_session: Session) -> None:
        for kind, ids in told:
            count(kind)
            with context.bound(**ids):
                log.info("%s %s", kind, what)

    event.listen(session, "after_commit", tell, once=True)
