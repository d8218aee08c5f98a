"""The queue: starts each job when no earlier unfinished one claims what it claims, and resumes what a
crash cut off.

The workflows are DBOS's: their finished steps are kept beside the records, and an interrupted workflow
goes on at the
step it was in. DBOS's own queues poll; here a job is started at the moment when it may run, so an idle
service sleeps.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSConfig, SetWorkflowID
from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from api.observe import context
from api.operations.backend import Backend
from api.operations.notes import Keeper
from api.operations.run import Run, begin_job, fail_job, keep, release_claims
from api.store.models import Claim, Job

log = logging.getLogger(__name__)

Workflow = Callable[..., Coroutine[Any, Any, None]]

_WORKFLOWS: dict[str, Workflow] = {}

# a change of it strands the work that is under way: raise it only together with a migration of that work
_VERSION = "1"
_EXECUTOR = "local"
# steps that wait for libvirt at one time; waits for a guest hold none
_THREADS = 32


def workflow(name: str) -> Callable[[Workflow], Workflow]:
    """Enter a coroutine function ``(run, **arguments)`` as the workflow `name`."""

    def enter(function: Workflow) -> Workflow:
        _WORKFLOWS[name] = function
        return function

    return enter


class Engine:
    """Runs jobs, in an event loop of its own."""

    def __init__(self, backend: Backend, keeper: Keeper, workflows_url: str) -> None:
        self._backend = backend
        self._keeper = keeper
        self._url = workflows_url
        self._loop = asyncio.new_event_loop()
        self._woken = asyncio.Event()
        self._begun: set[int] = set()
        self._running: dict[int, Run] = {}
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run_loop, name="operations", daemon=True)

    def start(self) -> None:
        """Resume what was interrupted and begin to take jobs up."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def runs(self) -> bool:
        """Whether it takes jobs up."""
        return self._ready.is_set() and self._failure is None and self._thread.is_alive()

    def wake(self) -> None:
        """Say that a job was accepted or has ended; callable from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    def tell(self, job_id: int) -> None:
        """Say that a running job was told something; callable from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring, job_id)

    def _ring(self, job_id: int) -> None:
        # one that does not run finds it in the records when it does
        if job_id in self._running:
            self._running[job_id].bell.set()

    def stop(self) -> None:
        """Put work down where it is; the next start goes on with it."""
        self._loop.call_soon_threadsafe(self._cancel_everything)
        self._thread.join()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            self._loop.close()
            self._ready.set()

    def _cancel_everything(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _main(self) -> None:
        config: DBOSConfig = {
            "name": "hypervisor",
            "system_database_url": self._url,
            "system_database_engine": _open(self._url),
            "application_version": _VERSION,
            "executor_id": _EXECUTOR,
            "log_level": "WARNING",
            "max_executor_threads": _THREADS,
            "scheduler_polling_interval_sec": 3600.0,
        }
        DBOS(config=config)

        # an interrupted workflow is resumed as often as it takes: giving up would leave a VM half-made
        @DBOS.workflow(name="job", max_recovery_attempts=None)
        async def job(job_id: int) -> None:
            with context.bound(job=job_id):
                await self._job(job_id)

        self._begun.update(self._interrupted())
        DBOS.launch()
        self._ready.set()
        try:
            while True:
                for job_id in await keep(self._startable):
                    if job_id not in self._begun:
                        self._begun.add(job_id)
                        with SetWorkflowID(f"job-{job_id}"):
                            await DBOS.start_workflow_async(job, job_id)
                await self._woken.wait()
                self._woken.clear()
        except asyncio.CancelledError:
            log.info("operations put down; the next start goes on with them")
        finally:
            await asyncio.to_thread(DBOS.destroy)
            await asyncio.gather(
                *(task for task in asyncio.all_tasks() if task is not asyncio.current_task()),
                return_exceptions=True,
            )

    def _interrupted(self) -> list[int]:
        # DBOS resumes these by itself
        with self._backend.store.reading() as session:
            return list(
                session.scalars(select(Job.id).where(Job.started, exists().where(Claim.job_id == Job.id)))
            )

    def _startable(self) -> list[int]:
        earlier, mine = aliased(Claim), aliased(Claim)
        blocked = (
            select(mine.job_id)
            .join(earlier, earlier.resource == mine.resource)
            .where(mine.job_id == Job.id, earlier.job_id < mine.job_id)
        )
        with self._backend.store.reading() as session:
            return list(
                session.scalars(
                    select(Job.id)
                    .where(exists().where(Claim.job_id == Job.id), ~blocked.exists())
                    .order_by(Job.id)
                )
            )

    async def _job(self, job_id: int) -> None:
        store = self._backend.store
        begun = await keep(begin_job, store, job_id)
        if begun is not None:
            name, arguments, operation = begun
            run = self._running[job_id] = Run(self._backend, job_id)
            if operation is not None:
                run.story.begins(operation)
            try:
                await _WORKFLOWS[name](run, **arguments)
            except Exception as error:
                await keep(fail_job, store, job_id, error)
            finally:
                del self._running[job_id]
        self._keeper.tell(await keep(release_claims, store, job_id))
        self._begun.discard(job_id)
        self.wake()


def _open(url: str) -> sqlalchemy.Engine:
    """The database of the workflows' progress.

    A commit survives the end of the process, not that of the host: then a step or two run again, as they may.
    """
    engine = sqlalchemy.create_engine(url)
    if engine.url.get_backend_name() == "sqlite" and engine.url.database:
        # its owner's alone, one from before this was so too
        file = Path(engine.url.database)
        file.touch(mode=0o600)
        file.chmod(0o600)

    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # as DBOS itself opens SQLite, but for the two that spare it waiting for the disk
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    @sqlalchemy.event.listens_for(engine, "handle_error")
    def wait_for_space(context: Any) -> None:
        # DBOS repeats, for as long as it takes, what ended with the connection; all else ends the workflow
        if isinstance(context.original_exception, sqlite3.OperationalError):
            context.is_disconnect = True

    return engine
