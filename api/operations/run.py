"""One job's execution: its durable steps, and the steps of its operations that a client sees."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from dbos import DBOS
from sqlalchemy import Select, delete, select, update
from sqlalchemy.exc import NoResultFound, OperationalError
from sqlalchemy.orm import Session

from api.operations import story
from api.operations.backend import Backend
from api.operations.story import Story
from api.store.database import Store, is_out_of_reach
from api.store.models import Claim, Job, Operation, now
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Busy, Unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

UNFINISHED = ("BILL", "WAIT", "RUN")

# what a job that has begun can be told
FINALIZE, CANCEL = "finalize", "cancel"

# in seconds, between attempts at what cannot be taken back any more: doubled after each
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# in seconds, between attempts to write into a database that takes nothing, as when its disk is full
_FIRST_WRITE_PAUSE, _LONGEST_WRITE_PAUSE = 0.5, 5.0
# of a step in whose middle the connection to libvirt breaks each time
_ATTEMPTS = 3
# libvirt's return is an event; the longest time, in seconds, until it is looked for all the same
_RETRY = 60.0


class OperationFailed(Exception):
    """An operation cannot be done; the text tells the caller why, and what to do."""


class Cancelled(Exception):
    """The operation is taken back, as its caller asked."""


def _broke(error: Unavailable) -> bool:
    """Whether a connection that was there broke; else one was waited for in vain."""
    return error.__cause__ is not None


async def keep(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function`, which reads or writes the records, in a thread; again, until the database takes it.

    What was accepted must not fail because the disk of the records is full for a while.
    """
    return await asyncio.to_thread(lambda: _persist(function, *args, **kwargs))


def _persist(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    pause = _FIRST_WRITE_PAUSE
    while True:
        try:
            return function(*args, **kwargs)
        except OperationalError as error:
            if not is_out_of_reach(error):
                raise
            log.warning("the records cannot be used, which is tried again: %s", error.orig)
        # nobody tells when there is space again
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_WRITE_PAUSE)


def _repeated(function: Callable[P, T]) -> Callable[P, T]:
    """As `_persist`, and again when the connection to libvirt breaks meanwhile: what was asked for may have
    been done, and its result is needed."""

    def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return _persist(function, *args, **kwargs)
            except Unavailable as error:
                if not _broke(error):
                    raise
                log.warning("done again: %s", error)
        return _persist(function, *args, **kwargs)

    return attempt


class Run:
    """The execution of the job `job_id`. It may be the second one, when the service ended during the
    first."""

    def __init__(self, backend: Backend, job_id: int) -> None:
        self.backend = backend
        self.job_id = job_id
        # rung when the job is told something
        self.bell = asyncio.Event()
        self.story = Story()

    async def step(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread and keep its result for good.

        When the service ends in the middle of it, or the connection to libvirt breaks, it runs again: it must
        be idempotent. When the service ends later, it does not run again.
        """
        name = function.__qualname__
        again = _told(name, _repeated(function))
        return await DBOS.run_step_async({"name": name}, again, *args, **kwargs)

    @asynccontextmanager
    async def beside(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Awaitable[T]]:
        """Run a step while the block does something else; the block awaits its result.

        When the block is left the step has ended, so that what it did can be undone.
        """
        # its number is drawn here: a second execution must find it under the same one
        step, name = DBOS.reserve_step(), function.__qualname__
        again = _told(name, _repeated(function))
        task = asyncio.ensure_future(step.run_async({"name": name}, again, *args, **kwargs))
        try:
            yield task
        finally:
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # the block's own error may have come before

    async def wait(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `step`, for a coroutine that waits without holding a thread.

        It begins again when the connection to libvirt breaks: guests are waited for longer than libvirtd
        takes to come back.
        """

        name = function.__qualname__

        async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
            with story.step(name):
                try:
                    return await function(*args, **kwargs)
                except Unavailable as error:
                    if not _broke(error):
                        raise
                    return await function(*args, **kwargs)

        return await DBOS.run_step_async({"name": name}, attempt, *args, **kwargs)

    async def insist(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `step`, for what cannot be taken back any more: repeated until it succeeds.

        What stands in its way is shown in the operation's params, as `waits_for`.
        """

        name = function.__qualname__

        async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
            pause = _FIRST_PAUSE
            with self.backend.events.watching("") as watch:
                while True:
                    try:
                        with story.step(name):
                            found = await keep(function, *args, **kwargs)
                    except (HypervisorError, OperationFailed) as error:
                        log.warning("job %d waits: %s", self.job_id, error)
                        await self.note(waits_for=str(error))
                        await watch.next(pause)
                        pause = min(pause * 2, _LONGEST_PAUSE)
                    else:
                        if pause > _FIRST_PAUSE:
                            await self.note(waits_for=None)
                        return found

        return await DBOS.run_step_async({"name": name}, attempt, *args, **kwargs)

    async def note(self, **facts: Any) -> None:
        """Show `facts` in the params of the job's running operation; None takes one away."""
        await keep(_note, self.backend.store, self.job_id, facts)

    async def heed(self, *, finalize: bool) -> bool:
        """Whether the job is to be finished, be it that it was told so, be it that `finalize` says so: from
        then on it cannot be cancelled. Raises `Cancelled`."""
        self.bell.clear()
        told = await keep(_decide, self.backend.store, self.job_id, finalize)
        if told == CANCEL:
            raise Cancelled
        return told == FINALIZE

    @asynccontextmanager
    async def undone_by(
        self, undo: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[None]:
        """When the block fails, take back what it did with `undo`, then end the job's operations in ERROR.

        Without libvirt nothing can be taken back, nor with one that does not let go of the object: the
        operations end then, and `undo` is repeated until it succeeds.
        """
        try:
            yield
        except Exception as error:
            with self.backend.events.watching("") as watch:
                while True:
                    try:
                        await self.step(undo, *args, **kwargs)
                        break
                    except (Busy, Unavailable) as obstacle:
                        log.warning("job %d is not undone yet: %s", self.job_id, obstacle)
                        await keep(fail_job, self.backend.store, self.job_id, error)
                        await watch.next(_RETRY)
            await keep(fail_job, self.backend.store, self.job_id, error)

    @asynccontextmanager
    async def operation(self, kind: str) -> AsyncIterator["Outcome"]:
        """Show the job's operation of type `kind` as DONE after the block, and the next one as RUN.

        The job's first one was shown as RUN when the job began. What the block registers with the `Outcome`
        is recorded together with DONE, so that a client that sees the one sees the other.
        """
        outcome = Outcome()
        yield outcome
        ended, following = await keep(_finish, self.backend.store, self.job_id, kind, outcome)
        if ended:
            self.story.is_done(kind)
        if following is not None:
            self.story.begins(following)


@dataclass
class Outcome:
    """What becomes true in the records when an operation is done."""

    record: Callable[[Session], None] | None = None

    def records(self, change: Callable[[Session], None]) -> None:
        """Apply `change` in the transaction that marks the operation DONE."""
        self.record = change


def _told(name: str, function: Callable[P, T]) -> Callable[P, T]:
    def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        with story.step(name):
            return function(*args, **kwargs)

    return attempt


def _running(job_id: int) -> Select[Operation]:
    return select(Operation).where(Operation.job_id == job_id, Operation.step == "RUN")


def _note(store: Store, job_id: int, facts: dict[str, Any]) -> None:
    with store.writing() as session:
        for operation in session.scalars(_running(job_id)):
            noted = {**operation.params, **facts}
            operation.params = {key: value for key, value in noted.items() if value is not None}


def _decide(store: Store, job_id: int, finalize: bool) -> str | None:
    with store.writing() if finalize else store.reading() as session:
        job = session.get_one(Job, job_id)
        if finalize and job.told is None:
            job.told = FINALIZE
        return job.told


def _begin_next(session: Session, job_id: int) -> Operation | None:
    """Show the first of the job's waiting operations as RUN; returns it."""
    waiting = select(Operation).where(Operation.job_id == job_id, Operation.step == "WAIT")
    first = session.scalar(waiting.order_by(Operation.id).limit(1))
    if first is not None:
        first.step = "RUN"
        first.date_start = first.date_updated = now()
    return first


def _finish(store: Store, job_id: int, kind: str, outcome: Outcome) -> tuple[bool, Operation | None]:
    """Whether it was not done yet, and the operation that begins then."""
    this = (Operation.job_id == job_id, Operation.type == kind, Operation.step == "RUN")
    with store.writing() as session:
        # a second execution of the job finds it done already
        done: Any = session.execute(update(Operation).where(*this).values(step="DONE", date_updated=now()))
        if not done.rowcount:
            return False, None
        if outcome.record is not None:
            outcome.record(session)
        return True, _begin_next(session, job_id)


def begin_job(store: Store, job_id: int) -> tuple[str, dict[str, Any], Operation | None] | None:
    """Take the job up and show its first operation as RUN; returns its workflow and arguments and the
    operation that it is at, or None when it was cancelled before."""
    with store.writing() as session:
        job = session.get_one(Job, job_id)
        waiting = session.scalar(
            select(Operation.id).where(Operation.job_id == job_id, Operation.step.in_(UNFINISHED)).limit(1)
        )
        if waiting is None:
            return None
        if job.started:
            return job.workflow, job.arguments, session.scalar(_running(job_id))
        job.started = True
        return job.workflow, job.arguments, _begin_next(session, job_id)


def fail_job(store: Store, job_id: int, error: Exception) -> None:
    """End what is unfinished of the job in ERROR: the operation that ran with the reason, those after it
    with its id."""
    reason: str | None
    kind: str | None
    if isinstance(error, Cancelled):
        reason, kind = None, None
    elif isinstance(error, HypervisorError | OperationFailed):
        reason, kind = str(error), type(error).__name__
    elif isinstance(error, NoResultFound):
        reason, kind = "what it is about was removed before it could begin", "Removed"
    else:
        log.error("job %d failed", job_id, exc_info=error)
        reason = (
            f"internal error: {type(error).__name__}; the service's log has the details under job {job_id}"
        )
        kind = "InternalError"
    step = "CANCEL" if isinstance(error, Cancelled) else "ERROR"
    with store.writing() as session:
        operations = session.scalars(
            select(Operation)
            .where(Operation.job_id == job_id, Operation.step.in_(UNFINISHED))
            .order_by(Operation.id)
        ).all()
        first = operations[0] if operations else None
        for operation in operations:
            operation.step = step
            operation.errortype = kind
            operation.date_updated = now()
            operation.last_error = reason
            if first is not None and operation is not first and reason is not None:
                operation.last_error = (
                    f"not done, because operation {first.id} ({first.type}) failed: {reason}"
                )
    story.failed(operations)


def release_claims(store: Store, job_id: int) -> list[str]:
    """Let the jobs go on that wait for this one; returns what it had claimed."""
    with store.writing() as session:
        claimed = delete(Claim).where(Claim.job_id == job_id).returning(Claim.resource)
        return list(session.scalars(claimed))
