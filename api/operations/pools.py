"""What room there is in the storage pools, for those who must not wait for libvirt."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy import select

from api.store.database import Store
from api.store.models import Datacenter
from hypervisor.connection import Connection
from hypervisor.errors import HypervisorError
from hypervisor.storage import pool
from hypervisor.storage.pool import Room

log = logging.getLogger(__name__)

_EVERY = 60.0  # seconds between two looks, when nobody asks
_STOP_PATIENCE = 5.0  # seconds

Rooms = Callable[[str], Room]


class Pools:
    """The room in each datacenter's pool, as it was at the last look; whoever asks causes the next one."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._rooms: dict[str, Room] = {}
        self._asked = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="pools", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending = True
        self._asked.set()
        # one that is stuck in libvirt is left there
        self._thread.join(_STOP_PATIENCE)

    def __call__(self, name: str) -> Room:
        """The room in the pool `name`, at most a minute ago; none in one that was never seen."""
        self._asked.set()
        return self._rooms.get(name, Room(active=False, free=0))

    def _run(self) -> None:
        while not self._ending:
            try:
                self._look()
            except HypervisorError as error:
                log.warning("storage pools: %s", error)
            except Exception:
                log.exception("the storage pools were not looked at; they are in a minute")
            self._asked.wait(_EVERY)
            self._asked.clear()

    def _look(self) -> None:
        with self._store.reading() as session:
            names = list(session.scalars(select(Datacenter.pool)))
        connection = self._connection.handle()
        self._rooms = {name: pool.room(connection, name) for name in names}
